"""What MLflow is to hold of a run."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ray_selfloop.conclusion import asrun
from ray_selfloop.conclusion.published import published
from ray_selfloop.graph import Place
from ray_selfloop.planning import Plan
from ray_selfloop.progress import Progress
from ray_selfloop.stages import classifier, generator_metrics
from ray_selfloop.stages.kind import Kind
from ray_selfloop.tracking.layout import Artifact, TrackedSweep


def tracked_sweep(
    plan: Plan,
    progress: Progress,
    results: pd.DataFrame,
    files: Mapping[str, list[Artifact]],
) -> TrackedSweep:
    return TrackedSweep(
        name=plan.sweep.name,
        key=plan.sweep.name,
        results=results,
        params={scenario.name: asrun.differing(scenario) for scenario in plan.scenarios},
        program=asrun.tags(),
        published={p: ms for p, ms in _times(plan, classifier.KIND) if p.seed >= 0},
        generators={
            (place.scenario, place.loop_seed, place.generation): ms
            for place, ms in _times(plan, generator_metrics.KIND)
        },
        failed=frozenset(
            place
            for key in progress.failed
            for place in plan.graph.nodes[key].places
            if place.seed >= 0
        ),
        artifacts=files,
    )


def _times(plan: Plan, kind: Kind[Any]) -> Iterator[tuple[Place, int]]:
    for node, record in published(plan, kind):
        for place in node.places:
            yield place, round(record.published * 1000)
