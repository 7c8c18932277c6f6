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

Variance of U: scatter of the chains (all that differs between runs) plus what all chains share, the
test images; judged by `inference.chains`. With b the true and e the sampling error of the gaps, the
images move B^2 by 2 b'e + e'e. A resample moves it by 2 (b + e)'e* + e*'e*, too much: the linear
part has variance 4 b'S b + 4 tr(S^2) for 4 b'S b, the square has 2 tr(S^2), S the covariance that
two chains' gaps share. So the linear part less twice the square, 0 or more, plus the square, is
what counts. Measured: benchmarks/eq6_coverage.py, benchmarks/seed_scatter.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from ray_selfloop.equation6.bias import BiasSeries
from ray_selfloop.evaluation.predictions import Floats
from ray_selfloop.inference.chains import critical

Ends = tuple[float, float, float]  # value, low, high
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
    t -> (A_t, low, high) with ``A_t = B(t+1) / B(t)``, where B(t) is above its noise floor. chains:
    those behind A, with two known generations or more.
    """

    a: float
    low: float
    high: float
    verdict: str
    by_step: dict[int, Ends]
    chains: int = 0

    @property
    def ends(self) -> Ends:
        """Value, low, high."""
        return self.a, self.low, self.high


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


def reach(level: float, chains: int, between: Floats, shared: Floats) -> Floats:
    """Half the width of an interval, ``(...)``; the parts of its error as in `Test.parts`."""
    error = np.sqrt(between + shared)
    if chains == 1:
        return np.asarray(norm.ppf(0.5 + level / 2) * error)
    ratio = shared / np.maximum(between, 1e-300)
    return np.asarray(critical(level, chains, ratio) * error)


@dataclass(frozen=True)
class Images:
    """Covariance over the test images of the chains' B^2, all generations: ``(m L, m L)`` each.

    linear, square: of the two parts of the resampled error (see the module).
    """

    linear: Floats
    square: Floats

    @staticmethod
    def of(series: BiasSeries, chains: NDArray[np.bool_]) -> "Images":
        """From the resamples, for the chosen chains."""
        moved = np.nan_to_num(series.squared[1:, chains] - series.squared[:1, chains])
        square = np.nan_to_num(series.square[:, chains])
        square = square - square.mean(axis=0)
        flat = [part.reshape(len(part), -1) for part in (moved - square, square)]
        return Images(*(np.atleast_2d(np.cov(part, rowvar=False)) for part in flat))

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


@dataclass(frozen=True)
class Test:
    """U(x) = mean over chains of ``weights(x) @ y``, 0 where x is true; x: log of a factor.

    y: ``(m, L)`` measured B^2 of each chain, 0 where it is not known. weights: ``(n,) -> (n, m,
    L)``. images: of the same chains. training: ``(m, L)``, variance of y from the scatter of the
    classifiers; counts where one chain is all there is.
    """

    y: Floats
    weights: Callable[[Floats], Floats]
    images: Images
    training: Floats
    level: float

    @property
    def chains(self) -> int:
        return len(self.y)

    def parts(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        """U at each x, and of its error's square what differs between chains (with one chain: what
        its seeds give, which is known) and what they share; ``(n,)`` each."""
        weights = self.weights(x)
        each, shared = (weights * self.y).sum(axis=-1), self.images.variance(weights)
        if self.chains == 1:
            between = (weights[:, 0] ** 2) @ self.training[0]
        else:
            between = each.var(axis=1, ddof=1) / self.chains
        return np.asarray(each.mean(axis=1)), np.asarray(between), shared

    def values(self, x: Floats) -> Floats:
        """U at each x, ``(n,)``."""
        return np.asarray((self.weights(x) * self.y).sum(axis=-1).mean(axis=-1))

    def excess(self, x: Floats) -> Floats:
        """|U| less its critical value at each x, ``(n,)``: positive where x is rejected."""
        value, between, shared = self.parts(x)
        return np.abs(value) - reach(self.level, self.chains, between, shared)

    def between(self, low: float, high: float) -> float:
        """The root of U between two x at which its signs differ."""
        return float(brentq(lambda x: float(self.values(np.array([x]))[0]), low, high, xtol=1e-9))

    def end(self, inside: float, grid: Floats) -> float:
        """First rejected x on the way from ``inside`` along ``grid``; NaN without one."""
        rejected = np.flatnonzero(self.excess(grid) > 0)
        if not len(rejected):
            return float("nan")
        first = int(rejected[0])
        before = grid[first - 1] if first else inside
        return float(
            brentq(lambda x: float(self.excess(np.array([x]))[0]), before, grid[first], xtol=1e-6)
        )


def solved(test: Test, misfit: Callable[[float], float], limit: float) -> Ends | None:
    """exp of the root of U that fits best and of the interval's ends around it; None without a root
    in ``[1/limit, limit]``. An end that is NaN is open."""
    grid = np.linspace(-np.log(limit), np.log(limit), GRID)
    values = test.values(grid)
    crossings = np.flatnonzero(np.sign(values[:-1]) * np.sign(values[1:]) <= 0)
    if not len(crossings):
        return None
    root = min((test.between(grid[i], grid[i + 1]) for i in crossings), key=misfit)
    below, above = grid[grid < root][::-1], grid[grid > root]
    value, low, high = np.exp([root, test.end(root, below), test.end(root, above)]).tolist()
    return value, low, high


def _misfit(test: Test, known: Floats, x: float) -> float:
    """Squared error of the chains' best-fitting ``v_k A^2t``, to choose between roots."""
    time = np.arange(known.shape[1])
    mean = known * np.exp(2.0 * x * (time - time[-1] * (x > 0)))
    level = np.maximum((test.y * mean).sum(axis=1) / (mean**2).sum(axis=1), 0.0)
    return float((known * (test.y - level[:, None] * mean) ** 2).sum())


