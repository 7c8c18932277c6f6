"""What is published of a plan, with its places: what everything said of a run is read from."""

from collections.abc import Iterator
from typing import Any

from ray_selfloop.config.sweep import Scenario
from ray_selfloop.graph import Node, Place, Stage
from ray_selfloop.planning import Plan
from ray_selfloop.stages.kind import Kind
from ray_selfloop.store.records import Record


def published(plan: Plan, kind: Kind[Any]) -> Iterator[tuple[Node, Record]]:
    for node in plan.graph.of_kind(kind.name):
        if node.stage.key in plan.records:
            yield node, plan.records[node.stage.key]


def of_scenario(
    plan: Plan, kind: Kind[Any], scenario: Scenario
) -> Iterator[tuple[Place, Stage, Record]]:
    """Published stages of one kind in one scenario, by place."""
    found = [
        (place, node.stage, plan.records[node.stage.key])
        for place, node in plan.graph.placed(kind.name, scenario.name)
        if node.stage.key in plan.records
    ]
    yield from sorted(found, key=lambda entry: entry[0])
