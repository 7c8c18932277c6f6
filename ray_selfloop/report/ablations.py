"""Figure 8 and its table: what removing the object does to accuracy. Computes nothing.

A large drop means that a classifier needs the object; one that reads spurious cues hardly notices.
"""

from collections.abc import Iterator
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from ray_selfloop.evaluation import metrics
from ray_selfloop.report import behind, cells, style
from ray_selfloop.report.series import Table
from ray_selfloop.report.style import STYLE, Inks
from ray_selfloop.report.view import ScenarioView

KINDS = {
    "object_gray": "object gray",
    "box_gray": "box gray",
    "box_neighbour": "box from neighbour",
}
MEASURES = (metrics.ABLATION_ACCURACY, metrics.ABLATION_DROP, metrics.ABLATION_DROP_RELATIVE)


def kinds(table: Table, scenario: ScenarioView) -> list[str]:
    """The ablations that the scenario's table has; empty for a dataset without masks."""
    names = scenario.classifiers
    found = {metric for name in names for metric, _ in table.measured(scenario.name, name)}
    return [kind for kind in KINDS if f"{metrics.ABLATION_DROP.name}/{kind}" in found]


def undefined(table: Table, scenario: ScenarioView) -> str:
    """``box from neighbour 12``: in how many test images ablations mean nothing; "" for none."""
    found = kinds(table, scenario)
    name = metrics.ABLATION_UNDEFINED.name
    counts = {kind: table.count(scenario.name, f"{name}/{kind}") for kind in found}
    return ", ".join(f"{KINDS[kind]} {count:.0f}" for kind, count in counts.items() if count > 0)


def title(metric: str) -> str:
    """``Drop, object gray`` for ``ablation_drop/object_gray``; the title of any other metric."""
    stem, _, kind = metric.partition("/")
    found = metrics.METRICS.get(stem)
    if found is None:
        return metric
    return f"{found.heading}, {KINDS[kind]}" if kind in KINDS else found.title


def figure(table: Table, scenario: ScenarioView, inks: Inks) -> Figure:
    """Rows: kinds of ablation; columns: accuracy, drop, relative drop; one line per classifier."""
    found, names = kinds(table, scenario), scenario.classifiers
    with rc_context(STYLE):
        drawn = Figure(figsize=(11, 2.15 * len(found) + 0.7), layout="constrained")
        panels = drawn.subplots(len(found), len(MEASURES), squeeze=False, sharex=True)
        for row, kind in enumerate(found):
            for axes, measure in zip(panels[row], MEASURES, strict=True):
                key = f"{measure.name}/{kind}"
                curves = [table.mean(scenario.name, name, key) for name in names]
                style.dodged(axes, curves, [inks[name] for name in names])
                style.unless_defined(axes, curves)
                axes.set_title(f"{measure.heading}: {KINDS[kind]}")
                axes.set_ylabel(measure.axis)
                style.generation_axis(axes, table.generations)
                axes.set_xlabel(style.X_LABEL if row == len(found) - 1 else "")
        keys = [style.classifier_key(name, inks[name]) for name in names]
        style.legend(drawn, [*keys, style.interval_key()])
    return drawn


def columns(found: list[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Heads of the table: ``(group, [(metric key, name under it), ...])``."""
    heads: list[tuple[str, list[tuple[str, str]]]] = [
        ("clean", [(metrics.ACCURACY.name, metrics.ACCURACY.long)])
    ]
    heads += [
        (measure.long, [(f"{measure.name}/{kind}", KINDS[kind]) for kind in found])
        for measure in MEASURES
    ]
    return [
        *heads,
        ("relative foreground", [(metrics.RELATIVE_FOREGROUND_SENSITIVITY.name, "sensitivity")]),
    ]


def rows(table: Table, scenario: ScenarioView) -> list[dict[str, Any]]:
    """Per classifier: every column at the first and last generation, and the change between."""
    keys = [key for _, members in columns(kinds(table, scenario)) for key, _ in members]
    return [
        {"classifier": name, "lines": list(_lines(table, scenario.name, name, keys))}
        for name in scenario.classifiers
    ]


def _lines(
    table: Table, scenario: str, classifier: str, keys: list[str]
) -> Iterator[dict[str, Any]]:
    first, last = table.generations[0], table.generations[-1]
    asked = [(f"generation {first}", "", first)]
    if last > first:
        asked += [(f"generation {last}", "", last), ("change", "change", last)]
    for label, suffix, generation in asked:
        write = cells.change if suffix else cells.at
        curves = (
            table.mean(scenario, classifier, metrics.with_suffix(key, suffix)) for key in keys
        )
        shown = [write(curve, generation) for curve in curves]
        counted = "" if suffix else behind.cell(table, scenario, classifier, generation)
        yield {"label": label, "cells": shown, "behind": counted}
