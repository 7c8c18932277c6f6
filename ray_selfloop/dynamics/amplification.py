"""A, the factor by which bias grows per generation, from measured bias with known sampling noise.

State and observation of one classifier in one scenario, chains k, generations t = 0..N:
    state:        B_k(t+1) = A B_k(t), up to a chain's own wandering
    observation:  Y_k(t) = B_k(t)^2 + e,  E[e] = 0
Y is the unbiased estimate of B^2. So for the true A the contrast
    U(A) = mean over k of  sum_t c_t(A) Y_k(t),    c_t = w_t (t - t_A),  w_t = min(A, 1)^t,
    t_A = sum_t w_t t A^2t / sum_t w_t A^2t
has expectation 0 whatever the chains' own B_k(0): sum_t c_t A^2t = 0. (w_t spares generations in
which shrinking bias drowns in noise.) The estimate solves U(A) = 0; the interval holds every A that
a t test of U(A) = 0 does not reject (Fieller's idea). No logarithm of a noisy or negative number is
taken, no noisy covariance is inverted, and measured bias is not regressed on measured bias, which
would be biased towards A = 1. Knows no q and no u.

Variance of U: scatter of the chains (all that differs between runs, m - 1 degrees of freedom) plus
what all chains share, the test images. With b the true and e the sampling error of the gaps, the
images move B^2 by 2 b'e + e'e. A resample moves it by 2 (b + e)'e* + e*'e*, too much: the linear
part has variance 4 b'S b + 4 tr(S^2) for 4 b'S b, the square has 2 tr(S^2), S the covariance that
two chains' gaps share. So the linear part less twice the square, 0 or more, plus the square, is
what counts. Measured: benchmarks/eq6_coverage.py.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student

from ray_selfloop.dynamics.chains import studentised
from ray_selfloop.dynamics.factors import BiasSeries
from ray_selfloop.evaluation.outcomes import Floats

GRID = 241
NO_BIAS = "undecided: no measurable bias"
ONE_CHAIN = "undecided: this chain only"
NO_FIT = "undecided: no A fits"
INFLATED = "undecided: floor-inflated B"


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


def contrast(log_a: Floats, known: Floats) -> Floats:
    """``c_t(A)`` over the generations that are known (1, else 0), largest size 1.

    log_a: ``(n,)``; known: ``(m, N + 1)``. Result: ``(n, m, N + 1)``.
    """
    time, log_a = np.arange(known.shape[-1], dtype=np.float64), log_a[:, None, None]
    growth = known * np.exp(2.0 * log_a * (time - time[-1] * (log_a > 0)))  # at most 1
    weight = known * np.exp(np.minimum(log_a, 0.0) * time)
    both = weight * growth
    centre = (both @ time)[..., None] / both.sum(axis=-1, keepdims=True)
    c = weight * (time - centre)
    return np.asarray(c / np.maximum(np.abs(c).max(axis=-1, keepdims=True), 1e-300))


@dataclass(frozen=True)
class _Images:
    """Covariance over the test images of the chains' B^2, all generations: ``(m L, m L)`` each.

    linear, square: of the two parts of the resampled error (see the module).
    """

    linear: Floats
    square: Floats

    @staticmethod
    def of(series: BiasSeries, chains: NDArray[np.bool_]) -> "_Images":
        """From the resamples, for the chosen chains."""
        moved = np.nan_to_num(series.squared[1:, chains] - series.squared[:1, chains])
        square = np.nan_to_num(series.square[:, chains])
        square = square - square.mean(axis=0)
        flat = [part.reshape(len(part), -1) for part in (moved - square, square)]
        return _Images(*(np.atleast_2d(np.cov(part, rowvar=False)) for part in flat))

    def variance(self, weights: Floats) -> Floats:
        """Variance of the chains' mean contrast: of what chains share, of all with one chain.

        weights: ``(n, m, L)`` -> ``(n,)``.
        """
        n, m, length = weights.shape
        chain = np.repeat(np.arange(m), length)
        pairs = (chain[:, None] != chain) if m > 1 else np.ones((length, length))
        flat, count = weights.reshape(n, -1), m * (m - 1) if m > 1 else 1
        linear, square = (
            np.einsum("ni,ni->n", flat @ (part * pairs), flat) / count
            for part in (self.linear, self.square)
        )
        return np.asarray(np.maximum(linear - 2.0 * square, 0.0) + np.maximum(square, 0.0))


class _Test:
    """U(A) and its t statistic for the chains with at least two known generations."""

    def __init__(self, series: BiasSeries, level: float) -> None:
        known = ~np.isnan(series.squared[0])
        self.used = known.sum(axis=1) >= 2
        self._known = known[self.used].astype(np.float64)  # (m, N + 1)
        self._y = np.nan_to_num(series.squared[0, self.used])
        self._images = _Images.of(series, self.used)
        self._training = series.training / np.maximum(series.seeds[self.used], 1)
        self._level = level

    def u(self, log_a: float) -> float:
        """U at one log A."""
        return float(self.values(np.array([log_a]))[0])

    def values(self, log_a: Floats) -> Floats:
        """U at each log A, ``(n,)``."""
        return np.asarray((contrast(log_a, self._known) * self._y).sum(axis=-1).mean(axis=-1))

    def excess(self, log_a: Floats) -> Floats:
        """|U| less its critical value at each log A, ``(n,)``: positive where A is rejected."""
        weights = contrast(log_a, self._known)
        each = (weights * self._y).sum(axis=-1)  # (n, m)
        images = self._images.variance(weights)
        if each.shape[1] == 1:  # test images and seeds alone: this chain only
            total = images + (weights[:, 0] ** 2) @ self._training[0]
            critical = np.full(len(total), norm.ppf(0.5 + self._level / 2))
        else:
            between = each.var(axis=1, ddof=1) / each.shape[1]
            total = between + images
            critical = studentised(each, images, self._level)
        return np.asarray(np.abs(each.mean(axis=1)) - critical * np.sqrt(total))

    def misfit(self, log_a: float) -> float:
        """Squared error of the chains' best-fitting ``v_k A^2t``, to choose between roots."""
        time = np.arange(self._known.shape[1])
        mean = self._known * np.exp(2.0 * log_a * (time - time[-1] * (log_a > 0)))
        level = np.maximum((self._y * mean).sum(axis=1) / (mean**2).sum(axis=1), 0.0)
        return float((self._known * (self._y - level[:, None] * mean) ** 2).sum())


