"""Table cells: a number and its interval as text, and the colour of a cell in a heat map."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ray_selfloop.report import numbers
from ray_selfloop.report.series import Curve

MORE, LESS = (0, 114, 178), (213, 94, 0)  # RGB: kept more (blue), less (orange) than overall
FULL = 0.20  # difference from the overall rate that gets the strongest colour


@dataclass(frozen=True)
class Cell:
    """Text of a number and of its interval ("" = none); colour: of the background, or ""."""

    value: str
    interval: str = ""
    colour: str = ""


NO_CELL = Cell(numbers.NO_RESULT)


def at(curve: Curve, generation: int) -> Cell:
    """The curve's number at a generation; an en dash where there is no row."""
    if generation not in curve.generations:
        return NO_CELL
    value, low, high = curve.at(generation)
    return Cell(numbers.number(value), numbers.interval(low, high))


def change(curve: Curve, generation: int) -> Cell:
    """A change at a generation, with its sign and the digits that a small one needs."""
    return signed(*curve.at(generation)) if generation in curve.generations else NO_CELL


def signed(value: float, low: float, high: float) -> Cell:
    """A change or slope with its interval."""
    return Cell(numbers.signed(value), numbers.small_interval(low, high))


def heat(curve: Curve, overall: Curve, generation: int) -> Cell:
    """The same with two decimals, coloured by its distance from the overall rate."""
    value, low, high = curve.at(generation)
    if math.isnan(value):
        return NO_CELL
    rest = value - overall.at(generation)[0]
    return Cell(f"{value:.2f}", numbers.interval(low, high), _tint(rest))


def _tint(difference: float) -> str:
    if math.isnan(difference) or abs(difference) < 0.005:
        return ""
    share = min(1.0, abs(difference) / FULL) * 0.55
    mixed = (round(255 + (c - 255) * share) for c in (MORE if difference > 0 else LESS))
    return "#" + "".join(f"{c:02x}" for c in mixed)


@dataclass(frozen=True)
class Axis:
    """A horizontal scale, in percent of the drawing's width."""

    low: float
    high: float

    def x(self, value: float) -> float:
        """Place of a value, cut at the ends."""
        place = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, place)), 2)

    def mark(self, value: float, low: float, high: float) -> dict[str, float] | None:
        """Places of a number and its interval; None for NaN, a point where no interval is."""
        if math.isnan(value):
            return None
        ends = (value, value) if math.isnan(low) or math.isnan(high) else (low, high)
        return {"value": self.x(value), "low": self.x(ends[0]), "high": self.x(ends[1])}

    def band(self, margin: float) -> tuple[float, float]:
        """Places of both ends of a margin; of NaN that of 0, twice."""
        reach = 0.0 if math.isnan(margin) else margin
        return self.x(-reach), self.x(reach)


def around_zero(values: Iterable[float]) -> Axis:
    """A scale with 0 in its middle that holds all values."""
    most = max((abs(v) for v in values if not math.isnan(v)), default=0.0) or 1.0
    return Axis(-1.08 * most, 1.08 * most)
