"""Run one stage here and now: find its record, or compute and publish it.

The same in a Tune trial, in a Ray task and in a test. A stage's threads are part of its key and are
enforced here; where it runs is not this module's business.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from ray_selfloop.graph import Graph, Stage
from ray_selfloop.stages import (
    claims,
    data,
    measures,
    samples,
    search,
    subgroups,
    training,
)
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.store.records import Record, Store

Function = Callable[[Stage, Inputs, Path, str], Mapping[str, Any]]

FUNCTIONS: Mapping[str, Function] = {
    "dataset": data.dataset,
    "probe": subgroups.probe,
    "scorer": training.scorer,
    "latents": training.latents,
    "generator": training.generator,
    "samples": samples.samples,
    "kept": samples.kept,
    "search": search.search,
    "classifier": training.classifier,
    "reference": measures.reference,
    "generator_metrics": measures.generator_metrics,
    "fairness": measures.fairness,
    "dynamics": measures.dynamics,
    "claims": claims.claims,
}


def execute(stage: Stage, store: Store, device: str = "cpu") -> Record:
    """The record of ``stage``: found, or computed on ``device`` and published."""
    found = store.find(stage.key)
    if found:
        return found
    started = time.monotonic()
    with store.attempt(stage.key) as folder, limited(stage.config.get("threads", 1)):
        summary = FUNCTIONS[stage.kind](stage, Inputs(stage, store), folder, device)
        return store.publish(stage, folder, summary, time.monotonic() - started)


def run_here(graph: Graph, store: Store) -> None:
    """Every stage of a graph in this process, in order: the simplest thing that is right."""
    for node in graph:
        execute(node.stage, store)


def hold(threads: int) -> None:
    """Hold BLAS, OpenMP and torch of this process to ``threads`` from now on."""
    import torch

    torch.set_num_threads(threads)
    threadpool_limits(threads)


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Hold BLAS, OpenMP and torch to ``threads`` within the block."""
    import torch

    torch.set_num_threads(threads)
    with threadpool_limits(threads):
        yield
