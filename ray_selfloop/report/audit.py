"""What the filter kept: heat maps of keep rates, shares before and after, thresholds."""

from collections.abc import Iterable
from typing import Any

from ray_selfloop.report import cells, numbers
from ray_selfloop.report.quality import of_chain
from ray_selfloop.report.series import Table
from ray_selfloop.report.view import FilterAudit, ScenarioView


def maps(table: Table, scenario: ScenarioView) -> list[dict[str, Any]]:
    """Per chain owner: keep rates by generation (all, subgroups, classes), and by cell at the end.

    Without subgroups the classes stand in their place (``by`` says which). Means over loop seeds;
    a row without numbers is left out.
    """
    return [_map(table, scenario, chain) for chain in table.chains(scenario.name)]


def _map(table: Table, scenario: ScenarioView, chain: str) -> dict[str, Any]:
    generations = [n for n in table.generations if n > 0]
    overall = table.keep_rate(scenario.name, chain)

    def row(name: str, cls: str, subgroup: str) -> dict[str, Any]:
        curve = table.keep_rate(scenario.name, chain, cls, subgroup)
        shown = [cells.heat(curve, overall, n) for n in generations]
        return {"name": name, "cells": shown if len(curve) else []}

    rows = [row("all", "", "")]
    rows += [row(name, "", name) for name in scenario.subgroup_names]
    classes = [row(name, name, "") for name in scenario.class_names]
    if not scenario.subgroup_names:
        rows, classes = rows + classes, []
    return {
        "title": of_chain("Keep rate", chain),
        "by": "subgroup" if scenario.subgroup_names else "class",
        "rows": [r for r in rows if r["cells"]],
        "classes": [r for r in classes if r["cells"]],
        "by_cell": _by_cell(table, scenario, chain, generations[-1]) if generations else [],
    }


def _by_cell(
    table: Table, scenario: ScenarioView, chain: str, generation: int
) -> list[dict[str, Any]]:
    overall = table.keep_rate(scenario.name, chain)
    rows = []
    for cls in scenario.class_names:
        curves = [table.keep_rate(scenario.name, chain, cls, g) for g in scenario.subgroup_names]
        if any(map(len, curves)):
            shown = [cells.heat(curve, overall, generation) for curve in curves]
            rows.append({"name": cls, "cells": shown})
    return rows


def rows(table: Table, scenario: ScenarioView) -> list[dict[str, Any]]:
    """One row per chain and generation: counts, keep rates, shares before and after."""
    return [_row(table, scenario, audit) for audit in scenario.audits]


def _row(table: Table, scenario: ScenarioView, audit: FilterAudit) -> dict[str, Any]:
    own = {g: table.keep_rate(scenario.name, audit.classifier, "", g, audit.loop_seed)
           for g in scenario.subgroup_names}  # fmt: skip
    return {
        "of": audit,
        "chain": of_chain(f"loop seed {audit.loop_seed}", audit.classifier),
        "share": numbers.number(audit.kept / max(audit.generated, 1)),
        "subgroups": [
            {"rate": cells.at(curve, audit.generation), "shares": _shares(audit, name)}
            for name, curve in own.items()
        ],
        "thresholds": _span(audit.thresholds.values()),
    }


def _shares(audit: FilterAudit, name: str) -> str:
    """``share 0.333 → 0.343 (+0.010)``."""
    before, after = audit.share_before[name], audit.share_after[name]
    ends = f"{numbers.number(before)} → {numbers.number(after)}"
    return f"share {ends} ({numbers.signed(after - before)})"


def _span(values: Iterable[float]) -> str:
    """``0.214 to 0.331``, or one number where all are alike."""
    found = sorted(values)
    return " to ".join(dict.fromkeys(map(numbers.number, found[:1] + found[-1:])))


def thresholds(scenario: ScenarioView) -> list[dict[str, Any]]:
    """Per chain: rows = classes, columns = generations; the lowest score that was kept."""
    tables = []
    for owner in dict.fromkeys((a.loop_seed, a.classifier) for a in scenario.audits):
        audits = [a for a in scenario.audits if (a.loop_seed, a.classifier) == owner]
        names = dict.fromkeys(name for a in audits for name in a.thresholds)
        shown = [{"name": name or "all classes", "cells": _column(audits, name)} for name in names]
        if shown:
            title = of_chain(f"Lowest kept score, loop seed {owner[0]}", owner[1])
            heads = [a.generation for a in audits]
            tables.append({"title": title, "generations": heads, "rows": shown})
    return tables


def _column(audits: Iterable[FilterAudit], name: str) -> list[str]:
    return [
        numbers.number(a.thresholds[name]) if name in a.thresholds else numbers.NO_RESULT
        for a in audits
    ]
