"""From the evidence of all cases to a word and its reason for each: families, and what stands in
the way of a verdict. Must not know how an effect is measured."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ray_selfloop.claims.cases import Case, quantified
from ray_selfloop.claims.measured import Sweep
from ray_selfloop.claims.tested import Tested
from ray_selfloop.inference.verdicts import (
    ACCURACY,
    CONTRADICTED,
    DOWN,
    EXPLORATORY,
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
    """A tested case with its word. adjusted: its evidence after multiplicity."""

    tested: Tested
    adjusted: Evidence
    together: int
    verdict: str
    reason: str


def judge(sweep: Sweep, cases: Sequence[Case], tests: Sequence[Tested]) -> list[Judged]:
    """The words of all cases. A family is what was declared: a case that the data then do not let
    be tested stays in its count."""
    families: dict[str, list[int]] = defaultdict(list)
    for i, case in enumerate(cases):
        if not (case.lacks or case.exploratory):
            families[case.family].append(i)
    found = [Judged(t, NOTHING, 1, *_word(t, NOTHING, sweep, 1)) for t in tests]
    for members in families.values():
        for i, p in zip(members, adjusted([tests[i].evidence for i in members]), strict=True):
            n = len(members)
            found[i] = Judged(tests[i], p, n, *_word(tests[i], p, sweep, n))
    return found


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
    if tested.uneven:
        return UNDECIDED, "the arms lost different trials: survivors prove nothing"
    found = word(p, alpha)
    if found == UNDECIDED:
        return UNDECIDED, _why_undecided(tested, sweep.settings.level, count)
    return found, _reason(tested, found, count)


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


def _widened(count: int) -> str:
    return f", widened for {count} statements judged together," if count > 1 else ""


def _why_undecided(tested: Tested, level: float, count: int) -> str:
    direction, alpha = tested.case.statement.direction, 1 - level
    if least(tested.evidence.holds, tested.evidence.opposite) <= alpha and count > 1:
        return f"the interval decides it alone, but not widened for {count} statements"
    if tested.accuracy is not None and not tested.whole_holds_zero:
        return "it changed, but is not separated from what accuracy alone does to it"
    where = "zero and the margin" if direction in (UP, DOWN) else "the margin's end"
    of = " of too many networks" if len(tested.each) > 1 else ""
    return f"the interval{of}{_widened(count)} holds {where}"


def _reason(tested: Tested, verdict: str, count: int) -> str:
    """In which of the networks the interval lies where the verdict needs it."""
    statement, n = tested.case.statement, len(tested.each)
    where = {
        SUPPORTED: "lies where the statement says",
        CONTRADICTED: "lies wholly on the other side",
        RULED_OUT: f"ends before the margin of {tested.margin:.3g}",
        ACCURACY: "of what accuracy does not explain lies inside the margin",
    }[verdict]
    of = f" {quantified(statement)}" if verdict == SUPPORTED else " in too many networks"
    parts = [f"the interval{_widened(count)} {where}{of if n > 1 else ''}"]
    if statement.size and tested.whole is not None:
        low, high = sorted((abs(tested.whole.low), abs(tested.whole.high)))
        holds = "holds" if low <= statement.size <= high else "does not hold"
        parts.append(f"it {holds} the claimed size of {statement.size:g}")
    return "; ".join(parts)
