"""What the page answers first: one sentence made of the primary statements' verdicts.

Words verdicts that were reached elsewhere; must not reach one. Says nothing that its verdict does
not: what is undecided is no absence, and without a control there is no answer.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ray_selfloop.claims.cases import CUE
from ray_selfloop.claims.noise import AS_EXPECTED, NOT_EXPECTED
from ray_selfloop.claims.positive import SEEN, UNSEEN
from ray_selfloop.claims.statements import HYPOTHESIS
from ray_selfloop.config.arms import ARMS, CONTROL, TREATMENT
from ray_selfloop.evaluation import metrics
from ray_selfloop.inference import verdicts as words
from ray_selfloop.report import numbers
from ray_selfloop.report.groups import groups
from ray_selfloop.report.view import Claim, Positive, ReportView, ScenarioView, Verdict

GROWS, SHRINKS = "A > control", "A < control"
TITLES = {
    **{one.name: one.long for one in (metrics.MD, metrics.MEO, metrics.WORST_SUBGROUP)},
    CUE: "drop without the object",
}  # fmt: skip
KINDS = {
    words.SUPPORTED: "supported", words.CONTRADICTED: "contradicted", words.RULED_OUT: "ruledout",
    words.ACCURACY: "accuracy", words.NOT_TESTED: "untested", words.EXPLORATORY: "untested",
    GROWS: "amplifies", SHRINKS: "mitigates", "A > 1": "amplifies",
    "A < 1": "mitigates", AS_EXPECTED: "untested",
    NOT_EXPECTED.split(":")[0]: "contradicted", SEEN: "supported", UNSEEN: "contradicted",
}  # fmt: skip
LEADS: Mapping[frozenset[str], tuple[str, str]] = {
    frozenset({words.SUPPORTED}): ("Yes", "amplifies"),
    frozenset({words.CONTRADICTED}): ("No", "mitigates"),
    frozenset({words.RULED_OUT}): ("Not by {margin}", "mitigates"),
    frozenset({words.CONTRADICTED, words.RULED_OUT}): ("No", "mitigates"),
    frozenset({words.ACCURACY}): ("As accuracy explains", "accuracy"),
    frozenset({words.UNDECIDED}): ("Undecided", "undecided"),
    frozenset({words.EXPLORATORY}): ("Exploratory", "undecided"),
}
"""Verdicts that occur -> first words and badge; any other mixture depends on the setting."""
VOID = "Not to be believed"


@dataclass(frozen=True)
class Answer:
    """lead: one or two words; rest: the sentence after them. kind: as a badge's class."""

    lead: str
    rest: str
    kind: str

    @property
    def text(self) -> str:
        return f"{self.lead}: {self.rest}."


def verdict_kind(text: str) -> str:
    """A verdict's badge class: its first words, whatever reason follows."""
    if "too poor to ask" in text:
        return "unconverged"
    return KINDS.get(text.split(":")[0].strip(), "undecided")


def hypothesis(claims: Iterable[Claim]) -> list[Claim]:
    """The introduction's hypothesis about each setting, primary ones first."""
    found = [c for c in claims if c.id == HYPOTHESIS]
    return sorted(found, key=lambda c: not c.primary)


def counts(claims: Iterable[Claim]) -> list[tuple[str, int]]:
    """``(verdict, how many)`` in the page's order; verdicts that no claim has are left out."""
    found = Counter(claim.verdict for claim in claims)
    return [(verdict, found[verdict]) for verdict in words.WORDS if found[verdict]]


def of_treatment(view: ReportView) -> list[Verdict]:
    """Eq. 6 where the question is put: control arms are left out, where there is a treatment."""
    treated = {s.name for s in view.scenarios if s.arm == TREATMENT.name}
    return [v for v in view.verdicts if v.scenario in treated or not treated]


def answer(view: ReportView) -> Answer:
    """'Does generated data amplify bias here?' in one sentence."""
    if view.outside:
        return Answer(view.outside.lead, view.outside.rest, "undecided")
    asked = hypothesis(view.claims)
    tested = [c for c in asked if c.verdict != words.NOT_TESTED]
    if not tested:
        return _unasked(view, asked)
    answering = [c for c in tested if c.primary] or tested
    checked = "; ".join(_checked(view, answering))
    if {c.scenario_group for c in answering} <= void(view):
        rest = f"{checked}, so that nothing is said of what the loop did to bias, either way"
        return Answer(VOID, rest, "undecided")
    lead, kind = _lead({c.verdict for c in answering})
    parts = [_said(view, claim, len(asked) > 1) for claim in answering]
    ends = [checked] if checked else _law(view)
    rest = "; ".join([*parts, *_silent(asked, answering), *ends])
    return Answer(lead.format(margin=numbers.number(answering[0].margin)), rest, kind)


def void(view: ReportView) -> set[str]:
    """The settings of which nothing is said, because a positive control was not seen there.

    What an earlier look of a sweep with `decide` has decided, with its check seen, stays.
    """
    decided = {c.scenario_group for c in view.claims if c.primary and c.decided}
    return {one.scenario_group for one in view.positive if one.verdict == UNSEEN} - decided


def _checked(view: ReportView, answering: Sequence[Claim]) -> Iterator[str]:
    """Whether each positive control was seen, and how small an effect would have been."""
    of = {claim.scenario_group: claim for claim in answering}
    found = [one for one in view.positive if one.scenario_group in of]
    for one in found:
        setting = f"{_title(view, one.scenario_group)}: " if len(of) > 1 else ""
        yield f"{setting}the positive control was {one.verdict} ({checked_by(one)})"
    seen = {one.scenario_group for one in found if one.verdict == SEEN}
    sizes = [of[group].mde for group in of if group in seen and not math.isnan(of[group].mde)]
    for size in dict.fromkeys(map(numbers.number, sizes)):
        yield f"a change of {size} would have been found in 4 of 5 repetitions"


