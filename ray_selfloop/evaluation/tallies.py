"""Counts of correct test rows per class and subgroup: as observed, resampled, and permuted.

Decides what a resampling unit is. Every draw is one set of weights (or of permuted subgroups) for
the test rows, applied to all trials at once: seeds and generations share it. Knows no metric.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from ray_selfloop import seeding
from ray_selfloop.evaluation.predictions import Floats, Ids, TestSet

if TYPE_CHECKING:
    from scipy.sparse import csc_array

Singles = NDArray[np.float32]  # holds whole numbers below 2**24 exactly


@dataclass(frozen=True)
class Counts:
    """B draws, T trials, C classes, G subgroups: how many of which rows an event happened to.

    hits: ``(B, T, C, G)`` rows that it happened to. support: ``(C, G)`` rows, the same in every
    draw. together: ``(T, T, C, G)``, observed rows that it happened to in both of two trials,
    whatever the draws. subgroup_names: name the random streams that are not of test rows.
    """

    hits: Floats
    support: Floats
    together: Floats
    subgroup_names: tuple[str, ...]

    @property
    def first(self) -> Self:
        """The observed counts alone."""
        names = ("hits", "half_hits", "half_support", "spread")
        drawn = {n: values for n in names if (values := getattr(self, n, None)) is not None}
        return replace(self, **{name: values[:1] for name, values in drawn.items()})


@dataclass(frozen=True)
class Tally(Counts):
    """Of each class and subgroup, the rows that are classified correctly.

    half_hits: ``(B, T, C, G)`` and half_support ``(B, C, G)``: the same for one half of the units.
    spread: ``(B, T, C)``, sum over units of sum_g (x_ug - mean_g x_ug)^2 with x the correctness of
        unit u shown in subgroup g; None where units are not crossed with subgroups.
    units: ``(C,)`` resampling units of each class.
    """

    half_hits: Floats
    half_support: Floats
    spread: Floats | None
    units: Floats


@dataclass(frozen=True)
class _ClassRows:
    """One class in canonical order (by unit, then subgroup's name), so that neither the order of
    rows nor the numbering of subgroups matters.

    rows, subgroups, half: ``(n,)``. strata: row positions that are resampled among themselves;
    where crossed, positions of units.
    """

    label: int
    rows: Ids
    subgroups: Ids
    half: NDArray[np.bool_]
    strata: list[Ids]
    keys: list[int]  # the smallest unit of each stratum: names its random stream


def _by_class(test: TestSet, seed: int) -> Iterator[_ClassRows]:
    names = np.argsort(np.argsort(test.subgroup_names))
    order = np.lexsort((names[test.subgroups], test.units, test.labels))
    distinct, index = np.unique(test.units, return_inverse=True)
    coin = seeding.rng(seed, "halves").random(len(distinct))[index]
    for label in range(test.classes):
        rows = order[test.labels[order] == label]
        subgroups, units = test.subgroups[rows], test.units[rows]
        step = test.groups if test.crossed else 1
        groups = np.zeros(len(rows), np.int64) if test.crossed else subgroups
        strata = [np.flatnonzero(groups[::step] == g) for g in np.unique(groups)]
        half = np.zeros(len(rows), np.bool_)
        for g in np.unique(groups):
            members = np.flatnonzero(groups == g)
            ranks = np.argsort(np.argsort(coin[rows[members]], kind="stable"), kind="stable")
            half[members] = ranks // step < len(members) // step // 2
        keys = [int(units[::step][stratum].min()) for stratum in strata]
        yield _ClassRows(label, rows, subgroups, half, strata, keys)


def _resample_weights(part: _ClassRows, step: int, resamples: int, seed: int) -> Singles:
    """``(1 + resamples, n)``: how often each row is drawn; draw 0 is the observed set (ones)."""
    weights = np.ones((1 + resamples, len(part.rows) // step), np.float32)
    for stratum, key in zip(part.strata, part.keys, strict=True):
        size = len(stratum)
        drawn = seeding.rng(seed, "bootstrap", key).integers(size, size=(resamples, size))
        flat = (drawn + size * np.arange(resamples)[:, None]).ravel()
        counts = np.bincount(flat, minlength=resamples * size).reshape(resamples, size)
        weights[1:, stratum] = counts
    return np.repeat(weights, step, axis=1)


def _permuted_subgroups(part: _ClassRows, crossed: bool, draws: int, seed: int, g: int) -> Ids:
    """``(draws, n)``: subgroups permuted within the class, or within each unit where crossed."""
    stream = seeding.rng(seed, "permutation", min(part.keys, default=part.label))
    labels = np.tile(part.subgroups, (draws, 1))
    if crossed:
        return stream.permuted(labels.reshape(-1, g), axis=1).reshape(draws, -1)
    return np.take_along_axis(labels, np.argsort(stream.random(labels.shape), axis=1), axis=1)


def _count(
    weights: Singles, subgroups: Ids, part: _ClassRows, correct: Singles, groups: int
) -> tuple[Floats, Floats, Floats]:
    """hits and half_hits ``(B, T, G)``, half_support ``(B, G)`` of one class.

    weights ``(B or 1, n)``, subgroups ``(B or 1, n)``, correct ``(n, T)``.
    """
    found = []
    for g in range(groups):
        member = weights * (subgroups == g)
        half = member * part.half
        found.append((member @ correct, half @ correct, half.sum(axis=1)))
    hits, halves, supports = (np.stack(of, axis=-1) for of in zip(*found, strict=True))
    return hits.astype(np.float64), halves.astype(np.float64), supports.astype(np.float64)


def _spread(correct: Singles, groups: int) -> Floats:
    """``(units, T)``: within-unit sum of squares around the unit's mean; correct ``(n, T)``."""
    total = correct.reshape(-1, groups, correct.shape[1]).sum(axis=1, dtype=np.float64)
    return total - total**2 / groups  # x^2 = x for a 0/1 value


def _together(correct: Singles, subgroups: Ids, groups: int) -> Floats:
    """``(T, T, G)`` of one class; correct ``(n, T)``."""
    members = [correct[subgroups == g] for g in range(groups)]
    return np.stack([x.T @ x for x in members], axis=-1).astype(np.float64)


Draw = Callable[[_ClassRows, int], tuple[Singles, Ids, Callable[[Floats], Floats]]]
"""Of a class and the rows of a unit: weights and subgroups of its rows, ``(B or 1, n)`` each, and
what sums its units' spread ``(units, T)`` to ``(B, T)``."""


def _tally(correct: NDArray[np.bool_], test: TestSet, seed: int, draw: Draw) -> Tally:
    step = test.groups if test.crossed else 1
    parts, spreads, units, together = [], [], [], []
    for part in _by_class(test, seed):
        x = correct[:, part.rows].T.astype(np.float32)
        weights, subgroups, summed = draw(part, step)
        parts.append(_count(weights, subgroups, part, x, test.groups))
        units.append(len(part.rows) // step)
        together.append(_together(x, part.subgroups, test.groups))
        if test.crossed:
            spreads.append(summed(_spread(x, step)))
    hits, halves, supports = (np.stack(column, axis=-2) for column in zip(*parts, strict=True))
    return Tally(
        hits=hits,
        support=_cells(test),
        half_hits=halves,
        half_support=supports,
        spread=np.stack(spreads, axis=-1) if spreads else None,
        units=np.asarray(units, np.float64),
        together=np.stack(together, axis=-2),
        subgroup_names=test.subgroup_names,
    )


def _cells(test: TestSet) -> Floats:
    """Test rows ``(C, G)``."""
    cells = np.bincount(
        test.labels * test.groups + test.subgroups, minlength=test.classes * test.groups
    )
    return cells.astype(np.float64).reshape(test.classes, test.groups)


def resampled(correct: NDArray[np.bool_], test: TestSet, resamples: int, seed: int) -> Tally:
    """Observed counts (draw 0) and ``resamples`` bootstrap draws of the test units.

    correct: ``(T, n)``. Units are drawn within the class where crossed, else within class x
    subgroup; so the support of every cell is the same in every draw.
    """
    return _tally(correct, test, seed, _resample(resamples, seed))


def permuted(correct: NDArray[np.bool_], test: TestSet, draws: int, seed: int) -> Tally:
    """Counts of ``draws`` permutations of the subgroups among the test rows of the same class.

    Crossed subgroups are permuted within the unit: an image keeps its own difficulty, and a
    permutation leaves the spread.
    """
    return _tally(correct, test, seed, _permute(test, draws, seed))


def mistaken(predictions: Ids, test: TestSet, resamples: int, seed: int) -> Counts:
    """Of each class and subgroup the rows of *other* classes that are taken for it, in the draws of
    `resampled`; predictions ``(T, n)``, support: all rows of other classes."""
    return _mistaken(predictions, test, seed, _resample(resamples, seed))


def permuted_mistaken(predictions: Ids, test: TestSet, draws: int, seed: int) -> Counts:
    """The same in the draws of `permuted`."""
    return _mistaken(predictions, test, seed, _permute(test, draws, seed))


def _resample(resamples: int, seed: int) -> Draw:
    def draw(part: _ClassRows, step: int) -> tuple[Singles, Ids, Callable[[Floats], Floats]]:
        weights = _resample_weights(part, step, resamples, seed)
        of_units = weights[:, ::step].astype(np.float64)
        return weights, part.subgroups[None], lambda each: of_units @ each

    return draw


def _permute(test: TestSet, draws: int, seed: int) -> Draw:
    def draw(part: _ClassRows, step: int) -> tuple[Singles, Ids, Callable[[Floats], Floats]]:
        labels = _permuted_subgroups(part, test.crossed, draws, seed, test.groups)
        ones = np.ones((1, 1), np.float32)
        return ones, labels, lambda each: np.broadcast_to(each.sum(axis=0), (draws, each.shape[1]))

    return draw


def _mistaken(predictions: Ids, test: TestSet, seed: int, draw: Draw) -> Counts:
    step, trials, support = test.groups if test.crossed else 1, len(predictions), _cells(test)
    hits, together = np.zeros(()), np.zeros((trials, trials, *support.shape))
    for part in _by_class(test, seed):
        taken = _taken_for(predictions[:, part.rows], part.label, test.classes)
        weights, subgroups, _ = draw(part, step)
        found = [(taken.T @ (weights * (subgroups == g)).T).T for g in range(test.groups)]
        shape = len(found[0]), trials, test.classes
        hits = hits + np.stack([of.reshape(shape) for of in found], axis=-1)
        for c in range(test.classes):
            of_class = taken[:, c :: test.classes]
            for g in range(test.groups):
                both = of_class[part.subgroups == g]
                together[:, :, c, g] += (both.T @ both).toarray()
    others = support.sum(axis=0) - support
    return Counts(np.asarray(hits), others, together, test.subgroup_names)


def _taken_for(predictions: Ids, label: int, classes: int) -> "csc_array":
    """1 where a row of a class is taken for another, ``(n, T * C)``; predictions ``(T, n)``."""
    from scipy.sparse import csc_array  # here: a plan shall not load it

    trial, row = np.nonzero(predictions != label)
    columns = trial * classes + predictions[trial, row]
    shape = predictions.shape[1], len(predictions) * classes
    return csc_array((np.ones(len(row), np.float32), (row, columns)), shape=shape)
