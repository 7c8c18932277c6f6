"""Run one stage here and now: find its record, or compute and publish it.

The same in a Tune trial, in a Ray task and in a test. A stage's threads and precision are part of
its key and are enforced here; where it runs is not this module's business.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import threadpool_limits

from ray_selfloop.graph import Graph, Stage
from ray_selfloop.stages import kinds
from ray_selfloop.stages.kind import Settings
from ray_selfloop.store.memory import forget_peak
from ray_selfloop.store.records import Record, Store


def execute(stage: Stage, store: Store, device: str = "cpu", **how: Any) -> Record:
    """The record of ``stage``: found, or computed on ``device`` and published.

    how: what else the kind's own function is given.
    """
    found = store.find(stage.key)
    if found:
        return found
    started = time.monotonic()
    forget_peak()
    kind = kinds.of(stage)
    with store.attempt(stage.key) as folder:
        work = kind.work(stage, store, device, folder)
        with computing(work.settings, device):
            summary = kind.compute(work, **how)
        return store.publish(stage, folder, summary, time.monotonic() - started)


def run_here(graph: Graph, store: Store) -> None:
    """Every stage of a graph in this process, in order: the simplest thing that is right."""
    for node in graph:
        execute(node.stage, store)


def hold(threads: int) -> None:
    """Hold BLAS, OpenMP and torch of this process to ``threads`` from now on."""
    import torch

    _exact()
    torch.set_num_threads(threads)
    threadpool_limits(threads)


def _exact() -> None:
    """A GPU's float32 is float32: torch would let convolutions compute in TF32."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def computing(settings: Settings, device: str) -> Iterator[None]:
    """Compute with a stage's threads and in its precision within the block.

    Autocast must not keep weights as it has cast them: until the block's end they would stay as
    they were at the first step.
    """
    import torch

    lower, where = settings.precision != "float32", torch.device(device).type
    _exact()
    with (
        limited(settings.threads),
        torch.autocast(where, torch.bfloat16, enabled=lower, cache_enabled=False),
    ):
        yield


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Hold BLAS, OpenMP and torch to ``threads`` within the block."""
    import torch

    torch.set_num_threads(threads)
    with threadpool_limits(threads):
        yield