def checked_by(one: Positive) -> str:
    """``kept sets of each class's majority alone: MD +0.11 [0.08, 0.14]``."""
    title, ends = TITLES.get(one.metric, one.metric), numbers.small_interval(one.low, one.high)
    effect = f": {title} {numbers.signed(one.value)} {ends}".rstrip()
    return f"{ARMS[one.arm].positive}{'' if math.isnan(one.value) else effect}"


def _silent(asked: Sequence[Claim], answering: Sequence[Claim]) -> list[str]:
    """That there are settings which the answer does not speak of, and why."""
    left = [c for c in asked if c not in answering]
    reasons = ", ".join(dict.fromkeys(c.reason for c in left))
    return [f"nothing is said of {len(left)} more settings ({reasons})"] if left else []


def _lead(verdicts: set[str]) -> tuple[str, str]:
    """The first words. 'In part' is a yes for some settings while others are undecided."""
    whole = LEADS.get(frozenset(verdicts))
    if whole:
        return whole
    decided = LEADS.get(frozenset(verdicts - {words.UNDECIDED}), ("It depends", "accuracy"))
    if decided[0] == "Yes":
        return "In part", "amplifies"
    return ("Undecided in part", "undecided") if words.UNDECIDED in verdicts else decided


def _unasked(view: ReportView, asked: Sequence[Claim]) -> Answer:
    controlled = any(s.arm == CONTROL.name for s in view.scenarios)
    if asked and not controlled:
        rest = (
            f"no control: this sweep has no arm {CONTROL.name}, and without it nothing tells what "
            f"generated data did from what longer training did (axes.loop.arm=[{TREATMENT.name},"
            f"{CONTROL.name}] adds it)"
        )
        return Answer("Undecided", rest, "undecided")
    reasons = "; ".join(dict.fromkeys(c.reason for c in asked if c.reason))
    return Answer("No answer yet", reasons or "nothing was measured", "undecided")


def _title(view: ReportView, name: str) -> str:
    """What a setting is called; its name where the page calls it nothing."""
    return {group.name: group.title for group in groups(view.scenarios)}.get(name, name)


def _said(view: ReportView, claim: Claim, named: bool) -> str:
    """One primary statement in words: what happened to bias, with its numbers."""
    setting = f"{_title(view, claim.scenario_group)}: " if named else ""
    checked = claim.scenario_group in {one.scenario_group for one in view.positive}
    return f"{setting}{_happened(claim)} ({', '.join(_numbers(claim, checked))})"


def _happened(claim: Claim) -> str:
    grew, shrank = ("bias grew", "bias shrank")
    if claim.metric in (metrics.ACCURACY.name, metrics.WORST_SUBGROUP.name):
        grew, shrank = (
            f"{TITLES.get(claim.metric, claim.metric)} {way}" for way in ("fell", "rose")
        )
    rises = (claim.value < 0) == (claim.direction == words.DOWN)
    moved = grew if rises else shrank
    margin = numbers.number(claim.margin)
    return {
        words.SUPPORTED: grew,
        words.CONTRADICTED: shrank,
        words.RULED_OUT: f"that {grew} by {margin} or more is excluded",
        words.ACCURACY: f"{moved}, as follows from the accuracy of each class alone",
        words.UNDECIDED: f"whether {grew} is not decided: {claim.reason}",
        words.EXPLORATORY: f"no verdict: {claim.reason}",
    }[claim.verdict]


def _numbers(claim: Claim, checked: bool) -> Iterator[str]:
    """checked: whether the smallest effect that would be found is told elsewhere."""
    title = TITLES.get(claim.metric, claim.metric)
    if not math.isnan(claim.value):
        ends = numbers.small_interval(claim.low, claim.high)
        yield f"{title} {numbers.signed(claim.value)} {ends} against the control".replace("  ", " ")
    few = len(claim.networks) > 1
    if few:
        yield f"mean over {len(claim.networks)} networks"
    yield behind(claim)
    if claim.verdict == words.UNDECIDED and not checked and not math.isnan(claim.mde):
        yield f"a change of {numbers.number(claim.mde)} would be found in 4 of 5 repetitions"
    if few:
        values = [network.value for network in claim.networks]
        ends = " to ".join(numbers.signed(v) for v in (min(values), max(values)))
        yield f"by network {ends}"


def behind(claim: Claim) -> str:
    """``3 chains, 36 trials``, and what collapsed."""
    chains = f"{claim.chains} chain{'s' if claim.chains != 1 else ''}"
    lost = f", {claim.lost}" if claim.lost else ""
    return f"{chains}, {claim.trials} trials{lost}"


def _law(view: ReportView) -> list[str]:
    """In how many cases eq. 6 finds bias to grow faster than in the control, if there is one."""
    judged = [v for v in of_treatment(view) if not math.isnan(v.ratio)]
    if not judged:
        return []
    texts = Counter(v.text for v in judged)
    return [
        f"eq. 6 finds A above that of the control in {texts[GROWS]} and below it in "
        f"{texts[SHRINKS]} of {len(judged)} cases (classifier in a setting)"
    ]


def chains(scenarios: Sequence[ScenarioView]) -> str:
    """``3 chains per scenario``, ``1 chain``, ``1 to 3 chains per scenario``."""
    found = sorted({len(s.loop_seeds) for s in scenarios}) or [0]
    number = " to ".join(dict.fromkeys((str(found[0]), str(found[-1]))))
    return f"{number} chain{'s' if number != '1' else ''} per scenario"
