"""What the settings do that a sweep varies: a panel for each axis, its comparisons, a sentence for
each metric. Draws and arranges; computes nothing, and says no verdict word: all is exploratory."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ray_selfloop.claims.axes import FEW, FEWEST, RATIO
from ray_selfloop.claims.cases import CUE
from ray_selfloop.config.arms import CONTROL, TREATMENT
from ray_selfloop.evaluation.metrics import AMPLIFICATION, MD, METRICS, describe
from ray_selfloop.report import numbers, style
from ray_selfloop.report.ablations import title
from ray_selfloop.report.style import SOFT, STYLE, Inks, Key
from ray_selfloop.report.view import AxisEffect, ReportView

ASIDE = 0.08  # between networks, in parts of the smallest step of the axis
DASHED = (0, (3, 2))
MARGIN = "#eceef0"
OF_INTEREST = (MD.name, CUE, AMPLIFICATION.name)  # a line each in the terminal
MOST_LABEL, MOST_LEVEL = 24, 28  # characters of a value under a panel; of all, not slanted


@dataclass(frozen=True)
class Panel:
    """One axis in one setting of the others; rows: in the order of the stage."""

    axis: str
    setting: str
    rows: tuple[AxisEffect, ...]

    @property
    def name(self) -> str:
        return f"{self.axis} ({self.setting})" if self.setting else self.axis

    @property
    def values(self) -> list[str]:
        """Of the axis, as they are told, in the sweep's order."""
        return list(dict.fromkeys(row.at for row in self.rows if row.arm == TREATMENT.name))

    @property
    def metrics(self) -> list[str]:
        return list(dict.fromkeys(row.metric for row in self.rows))

    @property
    def networks(self) -> list[str]:
        return list(dict.fromkeys(row.classifier for row in self.rows if row.classifier))

    @property
    def compared(self) -> list[AxisEffect]:
        """Against the first value: with the control taken off where values have their own."""
        found = [row for row in self.rows if row.against]
        controlled = {row.metric for row in found if row.control}
        return [row for row in found if row.control or row.metric not in controlled]

    @property
    def changes(self) -> list[AxisEffect]:
        return [row for row in self.rows if not row.against]

    @property
    def sentences(self) -> list[str]:
        """For each metric the last value against the first, of all networks or each."""
        return [said for metric in self.metrics if (said := self._sentence(metric))]

    def _sentence(self, metric: str) -> str:
        rows = _whole([r for r in self.compared if r.metric == metric and r.at == self.values[-1]])
        parts = [f"{_of(row)}{told(row)}" for row in rows if not math.isnan(row.value)]
        what = "A" if metric == AMPLIFICATION.name else f"the change of {_long(metric)}"
        if not parts:
            return ""
        return f"{what} at {self.values[-1]} against {self.values[0]}: {'; '.join(parts)}"


def panels(view: ReportView) -> list[Panel]:
    """In the order of the sweep's axes."""
    found: dict[tuple[str, str], list[AxisEffect]] = {}
    for row in view.axes:
        found.setdefault((row.axis, row.setting), []).append(row)
    return [Panel(*place, tuple(rows)) for place, rows in found.items()]


def lines(view: ReportView) -> Iterator[tuple[str, str]]:
    """Axis and text of what an axis does to a metric: its last value against the first, where
    there is an interval; one for each axis and metric."""
    every: dict[tuple[str, str], list[str]] = {}
    for panel in panels(view):
        for row in _whole([r for r in panel.compared if r.at == panel.values[-1]]):
            if row.interval and row.metric in OF_INTEREST:
                where = f"{panel.setting}, " if panel.setting else ""
                one = f"{where}{row.at} against {row.against}: {_of(row)}{told(row)}"
                every.setdefault((panel.axis, row.metric), []).append(one)
    for (axis, metric), said in every.items():
        more = f"; {len(said) - 1} more on the page" if len(said) > 1 else ""
        yield axis, f"{title(metric)}, {said[0]}{more}"


def _whole(rows: Sequence[AxisEffect]) -> list[AxisEffect]:
    """The mean over networks of every metric that has one, else each network."""
    several = {row.metric for row in rows if not row.classifier}
    return [row for row in rows if not row.classifier or row.metric not in several]


def _long(metric: str) -> str:
    """As a sentence calls it."""
    return METRICS[metric].long if metric in METRICS else title(metric)


def _of(row: AxisEffect) -> str:
    return f"{row.classifier} " if row.classifier else "mean over the networks "


def told(row: AxisEffect) -> str:
    """``+0.012 [-0.030, +0.055] (3 chains; the interval holds 0)``."""
    ratio = row.estimand == RATIO
    value = f"× {numbers.number(row.value)}" if ratio else numbers.signed(row.value)
    chains = f"{row.chains} chain{'s' if row.chains != 1 else ''}"
    if not row.interval:
        return f"{value} ({chains}: no interval)"
    ends = (numbers.interval if ratio else numbers.small_interval)(row.low, row.high)
    none, here = (1.0, "1") if ratio else (0.0, "0")
    lies = f"lies above {here}" if row.low > none else f"holds {here}"
    lies = f"lies below {here}" if row.high < none else lies
    return f"{value} {ends} ({chains}; the interval {lies})".replace("  ", " ")


# --- the page ------------------------------------------------------------------------------------


