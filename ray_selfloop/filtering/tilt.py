"""Resampling to given subgroup shares: the interventions that use subgroup labels, and are named so
wherever they are used (arms `subgroup_matched`, `subgroup_balanced`; `queue.tilt`, `.balance`).

Pure: knows nothing of images, of how subgroups were read, or of what trains on the result.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.images.imageset import Ids
from ray_selfloop.images.split import apportion

Shares = NDArray[np.float64]


@dataclass(frozen=True)
class Resampled:
    """rows: into the kept set, as many of each class as before, ascending.

    repeated: rows beyond a row's first use. missing: images that a subgroup without any row should
    have given; the other subgroups of the class gave them, so that class sizes stay.
    """

    rows: Ids
    repeated: int
    missing: int


def target(shares: Shares, tilt: float) -> Shares:
    """Within-class shares ``(1 - tilt) * original + tilt * majority``, ``(C, G)``.

    shares: original within-class subgroup shares. tilt in 0..1: at 0 the original shares, at 1 the
    largest subgroup of each class alone (the first one where several are largest). The total
    variation from the original shares is ``tilt * (1 - largest share)``.
    """
    majority = np.zeros_like(shares)
    majority[np.arange(len(shares)), shares.argmax(axis=1)] = 1.0
    return np.asarray((1.0 - tilt) * shares + tilt * majority)


def resample(labels: Ids, subgroups: Ids, wanted: Shares, rng: np.random.Generator) -> Resampled:
    """Draw each class anew with the within-class shares ``wanted`` ``(C, G)``.

    labels, subgroups: int64 ``(n,)``; a subgroup outside 0..G-1 (none clear) is never drawn unless
    its class has nothing else. Without replacement as far as a subgroup reaches, then again from
    its beginning in another order.
    """
    chosen: list[Ids] = []
    repeated = missing = 0
    for label in np.unique(labels):
        of = [np.flatnonzero((labels == label) & (subgroups == g)) for g in range(wanted.shape[1])]
        size = int((labels == label).sum())
        have = np.array([len(rows) > 0 for rows in of])
        if not have.any():
            chosen.append(np.flatnonzero(labels == label))
            missing += size
            continue
        asked = apportion(size, wanted[label])
        shares = np.where(have, wanted[label], 0.0)
        counts = apportion(size, shares if shares.sum() > 0 else have.astype(np.float64))
        missing += int(asked[~have].sum())
        for rows, count in zip(of, counts.tolist(), strict=True):
            chosen.append(_cycle(rows, count, rng))
            repeated += max(count - len(rows), 0)
    rows = np.sort(np.concatenate(chosen)) if chosen else np.empty(0, np.int64)
    return Resampled(rows, repeated, missing)


def parity(labels: Ids, subgroups: Ids, groups: int, rng: np.random.Generator) -> Resampled:
    """Draw a set of the same size anew, each class x subgroup as often as every other.

    labels, subgroups: int64 ``(n,)``; a subgroup outside 0..groups-1 (none clear) is never drawn.
    Without replacement as far as a cell reaches, then again from its beginning in another order;
    a cell without any row is left out, and the others give its part; ``missing`` counts them. All
    rows stay as they are where no subgroup is clear.
    """
    cells = np.where((subgroups >= 0) & (subgroups < groups), labels * groups + subgroups, -1)
    there = [np.flatnonzero(cells == cell) for cell in np.unique(cells[cells >= 0])]
    counts = apportion(len(labels), np.ones(len(there))).tolist() if there else []
    chosen = [_cycle(rows, count, rng) for rows, count in zip(there, counts, strict=True)]
    repeated = sum(max(n - len(rows), 0) for rows, n in zip(there, counts, strict=True))
    missing = len(np.unique(labels)) * groups - len(there)
    rows = np.sort(np.concatenate(chosen)) if chosen else np.arange(len(labels))
    return Resampled(rows, repeated, missing)


def _cycle(rows: Ids, count: int, rng: np.random.Generator) -> Ids:
    """``count`` of ``rows``, each once before any is taken again."""
    rounds = [rng.permutation(rows) for _ in range(-(-count // max(len(rows), 1)))]
    return np.concatenate([np.empty(0, np.int64), *rounds])[:count]
