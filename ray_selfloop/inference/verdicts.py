"""Which word an effect deserves: the words, what each means, and the rule that gives it.

One interval decides everything: the 95 % interval (`evaluation.level`) of the effect, widened for
the number of statements judged together (Holm). Where it lies decides the word. A statement about
several networks counts those whose own interval lies there: all, most or some of them
(`families.at_least`). Knows effects and margins, and nothing of what they are of.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Literal

from ray_selfloop.inference.chains import Effect
from ray_selfloop.inference.families import at_least, holm, needed

Direction = Literal[
    "increases", "decreases", "does not change", "does not increase", "does not decrease", "differs"
]
Quantifier = Literal["all", "most", "some"]
UP: Direction = "increases"
DOWN: Direction = "decreases"
SAME: Direction = "does not change"
NOT_UP: Direction = "does not increase"
NOT_DOWN: Direction = "does not decrease"
DIFFERS: Direction = "differs"

SUPPORTED, CONTRADICTED, RULED_OUT = "supported", "contradicted", "ruled out"
ACCURACY, UNDECIDED = "explained by accuracy", "undecided"
EXPLORATORY, NOT_TESTED = "exploratory", "not tested"
WORDS: Mapping[str, str] = {
    SUPPORTED: "the interval, widened for the number of statements judged together, lies wholly "
    "where the statement says: beyond zero for a change, inside the margin for 'does not change', "
    "on the harmless side of the margin for 'does not get worse'",
    CONTRADICTED: "that interval lies wholly on the other side: a change the other way, a change "
    "beyond the margin where none was claimed, harm beyond the margin where it was denied",
    RULED_OUT: "a change was claimed, and that interval ends before the margin: a change as large "
    "as the smallest effect of interest is excluded",
    ACCURACY: "a gap changed, and the change that follows from the accuracy of each class alone is "
    "shown, while the rest is shown to lie inside the margin",
    UNDECIDED: "the data do not tell, which is no evidence that nothing happens",
    EXPLORATORY: "an interval without a verdict: not among the statements declared before the "
    "data, or declared after them",
    NOT_TESTED: "this sweep lacks what the statement speaks of",
}
"""Every verdict word, in the order of the page, and its definition."""


@dataclass(frozen=True)
class Evidence:
    """p values for, against and of 'smaller than the margin'; NaN where there is no test."""

    holds: float
    opposite: float
    small: float


NOTHING = Evidence(float("nan"), float("nan"), float("nan"))


def evidence(found: Effect, direction: Direction, margin: float) -> Evidence:
    """Of one effect; every p is twice a one-sided one, so that p <= a reads off the interval."""
    nan = float("nan")
    above, below = found.p_above, found.p_below
    return {
        UP: lambda: Evidence(above(0.0), below(0.0), below(margin)),
        DOWN: lambda: Evidence(below(0.0), above(0.0), above(-margin)),
        SAME: lambda: Evidence(found.p_inside(margin), found.p_outside(margin), nan),
        NOT_UP: lambda: Evidence(below(margin), above(margin), nan),
        NOT_DOWN: lambda: Evidence(above(-margin), below(-margin), nan),
        DIFFERS: lambda: Evidence(found.p_change(), nan, found.p_inside(margin)),
    }[direction]()


def together(each: Sequence[Evidence], quantifier: Quantifier) -> Evidence:
    """Of 'it holds for all (most, some) of these': fewer than u hold where K - u + 1 do not."""
    if not each:
        return NOTHING
    least = needed(quantifier, len(each))
    rest = len(each) - least + 1
    return Evidence(
        at_least([e.holds for e in each], least),
        at_least([e.opposite for e in each], rest),
        at_least([e.small for e in each], rest),
    )


def adjusted(family: Sequence[Evidence]) -> list[Evidence]:
    """Holm's adjustment over the statements of a family, kind by kind.

    A statement that has no p counts as one of p = 1: what the data happen to lack must not make it
    easier for the others.
    """
    columns = []
    for name in ("holds", "opposite", "small"):
        p = [getattr(e, name) for e in family]
        counted = holm([1.0 if isnan(x) else x for x in p])
        columns.append([x if isnan(x) else value for x, value in zip(p, counted, strict=True)])
    return [Evidence(*row) for row in zip(*columns, strict=True)]


def word(found: Evidence, alpha: float) -> str:
    """The verdict that adjusted p values give at familywise error ``alpha``."""
    if found.holds <= alpha:
        return SUPPORTED
    if found.opposite <= alpha:
        return CONTRADICTED
    return RULED_OUT if found.small <= alpha else UNDECIDED
