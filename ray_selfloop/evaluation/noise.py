"""Draws around rates that scatter as the true ones do, not as the observed ones.

Decides how the test images' noise is told from true differences. Observed rates hold noise, and a
resample adds it once more: gaps of resampled rates show what two doses of noise do. Here the
noise's share is taken out of the observed rates, and the resamples' deviations are laid around what
is left. Knows no metric.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from ray_selfloop import seeding
from ray_selfloop.evaluation.fairness import ratio
from ray_selfloop.evaluation.predictions import Floats, Ids
from ray_selfloop.evaluation.tallies import Counts, Tally

Counted = TypeVar("Counted", bound=Counts)

STRETCH = 3.0  # most that a pattern which happens to be small is blown up by


def deviations(tally: Counts) -> Floats:
    """``(R, T, C, G)``: resampled less observed rates, times ``sqrt(n / (n - 1))``, so that their
    variance is the observed rates' sampling variance (Rao and Wu 1988). NaN without support."""
    n = tally.support
    scale = ratio(n, np.maximum(n - 1.0, 1.0)) ** 0.5
    return scale * ratio(tally.hits[1:] - tally.hits[:1], n)


def _apart(rates: Floats, n: Floats) -> Floats:
    """Rates less their class's accuracy, 0 without support; ``(..., C, G)``."""
    known = np.where(n > 0, rates, 0.0)
    return np.where(n > 0, known - _over(known, n, -1), 0.0)


def _over(values: Floats, n: Floats, axis: int) -> Floats:
    """Mean over classes (-2) or subgroups (-1), weighted by test rows; the axis is kept."""
    total = (n * values).sum(axis=axis, keepdims=True)
    return np.nan_to_num(ratio(total, n.sum(axis=axis, keepdims=True)))


def _excess(values: Floats, noise: Floats, n: Floats, pool: Ids) -> Floats:
    """Mean of ``values^2 - noise`` over the cells that have rows and over the trials of a ``pool``;
    values ``(..., T, C, G)``, noise without the leading axes, n without T -> ``(..., T, 1, 1)``."""
    used = np.broadcast_to(n > 0, noise.shape[1:])
    mean = np.where(used, values**2 - noise, 0.0).sum(axis=(-2, -1)) / max(int(used.sum()), 1)
    for label in np.unique(pool):
        mean[..., pool == label] = mean[..., pool == label].mean(axis=-1, keepdims=True)
    return np.asarray(mean[..., None, None])


def _kept(size: Floats, noise: Floats) -> Floats:
    """``sqrt(size / (size + noise))``: takes deviations of true variance ``size`` plus noise to the
    truth's size; 0 where there is neither."""
    return np.nan_to_num(ratio(size, size + noise)) ** 0.5


def _mirror(size: Floats, noise: Floats) -> Floats:
    """Which factor takes deviations of variance ``noise + size``, size < 0, to ``-size``; at most
    `STRETCH`, and 0 where the size is positive."""
    seen = np.maximum(noise + size, 1e-12)
    return np.minimum(np.maximum(-size, 0.0) / seen, STRETCH**2) ** 0.5


@dataclass(frozen=True)
class Shrinkage:
    """What is left of the differences within a class when the noise's share is taken off.

    common: factors of what a subgroup has in all classes alike. alone: of what it has beyond that.
    Both broadcast with rates ``(..., T, C, G)``. support ``(C, G)``. response, pooled_response
    ``(..., T)``, 0..1: by how much a gap of noisy rates, within classes and pooled, grows with the
    true one: ``sqrt(tau^2 / (tau^2 + noise))``.
    """

    common: Floats
    alone: Floats
    support: Floats
    response: Floats
    pooled_response: Floats

    @staticmethod
    def of(
        seen: Floats, noise: Floats, support: Floats, pool: Ids, mirrored: str = ""
    ) -> "Shrinkage":
        """From rates ``(..., T, C, G)`` and draws of their noise ``(R, T, C, G)``.

        pool ``(T,)``: trials whose gaps are thought to be of one size. mirrored, ``pooled`` or
        ``within``: a size that is estimated as negative, of differences common to the classes or of
        all within them, is taken with the other sign and not for 0.
        """
        common, alone = _parts(seen, support)
        drawn_common, drawn_alone = ((part**2).mean(axis=0) for part in _parts(noise, support))
        rows = support.sum(axis=-2, keepdims=True)
        of_row = _over(support * drawn_alone, support, -2)  # cells alone are small
        of_cell = ratio(of_row, np.maximum(support, 1.0))
        shared = _excess(common, drawn_common, rows, pool)
        own = _excess(alone, of_cell, support, pool)
        # a negative part is taken off the other: their sum stays as near to the truth as it can
        first = np.maximum(shared, 0.0)
        rest = np.maximum(own + shared - first, 0.0)
        pooled = np.where(rows > 0, drawn_common, np.nan)
        within = np.where(support > 0, drawn_common + of_cell, np.nan)
        within_size = own + shared - first
        of_common = _mirror(shared, drawn_common) if mirrored == "pooled" else 0.0
        of_alone = _mirror(within_size, of_cell) if mirrored == "within" else 0.0
        return Shrinkage(
            _kept(first, drawn_common) + of_common,
            _kept(rest, of_cell) + of_alone,
            support,
            _kept(first + rest, np.nanmean(within, axis=(-2, -1), keepdims=True))[..., 0, 0],
            _kept(first, np.nanmean(pooled, axis=(-2, -1), keepdims=True))[..., 0, 0],
        )

    def __call__(self, rates: Floats) -> Floats:
        """Shrunken rates, inside (0, 1); class accuracies stay. NaN without support."""
        n = self.support
        common, alone = _parts(rates, n)
        kept = self.common * common + self.alone * alone
        kept = kept - _over(kept, n, -1)
        level = _over(np.where(n > 0, rates, 0.0), n, -1)
        bound = 0.5 / (n.sum(axis=-1, keepdims=True) + 1.0)
        return np.where(n > 0, np.clip(level + kept, bound, 1.0 - bound), np.nan)


