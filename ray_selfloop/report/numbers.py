"""How numbers are written, on the page and in the terminal: with intervals, never a stand-in."""

import math
from collections.abc import Callable

NOT_DEFINED = "not defined"
NO_RESULT = "–"
ROUNDING = 1e-12  # below it a difference of two numbers is zero


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


def gigabytes(value: float) -> str:
    """``0.71 GB`` of so many bytes; NaN is an en dash."""
    return NO_RESULT if math.isnan(value) else f"{value / 1e9:.2f} GB"


def p_value(value: float) -> str:
    """Three decimals, ``< 0.001`` below; NaN is an en dash: no test was made."""
    if math.isnan(value):
        return NO_RESULT
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def small(value: float) -> str:
    """Three decimals, or two digits where these would be fewer: for effects, margins, errors."""
    size = abs(value)
    if size < ROUNDING:
        value = size = 0.0
    if math.isnan(value) or size >= 0.0995 or not size:
        return number(value)
    if size < 1e-4:
        return f"{value:.1e}"
    return f"{value:.{max(3, 1 - math.floor(math.log10(size)))}f}"


def small_interval(low: float, high: float) -> str:
    """As ``interval``, with the digits of ``small``."""
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"[{small(low)}, {small(high)}]"


def signed(value: float) -> str:
    """As ``small`` with its sign: for changes and effects."""
    return f"{'+' if value > -ROUNDING else ''}{small(value)}"


def known(value: float, write: Callable[[float], str] = signed) -> str:
    """The number as ``write`` gives it; an en dash for NaN."""
    return NO_RESULT if math.isnan(value) else write(value)
