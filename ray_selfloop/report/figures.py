"""The curves, laid out as the paper's figures 3 and 4. Draws; computes nothing."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ray_selfloop.report.series import Curve, Table
from ray_selfloop.report.view import ScenarioView

# Okabe and Ito's colours, told apart with any colour vision; markers differ too, for gray prints.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
FLOOR, FLOOR_EDGE = "#e4e6e8", "#8d9398"
OVERALL = (
    ("accuracy", "Accuracy", "fraction correct"),
    ("meo", "MEO", "1 = equal"),
    ("di", "DI", "1 = equal"),
    ("md", "MD", "0 = equal"),
)
STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica Neue", "Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": "#3c4043",
    "axes.edgecolor": "#bdc1c6",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eceff1",
    "grid.linewidth": 0.8,
    "xtick.color": "#5f6368",
    "ytick.color": "#5f6368",
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "ray_selfloop",
}
X_LABEL = "generation (0 = real data only)"


def overall(table: Table, scenario: ScenarioView) -> Figure:
    """Part (a) of figures 3 and 4: accuracy, MEO, DI and MD, one line per classifier."""
    with rc_context(STYLE):
        figure = Figure(figsize=(11, 3.4), layout="constrained")
        for axes, (metric, title, unit) in zip(
            figure.subplots(1, len(OVERALL)), OVERALL, strict=True
        ):
            _draw_metric(axes, table, scenario, metric)
            axes.set_title(title)
            axes.set_ylabel(unit)
            _generation_axis(axes, table)
        _legend(figure, _classifier_keys(scenario))
    return figure


def _draw_metric(axes: Axes, table: Table, scenario: ScenarioView, metric: str) -> None:
    _floor(axes, table.floor(scenario.name, scenario.classifiers, metric))
    shown = False
    for i, classifier in enumerate(scenario.classifiers):
        colour = COLOURS[i % len(COLOURS)]
        if _few(scenario):
            trials = table.trials(scenario.name, classifier, metric)
            axes.scatter(
                trials["generation"].astype(float), trials["value"], s=7, color=colour, alpha=0.35,
                linewidths=0, zorder=2,
            )  # fmt: skip
        curve = table.mean(scenario.name, classifier, metric)
        shown |= bool(np.isfinite(curve.value).any())
        _line(axes, curve, colour, MARKERS[i % len(MARKERS)], 0.17 if _few(scenario) else 0.09)
    if not shown:
        _say(axes, "not defined")


def _few(scenario: ScenarioView) -> bool:
    """Few enough classifiers that dots and full bands in one panel can still be told apart."""
    return len(scenario.classifiers) <= 3


def ranked(table: Table, scenario: ScenarioView) -> Figure:
    """Part (b) of figures 3 and 4: accuracy by rank of the subgroup, one panel per classifier.

    Solid: re-sorted at each generation (eq. 5). Dashed: ranks from generation 0, cross-fitted.
    """
    ranks = table.subgroups(scenario.name, "ranked_accuracy")
    colours = _ramp(len(ranks))[: len(ranks)]  # no ranks where every trial collapsed
    columns = min(5, max(1, len(scenario.classifiers)))
    rows = -(-len(scenario.classifiers) // columns)
    with rc_context(STYLE):
        width = 11 if columns > 2 else 4.4 * columns + 0.6
        figure = Figure(figsize=(width, 2.7 * rows + 0.5), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes, classifier in zip(panels.flat, scenario.classifiers, strict=False):
            _draw_ranks(
                axes, table, scenario.name, classifier, dict(zip(ranks, colours, strict=True))
            )
            _generation_axis(axes, table)
        for axes in panels.flat[len(scenario.classifiers) :]:
            axes.set_visible(False)
        for axes in panels[:, 0]:
            axes.set_ylabel("accuracy (fraction)")
        _legend(figure, _rank_keys(ranks, colours))
    return figure


def _draw_ranks(
    axes: Axes, table: Table, scenario: str, classifier: str, colours: Mapping[str, str]
) -> None:
    axes.set_title(classifier)
    shown = False
    for i, (rank, colour) in enumerate(colours.items()):
        _floor(axes, table.mean(scenario, classifier, "ranked_accuracy_floor", rank))
        solid = table.mean(scenario, classifier, "ranked_accuracy", rank)
        aside = 0.06 * (i - (len(colours) - 1) / 2)  # so that the intervals do not hide each other
        axes.vlines(solid.generations + aside, solid.low, solid.high, color=colour, lw=1.3)
        _line(axes, solid, colour, "o", 0.0)
        dashed = table.mean(scenario, classifier, "ranked_cross_fitted", rank)
        axes.plot(dashed.generations, dashed.value, color=colour, lw=1.1, ls=(0, (4, 2)))
        shown |= bool(np.isfinite(solid.value).any())
    if not shown:
        _say(axes, "not defined")


def _line(axes: Axes, curve: Curve, colour: str, marker: str, band: float) -> None:
    if band:
        _band(axes, curve, colour, band)
    axes.plot(
        curve.generations, curve.value, color=colour, marker=marker, lw=1.8, ms=4.5,
        mec="white", mew=0.7, zorder=3,
    )  # fmt: skip


def _floor(axes: Axes, curve: Curve) -> None:
    axes.fill_between(
        curve.generations, curve.low, curve.high, facecolor=FLOOR, edgecolor=FLOOR_EDGE,
        linestyle=(0, (2, 2)), lw=0.8, zorder=0.5,
    )  # fmt: skip


def _band(axes: Axes, curve: Curve, colour: str, alpha: float) -> None:
    axes.fill_between(
        curve.generations, curve.low, curve.high, color=colour, alpha=alpha, lw=0, zorder=1
    )


def _say(axes: Axes, text: str) -> None:
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="#5f6368"
    )  # fmt: skip


def _generation_axis(axes: Axes, table: Table) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=11, min_n_ticks=1))
    axes.set_xlabel(X_LABEL)
    if table.generations:
        axes.set_xlim(table.generations[0] - 0.2, table.generations[-1] + 0.2)


def _classifier_keys(scenario: ScenarioView) -> list[Line2D | Patch]:
    lines: list[Line2D | Patch] = [
        Line2D(
            [], [], color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)], lw=1.8,
            ms=5, mec="white", mew=0.7, label=name,
        )
        for i, name in enumerate(scenario.classifiers)
    ]  # fmt: skip
    dots = Line2D(
        [], [], color="#5f6368", marker="o", lw=0, ms=2.6, alpha=0.6, label="single trials"
    )
    return [
        *lines,
        *([dots] if _few(scenario) else []),
        Patch(color=COLOURS[0], alpha=0.2, lw=0, label="interval of the mean"),
        _floor_key(),
    ]


def _floor_key() -> Patch:
    return Patch(fc=FLOOR, ec=FLOOR_EDGE, ls=(0, (2, 2)), lw=0.8, label="noise floor")


def _rank_keys(ranks: Sequence[str], colours: Sequence[str]) -> list[Line2D | Patch]:
    ends = {0: " (worst)", len(ranks) - 1: " (best)"} if len(ranks) > 1 else {}
    return [
        *(
            Line2D(
                [],
                [],
                color=colour,
                marker="o",
                lw=1.8,
                ms=4.5,
                label=_rank(rank) + ends.get(i, ""),
            )
            for i, (rank, colour) in enumerate(zip(ranks, colours, strict=True))
        ),
        Line2D([], [], color="#5f6368", lw=1.8, label="re-sorted each generation (eq. 5)"),
        Line2D([], [], color="#5f6368", lw=1.1, ls=(0, (4, 2)), label="cross-fitted ranks"),
        _floor_key(),
    ]


def _rank(name: str) -> str:
    return f"rank {name}" if name.isdigit() else name


def _legend(figure: Figure, keys: Sequence[Line2D | Patch]) -> None:
    figure.legend(
        handles=list(keys), loc="outside upper left", ncols=min(len(keys), 8), fontsize=9,
        columnspacing=1.4, handlelength=1.8,
    )  # fmt: skip


def _ramp(n: int) -> list[str]:
    """Worst to best along plasma, whose lightness rises evenly: the order shows without colour."""
    return [to_hex(colormaps["plasma"](x)) for x in np.linspace(0.05, 0.78, max(n, 1))]


def svg(figure: Figure) -> bytes:
    """The figure as SVG; the same bytes for the same numbers."""
    out = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def png(figure: Figure) -> bytes:
    """The figure as PNG, 150 dots per inch."""
    out = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(out, format="png", dpi=150, metadata={"Software": None})
    return out.getvalue()