def content(panel: Panel) -> dict[str, Any]:
    """For the template, beside the drawing."""
    few = any(row.chains < FEWEST for row in panel.compared)
    return {
        "name": panel.name,
        "axis": panel.axis,
        "told": ", ".join(panel.values),
        "sentences": panel.sentences,
        "few": f"{FEW[:1].upper()}{FEW[1:]}; the dots are the chains' own numbers" if few else "",
        "compared": [(row, _cells(row)) for row in panel.compared],
        "changes": [(row, _cells(row)) for row in panel.changes],
    }


def _cells(row: AxisEffect) -> tuple[str, str]:
    """The number and its interval."""
    if row.metric == AMPLIFICATION.name:
        ratio = "× " if row.estimand == RATIO and not math.isnan(row.value) else ""
        return f"{ratio}{numbers.number(row.value)}", numbers.interval(row.low, row.high)
    return numbers.signed(row.value), numbers.small_interval(row.low, row.high)


def figure(panel: Panel, inks: Inks) -> Figure:
    """x: the axis's values; y: the change of each metric, and A; one line for each network, its
    interval, its chains as dots; dashed: the control."""
    with rc_context(STYLE):
        shown = panel.metrics
        drawn = Figure(figsize=(max(2.9 * len(shown), 6.4), 3.5), layout="constrained")
        for axes, metric in zip(
            drawn.subplots(1, len(shown), squeeze=False).flat, shown, strict=True
        ):
            _draw(axes, panel, metric, inks)
        style.legend(drawn, _keys(panel, inks))
    return drawn


def _draw(axes: Axes, panel: Panel, metric: str, inks: Inks) -> None:
    places = dict(zip(panel.values, _places(panel.values), strict=True))
    step = min(np.diff(sorted(places.values())), default=1.0)
    of_a = metric == AMPLIFICATION.name
    margin = next(row.margin for row in panel.rows if row.metric == metric)
    if not math.isnan(margin):
        axes.axhspan(-margin, margin, color=MARGIN, zorder=0.5)
    axes.axhline(1.0 if of_a else 0.0, color="#202124", lw=0.9, ls=(0, (2, 2)), zorder=1)
    for i, name in enumerate(panel.networks):
        aside = ASIDE * step * (i - (len(panel.networks) - 1) / 2)
        own = [r for r in panel.changes if (r.metric, r.classifier) == (metric, name)]
        treated = [row for row in own if row.arm == TREATMENT.name]
        at = [places[row.at] + aside for row in treated]
        _draw_line(axes, treated, at, inks[name], ASIDE * step / 2)
        _draw_control(axes, [r for r in own if r.arm == CONTROL.name], places, inks[name][0])
    if all(math.isnan(row.value) for row in panel.changes if row.metric == metric):
        axes.text(0.5, 0.6, "not defined", transform=axes.transAxes, ha="center", color=SOFT)
    axes.set_title("A" if of_a else title(metric))
    axes.set_ylabel("factor per generation" if of_a else f"last − first ({describe(metric).unit})")
    axes.set_xticks(list(places.values()), [_label(value) for value in places])
    if len("".join(places)) > MOST_LEVEL:
        for label in axes.get_xticklabels():
            label.set(rotation=30, ha="right")
    axes.set_xlabel(panel.axis)
    ends = min(places.values()), max(places.values())
    axes.set_xlim(ends[0] - 0.3 * step, ends[1] + 0.3 * step)


def _places(values: Sequence[str]) -> list[float]:
    """Numbers where they are, words one beside the other."""
    try:
        found = [float(value) for value in values]
    except ValueError:
        return [float(i) for i in range(len(values))]
    finite = all(map(math.isfinite, found)) and len(set(found)) == len(found)
    return found if finite else [float(i) for i in range(len(values))]


def _label(value: str) -> str:
    return value if len(value) <= MOST_LABEL else f"{value[: MOST_LABEL - 1]}…"


def _draw_line(
    axes: Axes,
    rows: Sequence[AxisEffect],
    places: Sequence[float],
    ink: tuple[str, str],
    beside: float,
) -> None:
    """beside: how far the dots stand from their interval."""
    colour, marker = ink
    for row, x in zip(rows, places, strict=True):
        axes.scatter(
            [x + beside] * len(row.each), list(row.each.values()), s=14, color=colour, alpha=0.5,
            linewidths=0, zorder=2,
        )  # fmt: skip
    axes.vlines(places, [r.low for r in rows], [r.high for r in rows], color=colour, lw=1.3)
    axes.plot(
        places, [row.value for row in rows], color=colour, marker=marker, lw=1.5, ms=5,
        mec="white", mew=0.7, zorder=3,
    )  # fmt: skip


def _draw_control(
    axes: Axes, rows: Sequence[AxisEffect], places: dict[str, float], colour: str
) -> None:
    """One line across the panel where all values have one control."""
    if len(rows) == 1:
        axes.axhline(rows[0].value, color=colour, lw=1.1, ls=DASHED, zorder=1.5)
    elif rows:
        at = [places[row.at] for row in rows]
        axes.plot(at, [row.value for row in rows], color=colour, lw=1.1, ls=DASHED, zorder=1.5)


def _keys(panel: Panel, inks: Inks) -> list[Key]:
    dots = Line2D([], [], color=SOFT, marker="o", lw=0, ms=3.4, alpha=0.6, label="single chains")
    keys: list[Key] = [style.classifier_key(name, inks[name]) for name in panel.networks]
    keys += [dots, style.interval_key()] if any(r.interval for r in panel.changes) else [dots]
    keys.append(Patch(color=MARGIN, lw=0, label="margin"))
    if any(row.arm == CONTROL.name for row in panel.changes):
        keys.append(Line2D([], [], color=SOFT, lw=1.1, ls=DASHED, label=CONTROL.name))
    return keys
