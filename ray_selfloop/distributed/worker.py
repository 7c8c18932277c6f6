"""What is done in a worker: what Ray gave it, one stage, and what it keeps between two batches.

Loads nothing of Ray's libraries and no torch: whoever is sent a task loads this file first.
"""

import os
from collections.abc import Callable
from typing import Any

import ray

from ray_selfloop.distributed import placement
from ray_selfloop.graph import Stage
from ray_selfloop.stages.kind import threads_of
from ray_selfloop.stages.run import execute, hold
from ray_selfloop.store.records import Store

Row = dict[str, Any]
Pool = Callable[[Row], Row]
_pools: dict[tuple[str, Callable[..., Pool]], Pool] = {}
"""Of the attempts that this process has worked for last: (attempt, what opens it) -> pool."""
KEPT = 2  # attempts: batches of two streams may come in turn


def run_stage(stage: Stage, root: str) -> None:
    """A stage in a Ray task."""
    release()
    hold_memory()
    execute(stage, Store(root), device())


def pooled(row: Row, opens: Callable[..., Pool], stage: Stage, root: str, attempt: str) -> Row:
    """One batch of a stream in a Ray task; networks are loaded once for an attempt and process."""
    known = dict.fromkeys(other for other, _ in _pools)
    if attempt not in known and len(known) >= KEPT:
        oldest = next(iter(known))
        for name in [name for name in _pools if name[0] == oldest]:
            del _pools[name]
    hold(threads_of(stage))  # another stage's task may have come between
    if (attempt, opens) not in _pools:
        _pools[attempt, opens] = opens(stage, root, attempt)
    return _pools[attempt, opens](row)


def release() -> None:
    """Forget the last streams: what computes another stage needs the memory of its networks."""
    _pools.clear()


def hold_memory() -> None:
    """Hold this worker to the part of a GPU's memory that Ray gave it a part of the GPU for."""
    given = ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0)
    placement.hold_memory(given, device())


def device() -> str:
    """What Ray gave this worker: `cuda` where it has a GPU, else `cpu`.

    The variable SELFLOOP_DEVICE overrides it: for GPUs that torch cannot use.
    """
    return os.environ.get("SELFLOOP_DEVICE") or ("cuda" if ray.get_gpu_ids() else "cpu")
