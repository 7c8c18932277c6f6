"""What the page answers first: one sentence made of the verdicts, and how many of each there are.

Counts verdicts that were reached elsewhere; must not decide one.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ray_selfloop.arms import CONTROL, TREATMENT
from ray_selfloop.report.groups import groups
from ray_selfloop.report.view import Claim, ReportView, ScenarioView, Verdict

SUPPORTED, CONTRADICTED, BY_ACCURACY = "supported", "contradicted", "explained by accuracy"
UNDECIDED, NOT_TESTED = "undecided", "not tested"
VERDICTS = (SUPPORTED, CONTRADICTED, BY_ACCURACY, UNDECIDED, NOT_TESTED)
GROWS, SHRINKS = "A > 1", "A < 1"
MOST_REASONS, MOST_PLACES = 2, 3
CUES = "hard-spurious-"  # ids of the claims that a picture without its object loses more
OPPOSITE = {SUPPORTED: CONTRADICTED, CONTRADICTED: SUPPORTED}


@dataclass(frozen=True)
class Answer:
    """lead: one or two words; rest: the sentence after them. kind: as a badge's class."""

    lead: str
    rest: str
    kind: str

    @property
    def text(self) -> str:
        """The whole sentence."""
        return f"{self.lead}: {self.rest}."


def verdict_kind(text: str) -> str:
    """A verdict's badge class: its first words, whatever reason follows."""
    known = {SUPPORTED: "supported", CONTRADICTED: "contradicted", BY_ACCURACY: "accuracy"}
    known |= {GROWS: "amplifies", SHRINKS: "mitigates", NOT_TESTED: "untested"}
    head = text.split(":")[0].strip()
    if "generator not converged" in text:
        return "unconverged"
    return known.get(head, "undecided")


def hypothesis(claims: Iterable[Claim]) -> list[Claim]:
    """The claims that state the introduction's hypothesis: bias amplifies."""
    return [c for c in claims if re.search("hypothesis|introduction", f"{c.family} {c.section}")]


def without_subgroups(view: ReportView) -> frozenset[str]:
    """Groups whose dataset has no subgroups; one that failed to load is not known to have none."""
    mains = ((group.name, group.main) for group in groups(view.scenarios))
    return frozenset(n for n, main in mains if main.class_names and not main.subgroup_names)


def asked(view: ReportView) -> list[Claim]:
    """The hypothesis' claims about groups that have subgroups: elsewhere it has no meaning."""
    without = without_subgroups(view)
    return [c for c in hypothesis(view.claims) if c.scenario_group not in without]


def of_cues(view: ReportView) -> list[Claim]:
    """The claims that reliance on spurious cues falls: bias, where there are no subgroups."""
    without = without_subgroups(view)
    return [c for c in view.claims if c.id.startswith(CUES) and c.scenario_group in without]


def of_classifier(view: ReportView, group: str, classifier: str) -> list[Claim]:
    """The hypothesis' claims about one classifier of one group, those about all included."""
    return [
        c
        for c in hypothesis(view.claims)
        if c.scenario_group == group and c.classifier in ("", classifier)
    ]


def counts(claims: Iterable[Claim]) -> list[tuple[str, int]]:
    """``(verdict, how many)`` in the page's order; verdicts that no claim has are left out."""
    found = Counter(_head(claim.verdict) for claim in claims)
    return [(verdict, found[verdict]) for verdict in VERDICTS if found[verdict]]


def _head(verdict: str) -> str:
    head = verdict.split(":")[0].strip()
    return head if head in VERDICTS else UNDECIDED


def of_treatment(view: ReportView) -> list[Verdict]:
    """Eq. 6 where the question is put: control arms are left out, where there is a treatment."""
    treated = {s.name for s in view.scenarios if s.arm == TREATMENT}
    return [v for v in view.verdicts if v.scenario in treated or not treated]


def answer(view: ReportView) -> Answer:
    """'Does generated data amplify bias here?' in one sentence."""
    claims, laws, cues = asked(view), of_treatment(view), _tested(of_cues(view))
    tested = _tested(claims)
    if not (tested or cues or laws):
        return Answer("No answer yet", _untested(view, claims), "undecided")
    # that reliance on cues falls speaks against the hypothesis
    told = [*tested, *(replace(c, verdict=OPPOSITE.get(c.verdict, c.verdict)) for c in cues)]
    deciding = [] if told else laws  # eq. 6 has no control in it: claims come first
    lead, kind = _lead(told, deciding)
    parts = [
        *_where(view, told, deciding),
        f"over {chains(view.scenarios)}",
        _of_hypothesis(claims),
        cue_sentence(view),
        _of_laws(view, laws),
        _open(told, laws),
    ]
    return Answer(lead, "; ".join(filter(None, parts)), kind)


def _tested(claims: Iterable[Claim]) -> list[Claim]:
    return [c for c in claims if _head(c.verdict) != NOT_TESTED]


def _of_hypothesis(claims: Sequence[Claim]) -> str:
    """In how many tests the hypothesis holds, or why it was not tested; "" without claims."""
    tested = _tested(claims)
    if not tested:
        why = _common(c.reason for c in claims)
        return f"the hypothesis was not tested: {why}" if claims else ""
    held = _heads(tested)
    says = f"the hypothesis is supported in {held[SUPPORTED]} of {len(tested)} tests"
    return ", ".join([says, *(f"{held[v]} {v}" for v in VERDICTS[1:3] if held[v])])


