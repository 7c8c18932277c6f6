"""Seeded, stratified cuts and shares by largest remainder."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ray_selfloop import seeding
from ray_selfloop.errors import ConfigError
from ray_selfloop.images.imageset import Ids

HELD_OUT = 0.1  # share of the original training images that early stopping looks at


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


def cut_rows(strata: Ids, reserve: float, seed: int, names: Sequence[str]) -> tuple[Ids, Ids, Ids]:
    """Rows of D0, of the held-out tenth and of the reserve, disjoint and exhaustive.

    strata: ``(n,)``, what both cuts are stratified by (a class, or a subgroup of one);
    names: what each stratum is called. reserve: share (0..1) of what the held-out tenth leaves.
    Raises ConfigError where the reserve leaves a stratum without original images.
    """
    rest, held = stratified_cut(
        strata, round(HELD_OUT * len(strata)), seeding.rng(seed, "held_out")
    )
    keep, apart = stratified_cut(
        strata[rest], round(reserve * len(rest)), seeding.rng(seed, "reserve")
    )
    bare = np.setdiff1d(strata, strata[rest[keep]])
    if len(bare):
        raise ConfigError(
            f"dataset.reserve: {reserve:g} of {len(rest)} images leaves no original image of "
            f"{', '.join(names[stratum] for stratum in bare)}; lower it"
        )
    return rest[keep], held, rest[apart]
