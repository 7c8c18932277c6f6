"""The curves, laid out as the paper's figures 3 to 7 and 9. Draws; computes nothing."""

from collections.abc import Mapping, Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ray_selfloop.config.datasets.known import traits_of
from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.metrics import ACCURACY, RANKED_ACCURACY, RANKED_CROSS_FITTED, Shown
from ray_selfloop.report import slopes, style
from ray_selfloop.report.series import Table
from ray_selfloop.report.style import CROSS_FITTED, SOFT, STYLE, Inks, Key
from ray_selfloop.report.view import ScenarioView

BETWEEN = "#9aa0a6"  # ranks that are neither the worst nor the best


def overall(table: Table, scenario: ScenarioView, inks: Inks) -> Figure:
    """Part (a): accuracy and fairness, one line per classifier; figure 9 without subgroups."""
    if not scenario.subgroup_names:
        return accuracy(table, scenario, inks)
    shown = metrics.shown(Shown.FIGURES)
    with rc_context(STYLE):
        figure = Figure(figsize=(11, 3.4), layout="constrained")
        for axes, metric in zip(figure.subplots(1, len(shown)), shown, strict=True):
            _draw_metric(axes, table, scenario, metric.name, inks)
            axes.set_title(metric.title)
            axes.set_ylabel(metric.axis)
            style.generation_axis(axes, table.generations)
        style.legend(figure, _classifier_keys(scenario, inks))
    return figure


def accuracy(table: Table, scenario: ScenarioView, inks: Inks) -> Figure:
    """Accuracy, and beside it its change since generation 0, paired by image; with intervals."""
    names = scenario.classifiers
    change = metrics.with_suffix(ACCURACY.name, "change")
    panels = [(ACCURACY.name, ACCURACY.heading, ACCURACY.axis)]
    if any(len(table.mean(scenario.name, name, change)) for name in names):
        panels.append((change, "Change of accuracy since generation 0", "difference"))
    with rc_context(STYLE):
        figure = Figure(figsize=(max(4.6 * len(panels), 6.4), 3.3), layout="constrained")
        for axes, (metric, title, unit) in zip(
            figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True
        ):
            if metric == change:
                style.zero(axes)
            curves = [table.mean(scenario.name, name, metric) for name in names]
            style.dodged(axes, curves, [inks[name] for name in names])
            style.unless_defined(axes, curves)
            axes.set_title(title)
            axes.set_ylabel(unit)
            style.generation_axis(axes, table.generations)
        keys = [style.classifier_key(name, inks[name]) for name in names]
        style.legend(figure, [*keys, style.interval_key()], columns=4 * len(panels))
    return figure


def _draw_metric(axes: Axes, table: Table, scenario: ScenarioView, metric: str, inks: Inks) -> None:
    style.floor(axes, table.floor(scenario.name, scenario.classifiers, metric))
    curves = [table.mean(scenario.name, name, metric) for name in scenario.classifiers]
    for classifier, curve in zip(scenario.classifiers, curves, strict=True):
        if _few(scenario):
            trials = table.trials(scenario.name, classifier, metric)
            axes.scatter(
                trials["generation"].astype(float), trials["value"], s=7,
                color=inks[classifier][0], alpha=0.35, linewidths=0, zorder=2,
            )  # fmt: skip
        style.line(axes, curve, inks[classifier], 0.13 if _few(scenario) else 0.08)
    style.unless_defined(axes, curves)


def _few(scenario: ScenarioView) -> bool:
    """Few enough classifiers that dots and full bands in one panel can still be told apart."""
    return len(scenario.classifiers) <= 3