def _parts(rates: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Deviations from the class's accuracy: of a subgroup in all classes alike, and the rest."""
    apart = _apart(rates, n)
    common = _over(apart, n, -2)
    return common, np.where(n > 0, apart - common, 0.0)


def shrinkage(tally: Counts, pool: Ids, mirrored: str = "") -> Shrinkage:
    """Of the observed rates of a tally with resamples."""
    rates = ratio(tally.hits[0], tally.support)
    return Shrinkage.of(rates, deviations(tally), tally.support, pool, mirrored)


def _counts(rates: Floats, n: Floats) -> Floats:
    """Hits of rates, cut at 0 and n; 0 without support."""
    return np.where(n > 0, n * np.clip(np.nan_to_num(rates), 0.0, 1.0), 0.0)


def _alike(tally: Counts) -> Floats:
    """A root ``(T, T)`` of the trials' correlation of correctness within cells: trials that are
    right on the same images share noise, and equal ones have the same."""
    hits = np.einsum("ttcg->tcg", tally.together)
    expected = ratio(hits[:, None] * hits, tally.support)
    shared = np.nan_to_num(tally.together - expected).sum(axis=(-2, -1))
    own = np.sqrt(np.maximum(np.diag(shared), 1e-12))
    correlation = shared / own[:, None] / own
    np.fill_diagonal(correlation, 1.0)
    sizes, vectors = np.linalg.eigh(correlation)
    return np.asarray(vectors * np.where(sizes > 1e-9, np.maximum(sizes, 0.0), 0.0) ** 0.5)


def _free(tally: Counts) -> Floats:
    """Standard normal ``(R, T, C, G)``, correlated between trials as `_alike`; a subgroup's are the
    same whatever its number."""
    shape = tally.hits[1:].shape[:-1]
    drawn = [seeding.rng(0, "around", name).standard_normal(shape) for name in tally.subgroup_names]
    return np.einsum("ts,rscg->rtcg", _alike(tally), np.stack(drawn, axis=-1))


def _like(noise: Floats, wanted: Floats, free: Floats) -> Floats:
    """Deviations ``(R, T, C, G)`` with the variance ``wanted (T, C, G)``: scaled down where they
    have more, with normal noise (free) added where they have less.

    Cells are small: one whose images are all right shows no noise, though its rate is not 1.
    """
    seen = (noise**2).mean(axis=0)
    scale = np.minimum(1.0, np.nan_to_num(ratio(wanted, seen), nan=1.0)) ** 0.5
    missing = np.maximum(wanted - seen, 0.0) ** 0.5
    return scale * noise + missing * free


def around(tally: Counted, truth: Floats) -> Counted:
    """A tally whose draw 0 is the truth ``(T, C, G)`` itself (not a whole number of hits) and whose
    other draws are the truth plus the resamples' deviations, of the truth's binomial variance."""
    n, whole = tally.support, _counts(truth, tally.support)
    noise = _like(deviations(tally), ratio(truth * (1.0 - truth), n), _free(tally))
    return replace(tally, hits=np.concatenate([whole[None], _counts(truth + noise, n)]))


def halves_around(tally: Tally, truth: Floats) -> Tally:
    """The same for each half of the units; the whole is their sum."""
    first = _half_around(tally.half_hits, tally.half_support, truth)
    rest = tally.support - tally.half_support
    second = _half_around(tally.hits - tally.half_hits, rest, truth)
    return replace(tally, hits=first + second, half_hits=first)


def _half_around(hits: Floats, support: Floats, truth: Floats) -> Floats:
    rates = ratio(hits, support[:, None])
    scale = ratio(support[0], np.maximum(support[0] - 1.0, 1.0)) ** 0.5
    moved = truth + scale * (rates - rates[:1])
    moved[0] = truth
    return _counts(moved, support[:, None])
