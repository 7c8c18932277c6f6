"""Data stacking and mixing (sec. 3.1, 3.2): what a classifier or generator trains on.

Pure bookkeeping over generations, class labels and row numbers. Knows nothing of images, storage
or how samples were scored. Generation n's training set is the one after its kept set was pushed:
the classifiers of generation n use it, and so does the generator of generation n + 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ray_selfloop import seeding
from ray_selfloop.config.loop import Loop, Mixing, Queue
from ray_selfloop.filtering.cut import draws_needed
from ray_selfloop.images.imageset import Ids
from ray_selfloop.images.split import apportion, stratified_cut


class Parts(NamedTuple):
    """What a training set is put together from: D0 or not, and which generations' kept sets."""

    original: bool
    kept: tuple[int, ...]


@dataclass(frozen=True)
class TrainingRows:
    """A training set as row numbers.

    original: rows of D0. kept: generation -> rows of its kept set, generations ascending.
    asked: generated images that the mixing ratio asks for (`all`: what the queue holds).
    statement: empty, or what could not be supplied.
    """

    original: Ids
    kept: dict[int, Ids]
    asked: int
    statement: str

    @property
    def supplied(self) -> int:
        """Generated images in the training set."""
        return sum(len(rows) for rows in self.kept.values())


def parts(regime: str, generation: int, capacity: int) -> Parts:
    """Which sets make up the training set of ``generation``; generation 0 is D0 in any regime."""
    if generation == 0:
        return Parts(True, ())
    if regime == "replace":
        return Parts(False, (generation,))
    first = max(1, generation - capacity + 1) if regime == "stack" else 1
    return Parts(True, tuple(range(first, generation + 1)))


def volume(queue: Queue, regime: str, originals: int) -> int:
    """S, images per generation, for ``originals`` = |D0|; at least 1.

    null: |D0| under ``replace``, else |D0| / capacity; fractions are rounded to whole images.
    """
    asked = queue.volume
    if isinstance(asked, int):
        return asked
    if asked is None:
        parts_of = 1 if regime == "replace" else queue.capacity
    else:
        parts_of = int(asked.partition("/")[2] or 1)
    return max(1, round(originals / parts_of))


def class_volume(total: int, original_labels: Ids, num_classes: int) -> Ids:
    """``total`` apportioned to the classes by D0's class shares, ``(num_classes,)``."""
    counts = np.bincount(original_labels, minlength=num_classes).astype(np.float64)
    return apportion(total, counts)


def class_draws(
    queue: Queue, total: int, original_labels: Ids, num_classes: int, drop: float, cut: str
) -> Ids:
    """How many samples to generate of each class, ``(num_classes,)``.

    total: S. ``before_filtering``: S in all. ``after_filtering``: as many as keep S when the share
    ``drop`` is cut: exact in each class under ``per_class``, in all under ``global``; under
    ``range`` what is kept depends on the scores and S is only aimed at.
    """
    if queue.count == "before_filtering":
        return class_volume(total, original_labels, num_classes)
    if cut != "per_class":
        return class_volume(draws_needed(total, drop), original_labels, num_classes)
    wanted = class_volume(total, original_labels, num_classes)
    return np.array([draws_needed(int(count), drop) for count in wanted], np.int64)


def _asked(mixing: Mixing, originals: int, available: int) -> int:
    """Generated images that the ratio asks for."""
    if mixing.ratio == "all":
        return available
    if mixing.of == "original":
        return round(mixing.ratio * originals)
    return round(originals * mixing.ratio / (1 - mixing.ratio))


def images(loop: Loop, queue: Queue, generation: int, originals: int) -> int:
    """Size of the training set of ``generation`` when every kept set holds S images.

    What a control that trains on D0 alone needs to make the treatment's optimiser steps. Under
    ``range`` and ``before_filtering`` cuts the kept sets differ from S, and so do the steps.
    """
    wanted = parts(loop.regime, generation, queue.capacity)
    pool = len(wanted.kept) * volume(queue, loop.regime, originals)
    if loop.regime == "accumulate_subsample" or generation == 0:
        return originals
    supplied = min(_asked(queue.mixing, originals, pool), pool)
    return supplied + (originals if wanted.original else 0)


def _split_by_generation(rows: Ids, sizes: Mapping[int, int]) -> dict[int, Ids]:
    """Rows of the joined kept sets -> generation -> rows within that kept set."""
    out: dict[int, Ids] = {}
    start = 0
    for generation, size in sizes.items():
        inside = rows[(rows >= start) & (rows < start + size)]
        out[generation] = inside - start
        start += size
    return out


def _subsample(labels: Ids, size: int, seed: int, *purpose: str | int) -> Ids:
    """``size`` of the rows by a seeded draw that keeps the class shares of ``labels``; sorted."""
    return stratified_cut(labels, size, seeding.rng(seed, *purpose))[1]


def training_rows(
    loop: Loop,
    queue: Queue,
    generation: int,
    original_labels: Ids,
    kept_labels: Mapping[int, Ids],
    seed: int,
) -> TrainingRows:
    """The training set of ``generation``.

    kept_labels: generation -> labels of its kept set, at least for ``parts``' generations.
    Draws (mixing, ``accumulate_subsample``) depend on ``seed``, the generation and the labels;
    they keep the class shares of what they draw from.
    """
    wanted = parts(loop.regime, generation, queue.capacity)
    sizes = {g: len(kept_labels[g]) for g in wanted.kept}
    pool = np.concatenate([np.empty(0, np.int64), *(kept_labels[g] for g in wanted.kept)])
    originals = np.arange(len(original_labels) if wanted.original else 0)
    if loop.regime == "accumulate_subsample" and generation > 0:
        joined = np.concatenate([original_labels, pool])
        rows = _subsample(joined, len(original_labels), seed, "accumulate_subsample", generation)
        originals = rows[rows < len(original_labels)]
        rows = rows[rows >= len(original_labels)] - len(original_labels)
        asked = len(rows)
    else:
        asked = _asked(queue.mixing, len(original_labels), len(pool)) if generation else 0
        rows = np.arange(len(pool))
        if asked < len(pool):
            rows = _subsample(pool, asked, seed, "mixing", generation)
    statement = _statement(generation, asked, len(rows))
    return TrainingRows(originals, _split_by_generation(rows, sizes), asked, statement)


def _statement(generation: int, asked: int, supplied: int) -> str:
    if supplied >= asked:
        return ""
    return (
        f"generation {generation}: the mixing ratio asks for {asked} generated images, the queue "
        f"holds {supplied}; trained on those, without filling up with real data"
    )
