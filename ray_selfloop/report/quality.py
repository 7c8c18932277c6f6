"""Table 1: quality of the generated data, generations in columns. Computes nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ray_selfloop.config.arms import TREATMENT
from ray_selfloop.evaluation.metrics import FID, Metric, describe
from ray_selfloop.report import cells, definitions
from ray_selfloop.report.groups import Group, dataset, initialization, other_axes
from ray_selfloop.report.series import Table
from ray_selfloop.report.view import ScenarioView


@dataclass(frozen=True)
class Block:
    """One metric: its definition and a row (dataset, initialization, cells) for each scenario."""

    metric: str
    split: str
    about: Metric[..., Any]
    rows: list[dict[str, Any]]


def fid_measured(table: Table, groups: Sequence[Group]) -> bool:
    """Whether any scenario has a FID."""
    measures = (m for g in groups for s in g.scenarios for m, _ in table.generator_measures(s.name))
    return any(metric == FID.name for metric in measures)


def blocks(table: Table, scenarios: Sequence[ScenarioView]) -> list[Block]:
    """In the page's order, FID first; scenarios without generated data have no row."""
    keys = dict.fromkeys(k for s in scenarios for k in table.generator_measures(s.name))
    return [
        Block(metric, split, describe(metric), list(_rows(table, scenarios, metric, split)))
        for metric, split in definitions.ordered(keys)
    ]


def _rows(
    table: Table, scenarios: Sequence[ScenarioView], metric: str, split: str
) -> Iterable[dict[str, Any]]:
    for scenario in scenarios:
        for chain in table.chains(scenario.name):
            curve = table.generator(scenario.name, chain, metric, split)
            if len(curve):
                columns = [n for n in table.generations if n > 0]
                yield {
                    "dataset": of_chain(dataset(scenario) or scenario.title, chain),
                    "start": _start(scenario),
                    "cells": [cells.at(curve, n) for n in columns],
                }


def _start(scenario: ScenarioView) -> str:
    """Initialisation, and whatever else tells this scenario from the others."""
    arm = () if scenario.arm == TREATMENT.name else (scenario.arm,)
    return ", ".join([initialization(scenario), *other_axes(scenario), *arm])


def of_chain(name: str, chain: str) -> str:
    """A name with whose chain it is, where each classifier has its own."""
    return f"{name} · chain of {chain}" if chain else name
