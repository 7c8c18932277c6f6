"""End states on the page, drawn and counted. Arranges; computes nothing."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.end_states import STATES, WORKING
from ray_selfloop.evaluation.states import told
from ray_selfloop.report import style
from ray_selfloop.report.series import Table
from ray_selfloop.report.view import StateCount

SHOWN = (metrics.ACCURACY, metrics.MD, metrics.DI_MIN_MAX)
Counts = Sequence[StateCount]


def content(table: Table, counted: Counts, always: bool) -> dict[str, Any]:
    """For the template: blocks of the curves where a trial does not work (always: of all)."""
    shown = {
        of: curve
        for of, curve in _by_curve(counted).items()
        if always or any(set(one.trials) != {WORKING} for one in curve)
    }
    return {
        "trials": sum(n for one in counted for n in one.trials.values()),
        "words": STATES,
        "metrics": SHOWN,
        "blocks": [_block(table, of) for of in shown.values()],
        "figure": style.svg(_figure(shown)) if shown else b"",
    }


def _figure(curves: dict[tuple[str, str], list[StateCount]]) -> Figure:
    """Share of the trials in each end state, stacked, a panel for each scenario and classifier."""
    columns = min(len(curves), 3)
    rows = -(-len(curves) // columns)
    with rc_context(style.STYLE):
        figure = Figure(figsize=(4.7 * columns, 2.9 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for panel, (names, counted) in zip(panels, curves.items(), strict=False):
            _stacked(panel, ", ".join(names), counted)
        for panel in panels[len(curves) :]:
            panel.set_axis_off()
        style.legend(figure, [Patch(**_ink(i), label=word) for i, word in enumerate(STATES)])
    return figure


def _stacked(panel: Axes, title: str, counted: Counts) -> None:
    """Bars of width 1, one state on the other."""
    below = np.zeros(len(counted))
    for i, word in enumerate(STATES):
        share = np.array([one.trials.get(word, 0) / sum(one.trials.values()) for one in counted])
        panel.bar([one.generation for one in counted], share, 1.0, below, **_ink(i))
        below += share
    panel.set_title(title, loc="left")
    panel.set_ylim(0, 1)
    panel.set_ylabel("share of trials")
    style.generation_axis(panel, [one.generation for one in counted], right=0.5)


def _ink(state: int) -> dict[str, Any]:
    """Of a state: told apart without colour too."""
    colour, hatch = ((style.COLOURS[5], ""), (style.COLOURS[1], "//"), (style.COLOURS[4], ".."),
                     (style.SOFT, "xx"))[state]  # fmt: skip
    return {"facecolor": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.0}


def _by_curve(counted: Counts) -> dict[tuple[str, str], list[StateCount]]:
    """By scenario and classifier, generations ascending."""
    curves: dict[tuple[str, str], list[StateCount]] = {}
    for one in sorted(counted, key=lambda one: one.generation):
        curves.setdefault((one.scenario, one.classifier), []).append(one)
    return curves


def _block(table: Table, counted: list[StateCount]) -> dict[str, Any]:
    first = counted[0]
    return {
        "title": f"{first.scenario}, {first.classifier}",
        "rows": [_row(table, one) for one in counted],
    }


def _row(table: Table, one: StateCount) -> dict[str, Any]:
    """The counts, and the means or, in their place, the counts in words."""
    at = one.scenario, one.classifier
    means = [table.mean(*at, m.name).at(one.generation)[0] for m in SHOWN]
    single = len(one.trials) == 1 and not math.isnan(means[0])
    return {
        "generation": one.generation,
        "counts": [one.trials.get(word, 0) for word in STATES],
        "means": means if single else [],
        "told": told(one.trials),
    }