def cue_sentence(view: ReportView) -> str:
    """The verdicts on spurious cues in one sentence; "" where no dataset is asked about them."""
    claims = of_cues(view)
    if not claims:
        return ""
    held = _heads(claims)
    says = f"reliance on spurious cues, claimed to fall: {held[SUPPORTED]} of {len(claims)} claims "
    told = ", ".join(["supported", *(f"{held[v]} {v}" for v in VERDICTS[1:] if held[v])])
    lacking = [c.reason for c in claims if _head(c.verdict) == NOT_TESTED]
    return f"{says}{told}{f' ({_common(lacking)})' if lacking else ''}"


def _of_laws(view: ReportView, laws: Sequence[Verdict]) -> str:
    if not laws:
        return ""
    masked = {s.name for s in view.scenarios if s.dataset == "hard_imagenet"}
    cued = all(v.scenario in masked for v in laws)
    law = "eq. 6, with accuracy without the object as bias," if cued else "eq. 6"
    texts = Counter(v.text for v in laws)
    return (
        f"{law} finds A > 1 in {texts[GROWS]} and A < 1 in {texts[SHRINKS]} of {len(laws)} "
        f"cases (classifier in a scenario){_in_controls(view)}"
    )


def _untested(view: ReportView, claims: Sequence[Claim]) -> str:
    """Why there is no answer, and what the other claims say, where any of them was tested."""
    why = _common(c.reason for c in claims)
    others = [(n, verdict) for verdict, n in counts(view.claims) if verdict != NOT_TESTED]
    unanswered = "the hypothesis was not tested" if claims else "no claim on bias was tested"
    what = unanswered if others else "no claim was tested"
    told = ", ".join(f"{n} {verdict}" for n, verdict in others)
    cues = cue_sentence(view)
    rest = f"{what}{f' ({why})' if why else ''} and no fit was made{f'; {cues}' if cues else ''}"
    return f"{rest}; of the paper's other claims {told}" if others else rest


def _in_controls(view: ReportView) -> str:
    """What eq. 6 finds in the arms `no_synthetic`: what of it is no effect of generated data."""
    controls = {s.name for s in view.scenarios if s.arm == CONTROL}
    found = Counter(v.text for v in view.verdicts if v.scenario in controls)
    if not found:
        return ""
    return f", without generated data in {found[GROWS]} and {found[SHRINKS]} of {found.total()}"


def _where(view: ReportView, claims: Sequence[Claim], laws: Sequence[Verdict]) -> list[str]:
    """Who amplifies where, named up to MOST_PLACES."""
    of_group = {group.name: group.title for group in groups(view.scenarios)}
    of_scenario = {s.name: g.title for g in groups(view.scenarios) for s in g.scenarios}
    places = [(c.classifier or "all classifiers", of_group.get(c.scenario_group, c.scenario_group))
              for c in claims if _head(c.verdict) == SUPPORTED]  # fmt: skip
    places += [(v.classifier, of_scenario.get(v.scenario, v.scenario))
               for v in laws if v.text == GROWS]  # fmt: skip
    named = [f"{classifier} ({where})" for classifier, where in dict.fromkeys(places)]
    more = f" and {len(named) - MOST_PLACES} more" if len(named) > MOST_PLACES else ""
    return [f"bias grows for {', '.join(named[:MOST_PLACES])}{more}"] if named else []


def _heads(claims: Iterable[Claim]) -> Counter[str]:
    return Counter(_head(claim.verdict) for claim in claims)


def _lead(claims: Sequence[Claim], laws: Sequence[Verdict]) -> tuple[str, str]:
    heads, texts = _heads(claims), Counter(v.text for v in laws)
    more, less = heads[SUPPORTED] + texts[GROWS], heads[CONTRADICTED] + texts[SHRINKS]
    decided = more + less + heads[BY_ACCURACY]
    if not decided:
        return "Undecided", "undecided"
    if more and less:
        return "It depends", "accuracy"
    if more:
        whole = more == len(claims) + len(laws)
        return ("Yes" if whole else "In part"), "amplifies"
    if less:
        whole = decided == len(claims) + len(laws)
        return ("No" if whole else "No sign of it"), "mitigates"
    return "Accuracy alone explains what changed", "accuracy"


def chains(scenarios: Sequence[ScenarioView]) -> str:
    """``3 chains per scenario``, ``1 chain``, ``1 to 3 chains per scenario``."""
    found = sorted({len(s.loop_seeds) for s in scenarios}) or [0]
    number = " to ".join(dict.fromkeys((str(found[0]), str(found[-1]))))
    return f"{number} chain{'s' if number != '1' else ''} per scenario"


def _open(claims: Sequence[Claim], laws: Sequence[Verdict]) -> str:
    reasons = [c.reason for c in claims if _head(c.verdict) == UNDECIDED]
    of_laws = [v.text.partition(":")[2] for v in laws if v.text not in (GROWS, SHRINKS)]
    reasons += [why or "A's interval holds 1 or is open" for why in of_laws]
    if not reasons:
        return "nothing remains undecided"
    verb = "verdict remains" if len(reasons) == 1 else "verdicts remain"
    return f"{len(reasons)} {verb} undecided, mostly because: {_common(reasons)}"


def _common(reasons: Iterable[str]) -> str:
    """The most common reasons with their counts."""
    counted = Counter(map(_reason, reasons))
    return ", ".join(f"{why} ({n})" for why, n in counted.most_common(MOST_REASONS))


def _reason(text: str) -> str:
    """A reason without its numbers, so that alike ones count as one."""
    return re.split(r"[:;,(\[]|\s[-+]?\d+\.\d", text.strip())[0].strip() or "no reason given"