def _estimate(test: _Test, grid: Floats) -> float | None:
    """The root of U with the best fit; None without a root within the limits."""
    values = test.values(grid)
    crossings = np.flatnonzero(np.sign(values[:-1]) * np.sign(values[1:]) <= 0)
    roots = [float(brentq(test.u, grid[i], grid[i + 1], xtol=1e-9)) for i in crossings]
    return min(roots, key=test.misfit) if roots else None


def _end(test: _Test, inside: float, grid: Floats) -> float:
    """log of the first rejected A on the way from ``inside`` along ``grid``; NaN without one."""

    def excess(log_a: float) -> float:
        return float(test.excess(np.array([log_a]))[0])

    rejected = np.flatnonzero(test.excess(grid) > 0)
    if not len(rejected):
        return float("nan")
    first = int(rejected[0])
    before = grid[first - 1] if first else inside
    return float(brentq(excess, before, grid[first], xtol=1e-6))


def _ratio(
    pair: Floats, images: _Images, training: Floats, level: float
) -> tuple[float, float, float]:
    """``sqrt(y / x)`` of two generations' B^2 with Fieller's interval; pair ``(m, 2)``.

    NaN ends where x is not separated from zero: the ratio then has no bounded interval.
    """
    (x, y), m = pair.mean(axis=0), len(pair)
    directions = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    s = images.variance(np.repeat(directions[:, None], m, axis=1))
    cov = np.array([[s[0], (s[2] - s[0] - s[1]) / 2], [(s[2] - s[0] - s[1]) / 2, s[1]]])
    if m == 1:
        cov, z = cov + np.diag(training), float(norm.ppf(0.5 + level / 2))
    else:
        cov = cov + np.cov(pair, rowvar=False) / m
        z = float(student.ppf(0.5 + level / 2, m - 1))
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
        two = series.between(t, t + 2)
        known = ~np.isnan(two.squared[0]).any(axis=1)  # chains that have both generations
        pair = two.squared[0, known]
        if series.measurable[t] and len(pair) and pair[:, 0].mean() > 0:
            training = series.training / np.maximum(two.seeds[known][0], 1)
            found[t] = _ratio(pair, _Images.of(two, known), training, level)
    return found


def _verdict(series: BiasSeries, low: float, high: float, chains: int) -> str:
    if series.inflated:
        return INFLATED
    if chains < 2:
        return ONE_CHAIN
    if low > 1:
        return "A > 1"
    return "A < 1" if high < 1 else "undecided"  # an open (NaN) end decides nothing


def amplification(series: BiasSeries, level: float, limit: float) -> Amplification:
    """A of one classifier in one scenario, sought in [1/limit, limit].

    Two to nine chains: a t interval over chains plus the test images' shared part; from ten on
    (`chains.MANY`) the t quantile is that of a bootstrap over chains. Chains are runs of the whole
    loop: the interval covers new runs and new test images of the same kind. One chain: it covers
    test images and seeds, holds for this chain only, and there is no verdict.
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
    verdict = _verdict(series, low, high, int(test.used.sum()))
    return Amplification(a, low, high, verdict, steps)
