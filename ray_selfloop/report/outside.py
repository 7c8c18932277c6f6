"""What the page shows of a table that others made beside what it shows of a sweep: the end states,
drawn and counted, and the changes. Arranges; computes nothing."""

import math
from typing import Any

from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.end_states import STATES
from ray_selfloop.report.series import Table
from ray_selfloop.report.view import Outside, ReportView, StateCount

SHOWN = (metrics.ACCURACY, metrics.MD, metrics.DI_MIN_MAX)


def content(table: Table, view: ReportView) -> dict[str, Any]:
    """For the template."""
    found = view.outside
    assert found is not None, "asked of a table alone"
    blocks = [_block(table, of) for of in _by_curve(found).values()]
    effects = found.effects.to_dict("records")
    return {"words": STATES, "metrics": SHOWN, "blocks": blocks, "effects": effects, "figure": ""}


def _by_curve(found: Outside) -> dict[tuple[str, str], list[StateCount]]:
    """By scenario and classifier, generations ascending."""
    curves: dict[tuple[str, str], list[StateCount]] = {}
    for one in sorted(found.states, key=lambda one: one.generation):
        curves.setdefault((one.scenario, one.classifier), []).append(one)
    return curves


def _block(table: Table, states: list[StateCount]) -> dict[str, Any]:
    first = states[0]
    return {
        "title": f"{first.scenario}, {first.classifier}",
        "rows": [_row(table, one) for one in states],
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
        "told": ", ".join(f"{n} {word}" for word, n in one.trials.items()),
    }
