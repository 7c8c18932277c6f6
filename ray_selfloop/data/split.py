"""Seeded, stratified cuts and shares by largest remainder."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.data.imageset import Ids


def apportion(total: int, shares: Sequence[float] | NDArray[np.float64]) -> Ids:
    """Whole numbers that add up to ``total`` and follow ``shares`` (largest remainder).

    Ties go to the earlier entry. ``shares`` need not be normalised; they must not all be zero.
    """
    weights = np.asarray(shares, dtype=np.float64)
    exact = total * weights / weights.sum()
    counts = np.floor(exact).astype(np.int64)
    left = total - int(counts.sum())
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[:left]] += 1
    return counts


def stratified_cut(labels: Ids, size: int, rng: np.random.Generator) -> tuple[Ids, Ids]:
    """Row numbers ``(rest, cut)``: ``size`` rows drawn with the class shares of ``labels``."""
    classes, counts = np.unique(labels, return_counts=True)
    taken: list[Ids] = []
    for cls, take in zip(classes, apportion(size, counts.astype(np.float64)), strict=True):
        rows = np.flatnonzero(labels == cls)
        taken.append(rng.permutation(rows)[:take])
    cut = np.sort(np.concatenate(taken)) if taken else np.empty(0, np.int64)
    rest = np.setdiff1d(np.arange(len(labels)), cut)
    return rest, cut
