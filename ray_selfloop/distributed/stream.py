"""The samples stage as a Ray Data stream: a pool that draws, a pool that scores and writes.

One row of the stream is one batch of samples, so that both pools see exactly the batches of the
stage's plan, whatever the number of workers. The input is a handful of rows in memory: it needs no
read task.
"""

import logging
import time
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset

from ray_selfloop.distributed.cluster import POOL_CPUS, device, hold_memory
from ray_selfloop.distributed.worker_errors import Notes
from ray_selfloop.graph import Stage
from ray_selfloop.images.imageset import ImageSource
from ray_selfloop.images.pictures import Pictures
from ray_selfloop.stages import samples
from ray_selfloop.stages.drawing import Draw, Score
from ray_selfloop.stages.run import hold
from ray_selfloop.stages.samples import Batch, picture_view, write_part
from ray_selfloop.store.artifacts import room_in
from ray_selfloop.store.records import Record, Store

UNLIMITED = -1  # s: machines may be long in coming, and the driver says what waits
Row = dict[str, Any]


class DrawPool:
    """One drawing worker."""

    def __init__(self, stage: Stage, root: str, attempt: str) -> None:
        store = Store(root)
        self._notes = Notes(store, stage, attempt)
        with self._notes.errors():
            work = samples.KIND.work(stage, store, device())
            hold(work.settings.threads)
            hold_memory()
            self._draw = Draw(work)

    def __call__(self, row: Row) -> Row:
        with self._notes.errors():
            batch = Batch(int(row["first"][0]), int(row["size"][0]))
            return {**row, **_sent(self._draw(batch))}


class ScorePool:
    """One scoring worker; it writes what it has scored, as part of an attempt."""

    def __init__(self, stage: Stage, root: str, attempt: str) -> None:
        self._stage, self._store, self._attempt = stage, Store(root), attempt
        self._notes = Notes(self._store, stage, attempt)
        with self._notes.errors():
            work = samples.KIND.work(stage, self._store, device())
            hold(work.settings.threads)
            hold_memory()
            self._score, self._labels = Score(work), samples.plan(work).labels
            self._view, self._decoders = picture_view(work.inputs), work.inputs.decoders

    def __call__(self, row: Row) -> Row:
        with self._notes.errors():
            return self._scored(row)

    def _scored(self, row: Row) -> Row:
        batch = Batch(int(row["first"][0]), int(row["size"][0]))
        images = self._received(row)
        scores = self._score(batch, images)
        folder = self._store.workplace(self._stage.key, self._attempt)
        with room_in(folder):
            part = write_part(folder, batch, self._labels, images, scores)
        size, sha256 = self._store.contribute(self._stage.key, self._attempt, part)
        return {"name": [part.name], "bytes": [size], "sha256": [sha256]}

    def _received(self, row: Row) -> ImageSource:
        if "images" in row:
            return np.ascontiguousarray(row["images"][0])
        assert self._view is not None, "files are sent of picture datasets alone"
        whole, ends = bytes(row["encoded"][0]), np.asarray(row["ends"][0]).tolist()
        parts = [whole[first:end] for first, end in pairwise([0, *ends])]
        return Pictures(parts, self._view, self._decoders)


def _sent(images: ImageSource) -> Row:
    """One batch as the columns of one row: an array's pixels, or pictures' files end to end."""
    if not isinstance(images, Pictures):
        return {"images": np.asarray(images)[np.newaxis]}
    ends = np.cumsum([len(encoded) for encoded in images.encoded])
    return {"encoded": np.array([b"".join(images.encoded)], object), "ends": ends[np.newaxis]}


def stream(stage: Stage, root: str, workers: int, gpus: float) -> Record:
    """Run a samples stage over fixed pools of ``workers`` each; returns its record."""
    store, started = Store(root), time.monotonic()
    found = store.find(stage.key)
    if found:
        return found
    work = samples.KIND.work(stage, store, device())
    batches = samples.plan(work).batches
    with store.attempt(stage.key) as folder:
        pools = _pools(batches, (stage, root, folder.name), min(workers, len(batches)), gpus)
        try:
            rows = pools.take_all()
        except Exception:
            Notes(store, stage, folder.name).check()
            raise
        parts = {str(row["name"]): (int(row["bytes"]), str(row["sha256"])) for row in rows}
        summary = samples.summary(work, parts)
        return store.publish(stage, folder, summary, time.monotonic() - started, parts)


def _pools(batches: Sequence[Batch], arguments: tuple[Any, ...], size: int, gpus: float) -> Dataset:
    """Batches through ``size`` workers of each pool, which take ``arguments``."""
    context = DataContext.get_current()
    context.execution_no_progress_timeout_s = UNLIMITED
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # Ray 2.64 takes the argument away; until then there is no other way to say it
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
    pool: dict[str, Any] = {
        "fn_constructor_args": arguments,
        "compute": ActorPoolStrategy(size=size),
        "batch_size": 1,
        "num_cpus": POOL_CPUS,
        "num_gpus": gpus / 2,
        "max_restarts": 0,  # a lost worker ends the attempt, and the driver makes another
    }
    rows = [pa.table({"first": [batch.first], "size": [batch.size]}) for batch in batches]
    return ray.data.from_arrow(rows).map_batches(DrawPool, **pool).map_batches(ScorePool, **pool)