def _test(series: BiasSeries, level: float) -> tuple[Test, Floats]:
    """Of the chains with at least two known generations, and which these are, ``(m, N + 1)``."""
    known = ~np.isnan(series.squared[0])
    used = known.sum(axis=1) >= 2
    here = known[used].astype(np.float64)
    test = Test(
        np.nan_to_num(series.squared[0, used]),
        lambda x: contrast(x, here),
        Images.of(series, used),
        series.training / np.maximum(series.seeds[used], 1),
        level,
    )
    return test, here


def _pair(x: Floats, chains: int) -> Floats:
    """Weights of ``(y - A^2 x) / (1 + A^2)`` on the two generations ``(x, y)``, ``(n, m, 2)``."""
    of_first = 1.0 / (1.0 + np.exp(-2.0 * x))
    return np.repeat(np.stack([-of_first, 1.0 - of_first], axis=1)[:, None], chains, axis=1)


def _step(two: BiasSeries, level: float, limit: float) -> Ends | None:
    """A_t of two generations by the same test; an end that is NaN is open. None without a chain
    that has both, or with a B(t)^2 below zero."""
    known = ~np.isnan(two.squared[0]).any(axis=1)
    pair, m = two.squared[0, known], int(known.sum())
    if not m or not pair[:, 0].mean() > 0:
        return None
    training = two.training / np.maximum(two.seeds[known], 1)
    test = Test(pair, lambda x: _pair(x, m), Images.of(two, known), training, level)
    value = float(np.sqrt(max(pair[:, 1].mean() / pair[:, 0].mean(), 0.0)))
    return solved(test, abs, limit) or (value, float("nan"), float("nan"))


def _by_step(series: BiasSeries, level: float, limit: float) -> dict[int, Ends]:
    steps = {t: series.between(t, t + 2) for t in range(series.generations - 1)}
    found = {t: _step(two, level, limit) for t, two in steps.items() if series.measurable[t]}
    return {t: ends for t, ends in found.items() if ends is not None}


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

    A t interval over chains plus the test images' shared part. Chains are runs of the whole loop:
    the interval covers new runs and new test images of the same kind. One chain: it covers test
    images and seeds, holds for this chain only, and there is no verdict.
    """
    nothing, steps = (float("nan"),) * 3, _by_step(series, level, limit)
    if not series.measurable[0]:
        return Amplification(*nothing, NO_BIAS, steps)
    test, known = _test(series, level)
    found = solved(test, lambda x: _misfit(test, known, x), limit) if test.chains else None
    if found is None:
        return Amplification(*nothing, NO_FIT, steps)
    return Amplification(*found, _verdict(series, *found[1:], test.chains), steps, test.chains)
