"""The samples stage as a Ray Data stream: a pool that draws, a pool that scores and writes.

One row of the stream is one batch of samples, so that both pools see exactly the batches of the
stage's plan, whatever the number of workers. The input is a handful of rows in memory: it needs no
read task. On GPUs the pools are actors, which give the memory back; on CPUs they are tasks, which
find the processes of earlier stages with all libraries loaded, and Ray Data makes one task of the
two: a batch is drawn and scored in one place.
"""

import logging
import math
import time
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, TaskPoolStrategy

from ray_selfloop.distributed.cluster import POOL_CPUS
from ray_selfloop.distributed.worker import Row, device, hold_memory, pooled
from ray_selfloop.distributed.worker_errors import Notes
from ray_selfloop.graph import Stage
from ray_selfloop.images.imageset import ImageSource
from ray_selfloop.images.pictures import Pictures
from ray_selfloop.stages import samples
from ray_selfloop.stages.run import hold
from ray_selfloop.stages.samples import Batch, picture_view, write_part
from ray_selfloop.store.artifacts import room_in
from ray_selfloop.store.records import Record, Store

UNLIMITED = -1  # s: machines may be long in coming, and the driver says what waits
WORTH = 8  # batches for which a task more at once is worth that another process loads networks


class DrawPool:
    """One drawing worker."""

    def __init__(self, stage: Stage, root: str, attempt: str) -> None:
        store = Store(root)
        self._notes = Notes(store, stage, attempt)
        with self._notes.errors():
            from ray_selfloop.stages.drawing import Draw  # loads torch, which the driver can spare

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
            from ray_selfloop.stages.drawing import Score

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
    """Run a samples stage over ``workers`` pairs of workers; returns its record."""
    store, started = Store(root), time.monotonic()
    found = store.find(stage.key)
    if found:
        return found
    work = samples.KIND.work(stage, store, device())
    batches = samples.plan(work).batches
    with store.attempt(stage.key) as folder:
        pools = _pools(batches, (stage, root, folder.name), workers, gpus)
        try:
            rows = pools.take_all()
        except Exception:
            Notes(store, stage, folder.name).check()
            raise
        parts = {str(row["name"]): (int(row["bytes"]), str(row["sha256"])) for row in rows}
        summary = samples.summary(work, parts)
        return store.publish(stage, folder, summary, time.monotonic() - started, parts)


def _rows(batches: Sequence[Batch]) -> Dataset:
    """One row, in a block of its own, for each batch."""
    context = DataContext.get_current()
    context.execution_no_progress_timeout_s = UNLIMITED
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # Ray 2.64 takes the argument away; until then there is no other way to say it
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
    rows = [pa.table({"first": [batch.first], "size": [batch.size]}) for batch in batches]
    return ray.data.from_arrow(rows)


def _pools(
    batches: Sequence[Batch], arguments: tuple[Any, ...], workers: int, gpus: float
) -> Dataset:
    """Batches through what draws and what scores; a lost worker ends the attempt: the driver makes
    another."""
    pool: dict[str, Any] = {"batch_size": 1, "num_cpus": POOL_CPUS}
    rows, count = _rows(batches), len(batches)
    if gpus:
        pool |= {"compute": ActorPoolStrategy(size=min(workers, count)), "num_gpus": gpus / 2}
        pool |= {"fn_constructor_args": arguments, "max_restarts": 0}
        return rows.map_batches(DrawPool, **pool).map_batches(ScorePool, **pool)
    at_once = min(2 * workers, math.ceil(count / WORTH))
    pool |= {"compute": TaskPoolStrategy(at_once), "max_retries": 0}
    drawn = rows.map_batches(pooled, fn_args=(DrawPool, *arguments), **pool)
    return drawn.map_batches(pooled, fn_args=(ScorePool, *arguments), **pool)
