"""B^2 from classifiers of different seeds, so that a seed's own subgroup scatter drops out.

Of S seeds of one generation of one chain, Q(p_s) the variance over subgroups of the rates p_s
(`fairness.gap_variance`) and N its sampling noise:
    S B^2(mean of the seeds) - mean_s B^2(p_s)          mean over pairs s != s' of
    ------------------------------------------    =     covariance over subgroups of p_s and p_s'
                     S - 1                              less the covariance of their noise
with ``B^2 = Q - N``: what each seed has for itself enters no product, and the noise of the test
images, which the seeds share, is still taken off. Decides how B^2 of a mean of seeds is measured:
its rows are no longer 0 or 1, so that N comes from their squares. Knows no chains.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation import fairness, metrics
from ray_selfloop.evaluation.predictions import Floats, Ids, TestSet
from ray_selfloop.evaluation.tallies import Tally, permuted, resampled


@dataclass(frozen=True)
class Rates:
    """Sums over test rows, each between 0 and 1: B draws, T columns, C classes, G subgroups.

    hits, squares: ``(B, T, C, G)``, of the rows and of their squares (the same where rows are 0 or
    1). spread, support: as in `Tally`.
    """

    hits: Floats
    squares: Floats
    spread: Floats | None
    support: Floats

    @staticmethod
    def of(tally: Tally) -> "Rates":
        """Of single trials, whose rows are 0 or 1."""
        return Rates(tally.hits, tally.hits, tally.spread, tally.support)

    def mirrored(self) -> "Rates":
        """``2 p - p*`` for the rates p* of each draw: turns the linear part of its error round."""
        hits, squares = (2.0 * part[:1] - part for part in (self.hits, self.squares))
        spread = None if self.spread is None else 2.0 * self.spread[:1] - self.spread
        return Rates(hits, squares, spread, self.support)

    def variance(self, pooled: bool) -> tuple[Floats, Floats]:
        """Variance of the true subgroup rates ``(B, T)``, mean over classes or of pooled rates:
        without and with the sampling noise."""
        of = fairness.gap_variance_pooled if pooled else fairness.gap_variance
        value, raw = of(self.hits, self.support, self.spread)
        if not pooled:
            value, raw = fairness.mean_defined(value), fairness.mean_defined(raw)
        return (value if self.spread is not None else value + self._less_noise(pooled)), raw

    def _less_noise(self, pooled: bool) -> Floats:
        """By how much the noise of 0/1 rows exceeds that of these: ``(x - x^2) / (n - 1)``."""
        each = fairness.ratio(
            fairness.ratio(self.hits - self.squares, self.support), self.support - 1.0
        )
        if not pooled:
            return fairness.mean_defined(fairness.mean_defined(each))
        weight = fairness.ratio(self.support, self.support.sum(axis=-2)) ** 2
        total = np.where(self.support > 0, weight * each, 0.0).sum(axis=-2)
        return fairness.mean_defined(np.where(self.support.sum(axis=-2) > 0, total, np.nan))


def bias(rates: Rates, pooled: bool) -> tuple[Floats, Floats]:
    """B^2 ``(1 + R, T)``, draw 0 observed, and the square part of its resampled error ``(R, T)``.

    Resampling adds the images' noise once more: the draws are moved back to scatter around the
    estimate. Mirrored resamples leave the square of the error and turn its linear part round.
    """
    value, raw = rates.variance(pooled)
    mirrored = rates.mirrored().variance(pooled)[0]
    noise = raw[0] - value[0]
    return (
        np.concatenate([value[:1], value[1:] - noise]),
        0.5 * (value[1:] + mirrored[1:]) - noise - value[:1],
    )


@dataclass(frozen=True)
class Together:
    """B^2 of the mean over the seeds of each place that has two or more sound ones.

    places: ``(P,)``. draws ``(1 + R, P)``, square ``(R, P)`` as of `bias`; null ``(D, P)``.
    """

    places: Ids
    draws: Floats
    square: Floats
    null: Floats


def together(
    correct: NDArray[np.bool_], place: Ids, test: TestSet, settings: Evaluation
) -> Together | None:
    """From the right rows ``(T, n)`` of trials and their places ``(T,)``; None without a pair.

    The same resamples and permutations as those of the trials themselves.
    """
    places, counts = np.unique(place, return_counts=True)
    places, seeds = places[counts > 1], counts[counts > 1].astype(np.float64)
    if not len(places):
        return None
    total = np.stack([correct[place == here].sum(axis=0) for here in places]).astype(np.float64)
    pooled = settings.dynamics.bias == metrics.GAP_RMS.read("pooled")
    drawn, mixed = (
        _rates(draw, total, seeds, (test, number, settings.seed))
        for draw, number in ((resampled, settings.resamples), (permuted, settings.permutations))
    )
    return Together(places, *bias(drawn, pooled), mixed.variance(pooled)[0])


def _rates(draw: Any, total: Floats, counts: Floats, how: tuple[TestSet, int, int]) -> Rates:
    """Rates of the rows ``total / counts``; sums are whole numbers, which a tally counts exactly.

    A tally's spread is that of 0/1 rows, ``sum_g x - (sum_g x)^2 / G``: put right by the squares.
    """
    tally, squared = draw(total, *how), draw(total**2, *how)
    each, spread = counts[:, None, None], None
    if tally.spread is not None:
        spread = tally.spread + (squared.hits - tally.hits).sum(axis=-1)
        spread = spread / counts[:, None] ** 2
    return Rates(tally.hits / each, squared.hits / each**2, spread, tally.support)


def across(mean: Floats, of_mean: Floats, counts: Ids) -> Floats:
    """``(S B^2(mean) - mean B^2) / (S - 1)``, the mean over pairs of seeds; counts: S > 1."""
    return np.asarray((counts * of_mean - mean) / (counts - 1.0))
