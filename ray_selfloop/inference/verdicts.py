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

from ray_selfloop.inference.chains import NAN, Effect
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
    """p values: for, against, of 'smaller than the margin', and of 'changed, as accuracy explains';
    NaN where there is no test."""

    holds: float
    opposite: float
    small: float
    explained: float = NAN


NOTHING = Evidence(NAN, NAN, NAN)
KINDS = ("holds", "opposite", "small", "explained")


@dataclass(frozen=True)
class Accuracy:
    """What accuracy may explain of an effect. change: of accuracy itself; margin: its own.

    level, rest: the parts of the effect that the accuracy of each class explains, and does not;
    None where the metric has no such parts.
    """

    change: Effect
    margin: float
    level: Effect | None = None
    rest: Effect | None = None

    def excluded(self, side: int) -> float:
        """p of 'accuracy does not explain a change to this side': the rest is shown there too, or
        accuracy is shown not to change. Each at half the level, so that the smaller one holds."""
        unchanged = self.change.p_inside(self.margin)
        return unchanged if self.rest is None else least(unchanged, beyond(self.rest, 0.0, side))

    def explains(self, side: int, margin: float) -> float:
        """p of 'it does': the level part is shown, and the rest is shown inside the margin."""
        if self.level is None or self.rest is None:
            return NAN
        return most(beyond(self.level, 0.0, side), self.rest.p_inside(margin))


def beyond(found: Effect, bound: float, side: int) -> float:
    """p of an effect above ``bound`` (side 1) or below ``-bound`` (side -1)."""
    return found.p_above(bound) if side > 0 else found.p_below(-bound)


def most(*p: float) -> float:
    """The largest, NaN where one is."""
    return NAN if any(isnan(x) for x in p) else max(p)


def least(*p: float) -> float:
    """The smallest that is known."""
    return min((x for x in p if not isnan(x)), default=NAN)


def evidence(
    found: Effect, direction: Direction, margin: float, accuracy: Accuracy | None = None
) -> Evidence:
    """Of one effect; every p is twice a one-sided one, so that p <= a reads off the interval.

    accuracy: where a change of accuracy is another explanation of a change. A change then counts
    only where accuracy is excluded as well; 'does not get worse' and 'smaller than' need no excuse.
    """

    def change(bound: float, side: int) -> float:
        p = beyond(found, bound, side)
        return p if accuracy is None else most(p, accuracy.excluded(side))

    def either(bound: float) -> float:
        return least(change(bound, 1), change(bound, -1))

    def explained(side: int) -> float:
        if accuracy is None:
            return NAN
        return most(beyond(found, 0.0, side), accuracy.explains(side, margin))

    because = least(explained(1), explained(-1))
    return {
        UP: lambda: Evidence(change(0, 1), change(0, -1), found.p_short_of(margin), because),
        DOWN: lambda: Evidence(change(0, -1), change(0, 1), found.p_short_of(-margin), because),
        SAME: lambda: Evidence(found.p_inside(margin), either(margin), NAN, because),
        NOT_UP: lambda: Evidence(found.p_short_of(margin), change(margin, 1), NAN, because),
        NOT_DOWN: lambda: Evidence(found.p_short_of(-margin), change(margin, -1), NAN, because),
        DIFFERS: lambda: Evidence(either(0.0), NAN, found.p_inside(margin), because),
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
        at_least([e.explained for e in each], rest),
    )


def adjusted(family: Sequence[Evidence]) -> list[Evidence]:
    """Holm's adjustment over the statements of a family, kind by kind.

    A statement that has no p counts as one of p = 1: what the data happen to lack must not make it
    easier for the others.
    """
    columns = []
    for name in KINDS:
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
    if found.small <= alpha:
        return RULED_OUT
    return ACCURACY if found.explained <= alpha else UNDECIDED
