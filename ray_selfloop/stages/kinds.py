"""All kinds of stages, in the order in which a chain has them."""

from collections.abc import Mapping
from typing import Any

from ray_selfloop.graph import Node, Stage
from ray_selfloop.stages import (
    axes,
    claims,
    classifier,
    dataset,
    equation6,
    fairness,
    generator,
    generator_metrics,
    kept,
    latents,
    probe,
    reference,
    samples,
    scorer,
    search,
)
from ray_selfloop.stages.kind import Kind, Training

ALL: tuple[Kind[Any], ...] = (
    dataset.KIND,
    probe.KIND,
    scorer.KIND,
    reference.KIND,
    latents.KIND,
    generator.KIND,
    samples.KIND,
    kept.KIND,
    search.KIND,
    classifier.KIND,
    generator_metrics.KIND,
    fairness.KIND,
    equation6.KIND,
    claims.KIND,
    axes.KIND,
)
NAMED: Mapping[str, Kind[Any]] = {kind.name: kind for kind in ALL}
VERSIONS: Mapping[str, int] = {kind.name: kind.version for kind in ALL}


def of(stage: Stage) -> Kind[Any]:
    return NAMED[stage.kind]


def training(stage: Stage) -> Training | None:
    """What a stage trains, where that decides what it needs."""
    kind = of(stage)
    return kind.needs.training(kind.read(stage.config)) if kind.needs.training else None


def line_of(node: Node) -> str:
    """The line of a progress or cost table that a stage counts in."""
    name, place = node.stage.kind.replace("_", " "), node.places[0]
    return f"{name} {place.classifier}" if of(node.stage).by_network else name
