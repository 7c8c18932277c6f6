"""A, the factor by which bias grows per generation, from measured bias with known sampling noise.

State and observation of one classifier in one scenario, chains k, generations t = 0..N:
    state:        B_k(t+1) = A B_k(t), up to a chain's own wandering
    observation:  Y_k(t) = B_k(t)^2 + e,  E[e] = 0
Y is the unbiased estimate of B^2. So for the true A the contrast
    U(A) = mean over k of  sum_t c_t(A) Y_k(t),    c_t = (t - t_A),  t_A = sum_t t A^2t / sum_t A^2t
has expectation 0 whatever the chains' own B_k(0): sum_t c_t A^2t = 0. The estimate solves
U(A) = 0; the interval holds every A that a t test of U(A) = 0 does not reject (Fieller's idea).
No logarithm of a noisy or negative number is taken, no noisy covariance is inverted, and measured
bias is not regressed on measured bias, which would be biased towards A = 1. Knows no q and no u.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student

from ray_selfloop.dynamics.factors import BiasSeries
from ray_selfloop.evaluation.intervals import chain_variance
from ray_selfloop.evaluation.outcomes import Floats

GRID = 241
NO_BIAS = "undecided: no measurable bias"
ONE_CHAIN = "undecided: this chain only"
NO_FIT = "undecided: no A fits"


@dataclass(frozen=True)
class Amplification:
    """Geometric mean of A_t with its interval, and the verdict; A is a plain factor.

    All NaN where no bias is measurable at generation 0, and where no A in the limits fits. low or
    high alone is NaN where the interval is open: no A up to that limit is rejected. by_step:
    t -> (A_t, low, high) with ``A_t = B(t+1) / B(t)``, where B(t) is above its noise floor.
    """

    a: float
    low: float
    high: float
    verdict: str
    by_step: dict[int, tuple[float, float, float]]


def contrast(log_a: float, known: Floats) -> Floats:
    """``c_t(A)`` over the generations that are known (1, else 0); ``(N + 1,)``, largest size 1."""
    time = np.arange(len(known), dtype=np.float64)
    growth = known * np.exp(2.0 * log_a * (time - time[-1] * (log_a > 0)))  # at most 1
    c = known * (time - (growth @ time) / growth.sum())
    return c / max(np.abs(c).max(), 1e-300)


class _Test:
    """U(A) and its t statistic for the chains with at least two known generations."""

    def __init__(self, series: BiasSeries, level: float) -> None:
        known = ~np.isnan(series.squared[0])
        self.used = known.sum(axis=1) >= 2
        self._known = known[self.used].astype(np.float64)  # (m, N + 1)
        self._draws = np.nan_to_num(series.squared[:, self.used])  # (1 + R, m, N + 1)
        seeds = np.maximum(series.seeds[self.used], 1)
        self._training = series.training / seeds
        self._level = level

    def u(self, log_a: float) -> float:
        return float(self._contrasts(log_a, 1)[0].mean())

    def _contrasts(self, log_a: float, draws: int | None) -> Floats:
        """Each chain's contrast, ``(draws, m)``."""
        weights = np.stack([contrast(log_a, known) for known in self._known])
        return np.asarray((self._draws[:draws] * weights).sum(axis=-1))

    def excess(self, log_a: float) -> float:
        """|t| minus its critical value: positive where A is rejected."""
        each = self._contrasts(log_a, None)
        if each.shape[1] > 1:
            variance, freedom = chain_variance(each)
            critical = float(student.ppf(0.5 + self._level / 2, freedom))
        else:  # test images and seeds alone: this chain only
            weight = contrast(log_a, self._known[0])
            variance = float(each[1:, 0].var(ddof=1) + weight**2 @ self._training[0])
            critical = float(norm.ppf(0.5 + self._level / 2))
        return abs(float(each[0].mean())) - critical * variance**0.5

    def misfit(self, log_a: float) -> float:
        """Squared error of the chains' best-fitting ``v_k A^2t``, to choose between roots."""
        time = np.arange(self._known.shape[1])
        mean = self._known * np.exp(2.0 * log_a * (time - time[-1] * (log_a > 0)))
        y = self._draws[0]
        level = np.maximum((y * mean).sum(axis=1) / (mean**2).sum(axis=1), 0.0)
        return float((self._known * (y - level[:, None] * mean) ** 2).sum())


