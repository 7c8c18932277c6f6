"""How numbers are written, on the page and in the terminal: with intervals, never a stand-in."""

import math

NOT_DEFINED = "not defined"
NO_RESULT = "–"


def number(value: float) -> str:
    """Three decimals below 10, one from there; NaN is ``not defined``."""
    if math.isnan(value):
        return NOT_DEFINED
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def interval(low: float, high: float) -> str:
    """``[0.912, 0.944]``, or "" where there is none."""
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"[{number(low)}, {number(high)}]"


def seconds(value: float) -> str:
    """``8.3 s``, ``5 min 12 s``, ``2 h 05 min``."""
    if math.isnan(value):
        return NOT_DEFINED
    if value < 99.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
