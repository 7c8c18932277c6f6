"""Data stacking and mixing (sec. 3.1, 3.2): what a classifier or generator trains on.

Pure bookkeeping over generations, class labels and row numbers. Knows nothing of images, storage
or how samples were scored. Generation n's training set is the one after its kept set was pushed:
the classifiers of generation n use it, and so does the generator of generation n + 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ray_selfloop import seeding
from ray_selfloop.config.loop import Mixing, Queue
from ray_selfloop.filtering.cut import draws_needed
from ray_selfloop.images.imageset import Ids
from ray_selfloop.images.split import apportion, stratified_cut


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
        return sum(len(rows) for rows in self.kept.values())


def kept(regime: str, generation: int, capacity: int) -> tuple[int, ...]:
    """The generations whose kept sets are in the training set of ``generation``.

    D0 is in it beside them, but under ``replace`` from generation 1 on.
    """
    first = {"stack": max(1, generation - capacity + 1), "replace": generation}.get(regime, 1)
    return tuple(range(first, generation + 1)) if generation else ()


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


def images(regime: str, queue: Queue, generation: int, originals: int) -> int:
    """Size of the training set of ``generation`` when every kept set holds S images.

    What a control that trains on D0 alone needs to make the treatment's optimiser steps. Under
    ``range`` and ``before_filtering`` cuts the kept sets differ from S, and so do the steps.
    """
    if regime == "accumulate_subsample" or generation == 0:
        return originals
    sets = len(kept(regime, generation, queue.capacity))
    pool = sets * volume(queue, regime, originals)
    supplied = min(_asked(queue.mixing, originals, pool), pool)
    return supplied + (0 if regime == "replace" else originals)


def training_rows(
    regime: str,
    queue: Queue,
    generation: int,
    original_labels: Ids,
    kept_labels: Mapping[int, Ids],
    seed: int,
) -> TrainingRows:
    """The training set of ``generation``.

    kept_labels: generation -> labels of its kept set, at least for those in the training set.
    Draws (mixing, ``accumulate_subsample``) depend on ``seed``, the generation and the labels;
    they keep the class shares of what they draw from.
    """
    wanted, n = kept(regime, generation, queue.capacity), len(original_labels)
    pool = np.concatenate([np.empty(0, np.int64), *(kept_labels[g] for g in wanted)])
    originals = np.arange(0 if regime == "replace" and generation else n)
    rows = np.arange(len(pool))
    if regime == "accumulate_subsample" and generation:
        draw = seeding.rng(seed, "accumulate_subsample", generation)
        _, drawn = stratified_cut(np.concatenate([original_labels, pool]), n, draw)
        originals, rows = drawn[drawn < n], drawn[drawn >= n] - n
        asked = len(rows)
    else:
        asked = _asked(queue.mixing, n, len(pool)) if generation else 0
        if asked < len(pool):
            _, rows = stratified_cut(pool, asked, seeding.rng(seed, "mixing", generation))
    ends = np.cumsum([len(kept_labels[g]) for g in wanted], dtype=np.int64)
    parts = np.split(rows, np.searchsorted(rows, ends[:-1])) if wanted else []
    starts = [0, *ends[:-1].tolist()]
    own = {g: part - start for g, part, start in zip(wanted, parts, starts, strict=False)}
    statement = ""
    if len(rows) < asked:
        statement = (
            f"generation {generation}: the mixing ratio asks for {asked} generated images, the "
            f"queue holds {len(rows)}; trained on those, without filling up with real data"
        )
    return TrainingRows(originals, own, asked, statement)