def _estimate(test: _Test, grid: Floats) -> float | None:
    """The root of U with the best fit; None without a root within the limits."""
    values = np.array([test.u(float(x)) for x in grid])
    crossings = np.flatnonzero(np.sign(values[:-1]) * np.sign(values[1:]) <= 0)
    roots = [float(brentq(test.u, grid[i], grid[i + 1], xtol=1e-9)) for i in crossings]
    return min(roots, key=test.misfit) if roots else None


def _end(test: _Test, inside: float, grid: Floats) -> float:
    """log of the first rejected A on the way from ``inside`` along ``grid``; NaN without one."""
    before = inside
    for point in grid.tolist():
        if test.excess(point) > 0:
            return float(brentq(test.excess, before, point, xtol=1e-6))
        before = point
    return float("nan")


def _step_covariance(pair: Floats) -> tuple[Floats, float]:
    """Covariance ``(2, 2)`` of the chains' mean of two generations and its degrees of freedom.

    pair: ``(1 + R, m, 2)``. As `intervals.chain_variance`: between chains, plus the test images'
    part that all chains share; the images alone with one chain.
    """
    m = pair.shape[1]
    of_mean = np.cov(pair[1:].mean(axis=1), rowvar=False)
    if m == 1:
        return of_mean, np.inf
    of_chains = np.mean([np.cov(pair[1:, k], rowvar=False) for k in range(m)], axis=0)
    values, vectors = np.linalg.eigh((m * of_mean - of_chains) / (m - 1))
    common = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return np.cov(pair[0], rowvar=False) / m + common, m - 1


def _ratio(pair: Floats, level: float) -> tuple[float, float, float]:
    """``sqrt(y / x)`` of two generations' B^2 with Fieller's interval; pair ``(1 + R, m, 2)``.

    NaN ends where x is not separated from zero: the ratio then has no bounded interval.
    """
    x, y = pair[0].mean(axis=0)
    cov, freedom = _step_covariance(pair)
    z = norm.ppf(0.5 + level / 2) if np.isinf(freedom) else student.ppf(0.5 + level / 2, freedom)
    a, b, c = (
        v - z**2 * s for v, s in ((x * x, cov[0, 0]), (x * y, cov[0, 1]), (y * y, cov[1, 1]))
    )
    value = float(np.sqrt(max(y / x, 0.0)))
    if a <= 0 or b * b < a * c:
        return value, float("nan"), float("nan")
    ends = (b + np.array([-1.0, 1.0]) * np.sqrt(b * b - a * c)) / a
    low, high = np.sqrt(np.maximum(ends, 0.0))
    return value, float(low), float(high)


def _by_step(series: BiasSeries, level: float) -> dict[int, tuple[float, float, float]]:
    found = {}
    for t in range(series.generations - 1):
        pair = series.squared[:, :, t : t + 2]
        pair = pair[:, ~np.isnan(pair[0]).any(axis=1)]  # chains that have both generations
        if series.measurable[t] and pair.shape[1] and pair[0, :, 0].mean() > 0:
            found[t] = _ratio(pair, level)
    return found


def _verdict(low: float, high: float, chains: int) -> str:
    if chains < 2:
        return ONE_CHAIN
    if low > 1:
        return "A > 1"
    return "A < 1" if high < 1 else "undecided"  # an open (NaN) end decides nothing


def amplification(series: BiasSeries, level: float, limit: float) -> Amplification:
    """A of one classifier in one scenario, sought in [1/limit, limit].

    Several chains: their variance is that of `intervals.chain_variance`. One chain: the interval
    covers test images and seeds, holds for this chain only, and there is no verdict.
    """
    nothing, steps = (float("nan"),) * 3, _by_step(series, level)
    if not series.measurable[0]:
        return Amplification(*nothing, NO_BIAS, steps)
    test = _Test(series, level)
    grid = np.linspace(-np.log(limit), np.log(limit), GRID)
    centre = _estimate(test, grid) if test.used.any() else None
    if centre is None:
        return Amplification(*nothing, NO_FIT, steps)
    low = _end(test, centre, grid[grid < centre][::-1])
    high = _end(test, centre, grid[grid > centre])
    a, low, high = np.exp([centre, low, high]).tolist()
    return Amplification(a, low, high, _verdict(low, high, int(test.used.sum())), steps)
