"""How the page's figures look: colours, markers, axes, legends. Knows no metric and no table."""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps, rc_context, rc_params_from_file
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ray_selfloop.report.series import Curve

# Okabe and Ito's colours, told apart with any colour vision; markers differ too, for gray prints.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
FLOOR, FLOOR_EDGE = "#e4e6e8", "#8d9398"
SOFT = "#5f6368"
CROSS_FITTED = (0, (4, 2))
X_LABEL = "generation (0 = real data only)"
STYLE = rc_params_from_file(Path(__file__).with_name("page.mplstyle"), False, False)
Key = Line2D | Patch
Inks = Mapping[str, tuple[str, str]]


def inks(classifiers: Iterable[str]) -> Inks:
    """Classifier -> (colour, marker), the same in every figure of a page."""
    names = dict.fromkeys(classifiers)
    return {
        name: (COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)
    }


def line(axes: Axes, curve: Curve, ink: tuple[str, str], band: float) -> None:
    """Mean with markers, and its interval as a band of that opacity (0: none)."""
    colour, marker = ink
    if band:
        axes.fill_between(
            curve.generations, curve.low, curve.high, color=colour, alpha=band, lw=0, zorder=1
        )
    axes.plot(
        curve.generations, curve.value, color=colour, marker=marker, lw=1.8, ms=4.5,
        mec="white", mew=0.7, zorder=3,
    )  # fmt: skip


def dodged(axes: Axes, curves: Sequence[Curve], inks: Sequence[tuple[str, str]]) -> None:
    """Several lines in one panel, set aside so that no interval hides another."""
    for i, (curve, ink) in enumerate(zip(curves, inks, strict=True)):
        aside = 0.012 * len(curve) * (i - (len(curves) - 1) / 2)
        at = curve.generations + aside
        axes.vlines(at, curve.low, curve.high, color=ink[0], lw=1.3, alpha=0.75, zorder=2)
        axes.plot(
            at, curve.value, color=ink[0], marker=ink[1], lw=1.5, ms=4.5, mec="white", mew=0.7,
            zorder=3,
        )  # fmt: skip


def floor(axes: Axes, curve: Curve) -> None:
    """The noise floor as a gray band with a dashed edge; nothing for a metric without one."""
    if not len(curve):
        return
    axes.fill_between(
        curve.generations, curve.low, curve.high, facecolor=FLOOR, edgecolor=FLOOR_EDGE,
        linestyle=(0, (2, 2)), lw=0.8, zorder=0.5,
    )  # fmt: skip


def zero(axes: Axes) -> None:
    """A dashed line at 0: no change, no drop."""
    axes.axhline(0.0, color="#202124", lw=0.9, ls=(0, (2, 2)), zorder=1)


def unless_defined(axes: Axes, curves: Iterable[Curve], text: str = "not defined") -> None:
    """Words in the middle of a panel whose curves have no number."""
    if not any(np.isfinite(curve.value).any() for curve in curves):
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=SOFT)


def generation_axis(axes: Axes, generations: Sequence[int], right: float = 0.2) -> None:
    """Whole generations, with room on the right in units of generations."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=11, min_n_ticks=1))
    axes.set_xlabel(X_LABEL)
    if generations:
        axes.set_xlim(generations[0] - 0.2, generations[-1] + right)


def classifier_key(name: str, ink: tuple[str, str]) -> Key:
    return Line2D([], [], color=ink[0], marker=ink[1], lw=1.8, ms=5, mec="white", mew=0.7,
                  label=name)  # fmt: skip


def interval_key() -> Key:
    return Line2D([], [], color=SOFT, marker="|", ms=9, mew=1.3, lw=0, label="interval of the mean")


def floor_key() -> Key:
    return Patch(fc=FLOOR, ec=FLOOR_EDGE, ls=(0, (2, 2)), lw=0.8, label="noise floor")


def legend(figure: Figure, keys: Sequence[Key], columns: int = 8) -> None:
    """Above the panels, where it covers no data."""
    figure.legend(
        handles=list(keys), loc="outside upper left", ncols=min(len(keys), columns), fontsize=9,
        columnspacing=1.4, handlelength=2.2,
    )  # fmt: skip


def ramp(n: int) -> list[str]:
    """Worst to best along plasma, whose lightness rises evenly: the order shows without colour."""
    return [to_hex(colormaps["plasma"](x)) for x in np.linspace(0.05, 0.78, max(n, 1))]


def svg(figure: Figure) -> bytes:
    """The figure as SVG; the same bytes for the same numbers."""
    out = io.BytesIO()
    with rc_context(STYLE):
        _settle(figure)
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def png(figure: Figure) -> bytes:
    """The figure as PNG, 150 dots per inch."""
    out = io.BytesIO()
    with rc_context(STYLE):
        _settle(figure)
        figure.savefig(out, format="png", dpi=150, metadata={"Software": None})
    return out.getvalue()


def _settle(figure: Figure) -> None:
    """Lay the panels out once; saving would do it twice, which is most of its time."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
