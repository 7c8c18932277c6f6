"""The worst subgroup against the best, in numbers: how figure 7's lines move. Computes nothing.

Reads the cross-fitted ranks alone: ranks that are sorted anew on the same images move by
themselves.
"""

from typing import Any

from ray_selfloop.evaluation import metrics
from ray_selfloop.report.cells import Cell, at, change, signed
from ray_selfloop.report.series import Table
from ray_selfloop.report.view import ScenarioView

METRIC = metrics.RANKED_CROSS_FITTED.name
CHANGE = metrics.with_suffix(METRIC, "change")
SLOPE = metrics.RANKED_CROSS_FITTED_SLOPE.name  # without generation; a slope per generation


def ends(table: Table, scenario: str) -> list[tuple[str, str]]:
    """``(subgroup, name)`` of the worst and the best rank; empty where there are no two ranks."""
    ranks = [rank for rank in table.subgroups(scenario, METRIC) if rank != metrics.GAP]
    return [(ranks[0], "worst"), (ranks[-1], "best")] if len(ranks) > 1 else []


def slope(table: Table, scenario: str, classifier: str, subgroup: str) -> Cell | None:
    """The slope per generation with its interval; None where the table has none."""
    if (SLOPE, subgroup) not in table.measured(scenario, classifier):
        return None
    return signed(*table.over_generations(scenario, classifier, SLOPE, subgroup))


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
        moved = change(table.mean(scenario, classifier, CHANGE, subgroup), last)
        own = slope(table, scenario, classifier, subgroup)
        shown = [at(level, first), at(level, last), moved]
        lines.append({"label": f"{subgroup} ({name})", "cells": shown, "slope": own})
    gap = slope(table, scenario, classifier, metrics.GAP)
    return [*lines, {"label": metrics.GAP, "cells": [Cell("")] * 3, "slope": gap}] if gap else lines
