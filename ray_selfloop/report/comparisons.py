"""Figures that set things side by side: arms, parts of the effect, A_t. Draws; computes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, cycle, product

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ray_selfloop.claims.decomposition import PARTS
from ray_selfloop.evaluation import metrics
from ray_selfloop.report import ablations, style
from ray_selfloop.report.groups import Group
from ray_selfloop.report.series import Table
from ray_selfloop.report.style import SOFT, STYLE, Inks, Key
from ray_selfloop.report.view import Part, ScenarioView

Dash = tuple[float, tuple[float, ...]]


@dataclass(frozen=True)
class ArmInk:
    """How a control arm is drawn: colour says which classifier, so arms differ in gray and dash."""

    colour: str
    dash: Dash
    marker: str


ARM_INKS = (
    ArmInk("#202124", (0, (4, 1.5)), "s"),
    ArmInk("#7a8087", (0, (1, 1)), "^"),
    ArmInk("#4a4f55", (0, (6, 1.5, 1, 1.5)), "D"),
    ArmInk("#9aa0a6", (0, (4, 1.5)), "v"),
    ArmInk("#202124", (0, (1, 1)), "P"),
    ArmInk("#7a8087", (0, (6, 1.5, 1, 1.5)), "X"),
    ArmInk("#4a4f55", (0, (2, 1)), "o"),
    ArmInk("#9aa0a6", (0, (8, 2)), "s"),
)
STEP = 0.35  # between the intervals at the right, in generations


def compared(table: Table, scenario: ScenarioView) -> tuple[tuple[str, str, str], ...]:
    """``(metric, title, unit)`` of what arms are compared by: without subgroups no fairness, and
    the drop under the first ablation where there is one."""
    of_rates = [(one.name, one.title, one.axis) for one in metrics.shown(metrics.Shown.ARMS)]
    if scenario.subgroup_names:
        return tuple(of_rates)
    kinds = ablations.kinds(table, scenario)[:1]
    drops = [
        (f"{one.name}/{kind}", f"{one.title}, {ablations.KINDS[kind]}", one.axis)
        for kind in kinds
        for one in ablations.MEASURES[1:]
    ]
    return (of_rates[0], *drops)


def arms(table: Table, group: Group, inks: Inks) -> Figure:
    """Treatment beside each control: rows = classifiers, columns = what `compared` names.

    The treatment has its band; each arm's interval at the last generation stands at the right.
    """
    owners, shown = group.main.classifiers, compared(table, group.main)
    with rc_context(STYLE):
        figure = Figure(figsize=(11, 2.3 * len(owners) + 0.7), layout="constrained")
        panels = figure.subplots(len(owners), len(shown), squeeze=False, sharex=True)
        for (row, name), (column, (metric, title, unit)) in product(
            enumerate(owners), enumerate(shown)
        ):
            axes = panels[row, column]
            _draw_arms(axes, table, group, (name, metric), inks[name])
            axes.set_title(f"{name}: {title}")
            axes.set_ylabel(unit)
            right = 0.4 + STEP * (len(group.scenarios) + 1)
            style.generation_axis(axes, table.generations, right)
            axes.set_xlabel(style.X_LABEL if row == len(owners) - 1 else "")
        style.legend(figure, _arm_keys(group), columns=6)
    return figure


def _draw_arms(
    axes: Axes, table: Table, group: Group, what: tuple[str, str], ink: tuple[str, str]
) -> None:
    classifier, metric = what
    style.floor(axes, table.floor(group.main.name, [classifier], metric))
    style.line(axes, table.mean(group.main.name, classifier, metric), ink, 0.17)
    for arm, look in zip(group.controls, cycle(ARM_INKS), strict=False):
        curve = table.mean(arm.name, classifier, metric)
        axes.plot(curve.generations, curve.value, color=look.colour, lw=1.2, ls=look.dash)
    looks = chain([ink], ((look.colour, look.marker) for look in cycle(ARM_INKS)))
    for i, (arm, (colour, marker)) in enumerate(zip(group.scenarios, looks, strict=False)):
        value, low, high = table.mean(arm.name, classifier, metric).at(table.generations[-1])
        place = table.generations[-1] + 0.5 + STEP * i
        axes.vlines([place], [low], [high], color=colour, lw=1.6)
        axes.plot([place], [value], color=colour, marker=marker, ms=4.5, mec="white", mew=0.3)


def _arm_keys(group: Group) -> list[Key]:
    keys: list[Key] = [
        Line2D([], [], color=style.COLOURS[0], lw=1.8, label=f"{group.main.arm} (in colour)"),
        Patch(color=SOFT, alpha=0.25, lw=0, label="its interval"),
    ]
    for arm, look in zip(group.controls, cycle(ARM_INKS), strict=False):
        keys.append(
            Line2D(
                [], [], color=look.colour, ls=look.dash, lw=1.2, marker=look.marker, ms=4,
                label=arm.arm,
            )
        )  # fmt: skip
    bar = Line2D([], [], color=SOFT, marker="|", ms=8, mew=1.6, lw=0,
                 label="at the right: intervals at the last generation")  # fmt: skip
    floor = [style.floor_key()] if group.main.subgroup_names else []
    return [*keys, *floor, bar]


def decomposition(parts: Sequence[Part], inks: Inks) -> Figure:
    """The total effect and its parts, interval under interval: rows metrics, columns classifiers.

    Under the total, each part's interval stands at its own effect; the parts add up to the total.
    """
    asked = list(dict.fromkeys(p.metric for p in parts))
    owners = list(dict.fromkeys(p.classifier for p in parts))
    shape = (len(asked), len(owners))
    with rc_context(STYLE):
        size = (min(11, 3.4 * len(owners) + 1.2), 1.75 * len(asked) + 0.5)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(*shape, squeeze=False, sharex="row", sharey=True)
        for (row, metric), (column, name) in product(enumerate(asked), enumerate(owners)):
            axes = panels[row, column]
            found = {p.part: p for p in parts if (p.metric, p.classifier) == (metric, name)}
            _draw_parts(axes, found, inks.get(name, (SOFT, "o"))[0])
            short = ablations.title(metric)
            axes.set_title(f"{name or 'all classifiers'}: {short}")
            axes.set_xlabel(f"effect on {short} ({metrics.describe(metric).unit})")
    return figure


def _draw_parts(axes: Axes, found: dict[str, Part], colour: str) -> None:
    axes.axvline(0.0, color="#202124", lw=0.9, ls=(0, (2, 2)), zorder=1)
    for i, name in enumerate(PARTS):
        part = found.get(name)
        if part is None or np.isnan(part.value):
            axes.text(0.0, i, " not defined", va="center", fontsize=7.5, color=SOFT)
            continue
        ink, width = (colour, 3.4) if name == "total" else (SOFT, 2.2)
        axes.hlines([i], [part.low], [part.high], color=ink, lw=width, zorder=2)
        axes.plot([part.value], [i], "o", color=ink, ms=5.5, mec="white", mew=0.8, zorder=3)
    axes.set_yticks(range(len(PARTS)), list(PARTS))
    axes.set_ylim(len(PARTS) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def amplification(
    table: Table, scenarios: Sequence[tuple[str, ScenarioView]], inks: Inks
) -> Figure:
    """A_t over generations, one panel per scenario, one line per classifier with intervals.

    scenarios: title of the panel, and the scenario.
    """
    columns = min(3, max(1, len(scenarios)))
    rows = -(-len(scenarios) // columns)
    with rc_context(STYLE):
        size = (min(11, 4.6 * columns + 0.8), 2.7 * rows + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes, (title, scenario) in zip(panels.flat, scenarios, strict=False):
            _draw_amplification(axes, table, scenario, inks)
            axes.set_title(title)
            style.generation_axis(axes, table.generations)
            axes.set_xlabel("generation t")
        for axes in panels.flat[len(scenarios) :]:
            axes.set_visible(False)
        for axes in panels[:, 0]:
            axes.set_ylabel("$A_t$ = B(t+1) / B(t) (ratio)")
        owners = dict.fromkeys(c for _, s in scenarios for c in s.classifiers)
        one = Line2D([], [], color="#202124", lw=0.9, ls=(0, (2, 2)), label="no change")
        style.legend(figure, [*(style.classifier_key(n, inks[n]) for n in owners), one])
    return figure


def _draw_amplification(axes: Axes, table: Table, scenario: ScenarioView, inks: Inks) -> None:
    axes.axhline(1.0, color="#202124", lw=0.9, ls=(0, (2, 2)), zorder=1)
    names = scenario.classifiers
    curves = [table.mean(scenario.name, name, metrics.AMPLIFICATION.name) for name in names]
    style.dodged(axes, curves, [inks[name] for name in names])
    style.unless_defined(axes, curves, "not defined: B is under its noise floor")
