"""From the evidence of all cases to a word and its reason for each: families, and what stands in
the way of a verdict. Must not know how an effect is measured."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ray_selfloop.claims.cases import PRIMARY, Case, quantified
from ray_selfloop.claims.measured import Sweep
from ray_selfloop.claims.tested import Tested
from ray_selfloop.inference.verdicts import (
    ACCURACY,
    CONTRADICTED,
    DOWN,
    EXPLORATORY,
    KINDS,
    NOT_TESTED,
    NOTHING,
    RULED_OUT,
    SUPPORTED,
    UNDECIDED,
    UP,
    Evidence,
    adjusted,
    least,
    word,
)


@dataclass(frozen=True)
class Judged:
    """A tested case with its word. adjusted: its evidence after multiplicity. looks: what each look
    said, where there are several; ``tested`` is then of the look that decided, else of the last,
    and ``at`` that look's place among them."""

    tested: Tested
    adjusted: Evidence
    together: int
    verdict: str
    reason: str
    looks: tuple["Judged", ...] = ()
    at: int = 0

    @property
    def open(self) -> bool:
        """Whether more chains may decide it."""
        stuck = self.tested.gate or self.tested.uneven
        return self.verdict == UNDECIDED and not stuck


def judge(sweep: Sweep, cases: Sequence[Case], tests: Sequence[Tested]) -> list[Judged]:
    """The words of all cases. A family is what was declared: a case that the data then do not let
    be tested stays in its count."""
    families: dict[str, list[int]] = defaultdict(list)
    for i, case in enumerate(cases):
        if not (case.lacks or case.exploratory):
            families[case.family].append(i)
    found = [Judged(t, NOTHING, 1, *_word(t, NOTHING, sweep, 1)) for t in tests]
    for name, members in families.items():
        if sweep.looks is not None and name == PRIMARY:
            for i in members:
                found[i] = _over_looks(sweep, tests[i], len(members))
            continue
        for i, p in zip(members, adjusted([tests[i].evidence for i in members]), strict=True):
            n = len(members)
            found[i] = Judged(tests[i], p, n, *_word(tests[i], p, sweep, n))
    return found


def _over_looks(sweep: Sweep, tested: Tested, count: int) -> Judged:
    """A primary statement at every look; the first look that decides it does so for good."""
    assert sweep.looks is not None
    every = [*tested.before, tested]
    looks = [
        _at_look(sweep.at(chains), one, count)
        for chains, one in zip(sweep.looks.made, every, strict=True)
    ]
    if not sweep.looks.settled:
        why = f"the look at {sweep.looks.made[-1]} chains is not complete: a stage is missing"
        looks[-1] = replace(looks[-1], verdict=UNDECIDED, reason=why)
    words = [one.verdict != UNDECIDED for one in looks]
    at = words.index(True) if any(words) else len(looks) - 1
    return replace(looks[at], looks=tuple(looks), at=at)


def _at_look(sweep: Sweep, tested: Tested, count: int) -> Judged:
    """p values are raised so far that p <= alpha reads off the interval that holds over all looks
    and all primary statements (Bonferroni)."""
    factor = (1 - sweep.settings.level) / sweep.level_of(count)
    raised = Evidence(*(min(1.0, factor * getattr(tested.evidence, kind)) for kind in KINDS))
    return Judged(tested, raised, count, *_word(tested, raised, sweep, count))


def _word(tested: Tested, p: Evidence, sweep: Sweep, count: int) -> tuple[str, str]:
    case, alpha = tested.case, 1 - sweep.settings.level
    if case.lacks:
        return NOT_TESTED, case.lacks
    if case.exploratory:
        return EXPLORATORY, "beyond the primary statements of this sweep"
    if tested.gate:
        return UNDECIDED, tested.gate
    few = _untestable(tested)
    if few:
        return UNDECIDED, few
    if tested.unseen:
        return UNDECIDED, tested.unseen
    if tested.uneven:
        return UNDECIDED, "the arms lost different trials: survivors prove nothing"
    found = word(p, alpha)
    if found == UNDECIDED:
        return UNDECIDED, _why_undecided(tested, sweep, count)
    return found, _reason(tested, found, _widened(tested, sweep, count))


def _untestable(tested: Tested) -> str:
    """Why the effects have no error."""
    every = (*tested.each, *tested.others)
    chains = [e.chains for e in every]
    if any(n == 0 for n in chains):
        return "no run has all the generations that this needs, in both arms"
    if any(n == 1 for n in chains):
        return "one chain only: another run of the whole loop may differ"
    if any(not e.tested for e in every):
        return "the metric is not defined in most resamples"
    return ""


def _widened(tested: Tested, sweep: Sweep, count: int) -> str:
    looks = len(sweep.looks.declared) if sweep.looks and tested.case.primary else 1
    for_ = [f"{count} statements judged together"] * (count > 1) + [f"{looks} looks"] * (looks > 1)
    return f", widened for {' and '.join(for_)}," if for_ else ""


def _why_undecided(tested: Tested, sweep: Sweep, count: int) -> str:
    direction, alpha = tested.case.statement.direction, 1 - sweep.settings.level
    widened = _widened(tested, sweep, count)
    if least(tested.evidence.holds, tested.evidence.opposite) <= alpha and widened:
        shortly = widened.strip(",").replace(" judged together", "")
        return f"the interval decides it alone, but not{shortly}"
    if tested.accuracy is not None and not tested.whole_holds_zero:
        return "it changed, but is not separated from what accuracy alone does to it"
    where = "zero and the margin" if direction in (UP, DOWN) else "the margin's end"
    of = " of too many networks" if len(tested.each) > 1 else ""
    return f"the interval{of}{widened} holds {where}"


def _reason(tested: Tested, verdict: str, widened: str) -> str:
    """In which of the networks the interval lies where the verdict needs it."""
    statement, n = tested.case.statement, len(tested.each)
    where = {
        SUPPORTED: "lies where the statement says",
        CONTRADICTED: "lies wholly on the other side",
        RULED_OUT: f"ends before the margin of {tested.margin:.3g}",
        ACCURACY: "of what accuracy does not explain lies inside the margin",
    }[verdict]
    of = f" {quantified(statement)}" if verdict == SUPPORTED else " in too many networks"
    parts = [f"the interval{widened} {where}{of if n > 1 else ''}"]
    if statement.size and tested.whole is not None:
        low, high = sorted((abs(tested.whole.low), abs(tested.whole.high)))
        holds = "holds" if low <= statement.size <= high else "does not hold"
        parts.append(f"it {holds} the claimed size of {statement.size:g}")
    return "; ".join(parts)