def ranked(table: Table, scenario: ScenarioView) -> Figure:
    """Part (b): accuracy by rank of the subgroup, one panel per classifier.

    Solid: re-sorted at each generation (eq. 5). Dashed: ranks from generation 0, cross-fitted.
    Figure 7 sets the worst against the best: the ranks between are thin, and the slopes of both
    ends stand over each panel where the table has them.
    """
    ranks = table.subgroups(scenario.name, RANKED_ACCURACY.name)
    colours = style.ramp(len(ranks))[: len(ranks)]  # no ranks where every trial collapsed
    ends_alone = traits_of(scenario.dataset).ends_alone
    if ends_alone:
        colours[1:-1] = [BETWEEN] * len(colours[1:-1])
    columns = min(5, max(1, len(scenario.classifiers)))
    rows = -(-len(scenario.classifiers) // columns)
    with rc_context(STYLE):
        width = (
            11 if columns > 2 else max(4.4 * columns + 0.6, 8.6 if ends_alone else 6.4)
        )  # the legend needs so much
        figure = Figure(figsize=(width, 2.7 * rows + 0.7), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes, classifier in zip(panels.flat, scenario.classifiers, strict=False):
            _draw_ranks(
                axes, table, scenario.name, classifier, dict(zip(ranks, colours, strict=True))
            )
            if ends_alone:
                _write_slopes(axes, table, scenario.name, classifier)
            style.generation_axis(axes, table.generations)
        for axes in panels.flat[len(scenario.classifiers) :]:
            axes.set_visible(False)
        for axes in panels[:, 0]:
            axes.set_ylabel("accuracy (fraction correct)")
        keys = _rank_keys(ranks, colours)
        wide = ends_alone and columns > 2
        style.legend(figure, keys, columns=len(keys) if wide else max(3, len(ranks)))
    return figure


def _draw_ranks(
    axes: Axes, table: Table, scenario: str, classifier: str, colours: Mapping[str, str]
) -> None:
    axes.set_title(classifier)
    key = RANKED_ACCURACY.name
    curves = {rank: table.mean(scenario, classifier, key, rank) for rank in colours}
    style.unless_defined(axes, curves.values())
    for i, (rank, colour) in enumerate(colours.items()):
        solid = curves[rank]
        if colour == BETWEEN:
            axes.plot(solid.generations, solid.value, color=BETWEEN, lw=1.0, zorder=1.5)
            continue
        floor = metrics.with_suffix(key, "floor")
        style.floor(axes, table.mean(scenario, classifier, floor, rank))
        aside = 0.006 * len(solid) * (i - (len(colours) - 1) / 2)  # so that none hides another
        axes.vlines(solid.generations + aside, solid.low, solid.high, color=colour, lw=1.3)
        style.line(axes, solid, (colour, "o"), 0.0)
        dashed = table.mean(scenario, classifier, RANKED_CROSS_FITTED.name, rank)
        axes.plot(dashed.generations, dashed.value, color=colour, lw=1.1, ls=CROSS_FITTED)


def _write_slopes(axes: Axes, table: Table, scenario: str, classifier: str) -> None:
    """``worst −0.012 [−0.020, −0.004] / generation`` under the panel's title, for both ends."""
    found = [
        f"{name}: {cell.value} {cell.interval}"
        for rank, name in slopes.ends(table, scenario)
        if (cell := slopes.slope(table, scenario, classifier, rank))
    ]
    if not found:
        return
    axes.set_title(classifier, pad=10 + 9 * (len(found) + 1))
    text = "\n".join(["slope per generation", *found])
    axes.text(
        0, 1.02, text, transform=axes.transAxes, color=SOFT, fontsize=7, linespacing=1.25,
        va="bottom",
    )  # fmt: skip


def _classifier_keys(scenario: ScenarioView, inks: Inks) -> list[Key]:
    lines = [style.classifier_key(name, inks[name]) for name in scenario.classifiers]
    dots = Line2D([], [], color=SOFT, marker="o", lw=0, ms=2.6, alpha=0.6, label="single trials")
    return [
        *lines,
        *([dots] if _few(scenario) else []),
        Patch(color=SOFT, alpha=0.3, lw=0, label="interval of the mean"),
        style.floor_key(),
    ]


def _rank_keys(ranks: Sequence[str], colours: Sequence[str]) -> list[Key]:
    ends = {0: " (worst)", len(ranks) - 1: " (best)"} if len(ranks) > 1 else {}
    named = [
        "ranks between" if colour == BETWEEN else rank + ends.get(i, "")
        for i, (rank, colour) in enumerate(zip(ranks, colours, strict=True))
    ]
    return [
        *(
            Line2D([], [], color=BETWEEN, lw=1.0, label=label)
            if colour == BETWEEN
            else Line2D([], [], color=colour, marker="o", lw=1.8, ms=4.5, label=label)
            for label, colour in dict(zip(named, colours, strict=True)).items()
        ),
        Line2D([], [], color=SOFT, lw=1.8, label="re-sorted each generation (eq. 5)"),
        Line2D([], [], color=SOFT, lw=1.1, ls=CROSS_FITTED, label="cross-fitted ranks"),
        style.floor_key(),
    ]
