"""The worst subgroup against the best, in numbers: how figure 7's lines move. Computes nothing.

Reads the cross-fitted ranks alone: ranks that are sorted anew on the same images move by
themselves.
"""

from typing import Any

from ray_selfloop.evaluation.metrics import (
    GAP,
    RANKED_CROSS_FITTED,
    RANKED_CROSS_FITTED_SLOPE,
    with_suffix,
)
from ray_selfloop.report import numbers
from ray_selfloop.report.cells import Cell, at, signed
from ray_selfloop.report.series import Table
from ray_selfloop.report.view import ScenarioView

METRIC = RANKED_CROSS_FITTED.name
CHANGE = with_suffix(METRIC, "change")
SLOPE = RANKED_CROSS_FITTED_SLOPE.name  # without generation; a slope per generation


def ends(table: Table, scenario: str) -> list[tuple[str, str]]:
    """``(subgroup, name)`` of the worst and the best rank; empty where there are no two ranks."""
    ranks = [rank for rank in table.subgroups(scenario, METRIC) if rank != GAP]
    return [(ranks[0], "worst"), (ranks[-1], "best")] if len(ranks) > 1 else []


def slope(table: Table, scenario: str, classifier: str, subgroup: str) -> Cell | None:
    """The slope per generation with its interval; None where the table has none."""
    if (SLOPE, subgroup) not in table.measured(scenario, classifier):
        return None
    value, low, high = table.over_generations(scenario, classifier, SLOPE, subgroup)
    return Cell(numbers.signed(value), numbers.small_interval(low, high))


def rows(table: Table, scenario: ScenarioView) -> list[dict[str, Any]]:
    """Per classifier a line for the worst, the best and, of slopes, their difference."""
    found = ends(table, scenario.name)
    if not found or len(table.generations) < 2:
        return []
    return [
        {"classifier": name, "lines": _lines(table, scenario.name, name, found)}
        for name in scenario.classifiers
    ]


def _lines(
    table: Table, scenario: str, classifier: str, found: list[tuple[str, str]]
) -> list[dict[str, Any]]:
    first, last = table.generations[0], table.generations[-1]
    lines = []
    for subgroup, name in found:
        level = table.mean(scenario, classifier, METRIC, subgroup)
        change = table.mean(scenario, classifier, CHANGE, subgroup)
        shown = [at(level, first), at(level, last), signed(change, last)]
        label = f"{subgroup} ({name})"
        lines.append(
            {"label": label, "cells": shown, "slope": slope(table, scenario, classifier, subgroup)}
        )
    gap = slope(table, scenario, classifier, GAP)
    if gap:
        lines.append({"label": GAP, "cells": [Cell(""), Cell(""), Cell("")], "slope": gap})
    return lines
