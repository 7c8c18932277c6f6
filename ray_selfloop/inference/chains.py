"""Means over chains: their error, their intervals, their p values. The only way to a p value.

A chain is one run of the whole loop: the independent unit. The mean of m chains' numbers errs by

    v / m + c,    v / m: what differs between chains, estimated by s^2 / m with m - 1 freedom
                  c:     what all chains share, the test images, known from a bootstrap

and the p value of a mean that lies d from a bound is Behrens and Fisher's, with c known,

    p = E 2 Phi(-d / sqrt(c + (m - 1) (s^2 / m) / X)),    X ~ chi square with m - 1 freedom:

Student's t with m - 1 freedom where c = 0, the normal law where s = 0. Measured P(p < a) / a is at
most 1.1 for a down to .0005, 2 to 10 chains and any share of c (benchmarks/tail.py).
Satterthwaite's freedom, estimated from the same s^2, takes chains that happen to agree for near
certainty (30 times nominal); t with m - 1 freedom on s^2 / m + c is never above nominal, and nearly
blind wherever c counts (0.03 of nominal at a = .01, 5 chains, c a tenth of v). Knows arrays, and
nothing of what a number means. Draw 0 is the observed value throughout.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincinv, gammaln, ndtr, stdtrit, xlogy

from ray_selfloop.inference.images import reverse_percentile

Floats = NDArray[np.float64]
NAN = float("nan")
NODES = 160  # of the quadrature over log X
EDGE = 1e-12  # probability that the quadrature leaves out at either end
RATIOS = np.linspace(-6.0, 6.0, 97)  # log10 of c / (s^2 / m) at which critical values are tabled


def chi_square_quantile(shares: ArrayLike, freedom: int) -> Floats:
    """As scipy.stats has it, which takes as long to load as a plan to make."""
    return np.asarray(2 * gammaincinv(freedom / 2, shares))


@cache
def chi_square(freedom: int) -> tuple[Floats, Floats]:
    """Nodes of X and their weights, by the trapezoid rule on log X."""
    low, high = np.log(chi_square_quantile([EDGE, 1 - EDGE], freedom)).tolist()
    x = np.exp(np.linspace(low, high, NODES))
    half = freedom / 2
    weights = np.exp(xlogy(half - 1, x) - x / 2 - gammaln(half) - np.log(2) * freedom / 2) * x
    return x, weights / weights.sum()


def tail(distance: float, between: float, shared: float, chains: int, least: float = 0.0) -> float:
    """p of a mean that lies ``distance`` beyond a bound: twice the one-sided one, at most 1.

    between: s^2 / m. shared: c. least: variance of the mean that v / m cannot be below, such as the
    chains' own test-image noise.
    """
    x, weights = chi_square(chains - 1)
    spread = np.sqrt(shared + np.maximum((chains - 1) * between / x, least))
    if not spread.max() > 0:  # every chain and every resample say the same
        return 1.0 if distance <= 0 else 0.0
    return min(1.0, 2.0 * float(weights @ ndtr(-distance / np.maximum(spread, 1e-300))))


def tails(distance: Floats, between: Floats, shared: float, chains: int) -> Floats:
    """`tail` of many means at once, without ``least``; any shape."""
    total = np.zeros(np.broadcast_shapes(np.shape(distance), np.shape(between)))
    for x, weight in zip(*chi_square(chains - 1), strict=True):
        total += weight * ndtr(-distance / np.sqrt(shared + (chains - 1) * between / x))
    return np.asarray(np.minimum(2.0 * total, 1.0))


def critical(level: float, chains: int, ratio: Floats | float = 0.0) -> Floats:
    """Half the width of an interval at ``level`` over m > 1 chains, in errors sqrt(s^2 / m + c).

    ratio: c / (s^2 / m), any shape; 0 is Student's quantile with m - 1 freedom, infinity the
    normal's.
    """
    found = np.log10(np.clip(np.asarray(ratio, np.float64), 10.0 ** RATIOS[0], 10.0 ** RATIOS[-1]))
    return np.asarray(np.exp(np.interp(found, RATIOS, _table(level, chains))))


@cache
def _table(level: float, chains: int) -> Floats:
    """log of the critical value at each of RATIOS, by bisection."""
    x, weights = chi_square(chains - 1)
    ratio = 10.0 ** RATIOS[:, None]
    spread = np.sqrt((ratio + (chains - 1) / x) / (1 + ratio))  # (ratios, nodes)
    low, high = (
        np.zeros(len(RATIOS)),
        np.full(len(RATIOS), stdtrit(chains - 1, 0.5 + level / 2)),
    )
    for _ in range(60):
        middle = 0.5 * (low + high)
        short = 2.0 * ndtr(-middle[:, None] / spread) @ weights > 1 - level
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return np.log(high)


def shared_variance(draws: Floats) -> float:
    """c: variance of the chains' mean that the test images give to all chains alike, 0 or more.

    draws ``(1 + R, m)``, m > 1, the same image resamples for all chains. From the variance V of the
    mean under the bootstrap and the mean W of the chains' variances: ``(m V - W) / (m - 1)``.
    """
    m = draws.shape[1]
    of_chains = float(draws[1:].var(axis=0, ddof=1).mean())
    return max((m * image_variance(draws) - of_chains) / (m - 1), 0.0)


def image_variance(draws: Floats) -> float:
    """V: variance of the chains' mean over the image resamples; draws ``(1 + R, m)``."""
    return float(draws[1:].mean(axis=1).var(ddof=1))


@dataclass(frozen=True)
class Effect:
    """A mean over chains with its interval [low, high] at the level that it was made with.

    between: s^2 / m; shared: c; own: the chains' own image noise in the mean, below which what
    differs between chains cannot be. All NaN with one chain, whose interval is the image bootstrap
    and holds for this chain only. floor, start, way: of a gap that noise inflates, see `seen`.
    """

    value: float
    low: float
    high: float
    between: float
    shared: float
    chains: int
    own: float = 0.0
    floor: float = 0.0
    start: float = 0.0
    way: int = 1

    @property
    def error(self) -> float:
        """Standard error ``sqrt(s^2 / m + c)``."""
        return float((max(self.between, self.own) + self.shared) ** 0.5)

    @property
    def known(self) -> tuple[float, float]:
        """Of the error's variance the shares that are known from the test images: what all chains
        share, and what is each chain's own."""
        whole = self.error**2
        return (self.shared / whole, self.own / whole) if whole > 0 else (0.0, 0.0)

    @property
    def tested(self) -> bool:
        """Whether there is a p value: two chains or more, and an error."""
        return self.chains > 1 and not np.isnan(self.between)

    def interval(self, level: float) -> tuple[float, float]:
        """Around the value: every bound that `p_above` and `p_below` do not reject."""
        reach = self._reach(1 - level) if self.tested else NAN
        return self.value - reach, self.value + reach

    def p_above(self, bound: float) -> float:
        """Twice the one-sided p against ``effect <= bound``, at most 1: p <= a just where the
        interval at level 1 - a lies above the bound. NaN without a test."""
        return self._tail(self.value - bound)

    def p_below(self, bound: float) -> float:
        """Twice the one-sided p against ``effect >= bound``, at most 1."""
        return self._tail(bound - self.value)

    def p_change(self) -> float:
        """Two-sided p of no effect."""
        return min(self.p_above(0.0), self.p_below(0.0))

    def p_short_of(self, bound: float) -> float:
        """p of 'the truth changes by less than ``bound``' (a positive one: to above; a negative
        one: to below), of which noise lets less be seen."""
        seen = self.seen(bound)
        return self.p_below(seen) if bound > 0 else self.p_above(seen)

    def p_inside(self, margin: float) -> float:
        """p of equivalence: small where the interval lies inside ``(-margin, margin)``, as seen."""
        return max(self.p_short_of(margin), self.p_short_of(-margin))

    def seen(self, change: float) -> float:
        """What is measured of a true change of a gap whose noise floor is f, from a true start c:

            sqrt(f^2 + (c + change)^2) - sqrt(f^2 + c^2)

        as squares of gaps and of noise add; of a fall c is at least its size. way: -1 of what falls
        where the gap grows, such as MEO, 1 less the gap. All of it is seen far above the floor; at
        a start of 0 on 36 test images a class half of the usual margin, so that p against the
        margin itself excluded an effect of just that size in a third of sweeps
        (benchmarks/sequential.py).
        """
        if not self.floor > 0:
            return change
        f, grown = self.floor, self.way * change
        c = max(self.start, -grown)
        return self.way * float(np.hypot(f, c + grown) - np.hypot(f, c))

    def _tail(self, distance: float) -> float:
        if not self.tested:
            return NAN
        return tail(distance, self.between, self.shared, self.chains, self.own)

    def _reach(self, alpha: float) -> float:
        if not self.error > 0:
            return 0.0
        from scipy.optimize import brentq  # slow to load, and a plan tests nothing

        far = self.error
        while self._tail(far) > alpha:
            far *= 2.0
        return float(brentq(lambda d: self._tail(d) - alpha, 0.0, far, xtol=1e-9 * far))


def _made(value: float, parts: tuple[float, float, float], chains: int, level: float) -> Effect:
    """parts: between, shared, own."""
    bare = Effect(value, NAN, NAN, parts[0], parts[1], chains, parts[2])
    low, high = bare.interval(level)
    return replace(bare, low=low, high=high)


def effect(draws: Floats, level: float) -> Effect:
    """The mean over chains behind ``draws (1 + R, m)`` of a change or a difference of arms.

    The mean is not moved by its bootstrap bias: the bias of a gap is the same in both arms and
    cancels, and correcting it where the true gaps are equal doubles the rate of false verdicts
    (measured at nominal 5 %: MD per class 12 % with, 6 % without). All NaN without a chain; an
    observed value alone where it, or more than half of the draws, is not defined.
    """
    m = draws.shape[1]
    if m == 0:
        return Effect(NAN, NAN, NAN, NAN, NAN, 0)
    mean = draws.mean(axis=1)
    known = ~np.isnan(mean)
    value = float(mean[0])
    if m == 1:
        low, high = reverse_percentile(mean, level)
        return Effect(value, float(low), float(high), NAN, NAN, 1)
    if not known[0] or known.mean() < 0.5:
        return Effect(value, NAN, NAN, NAN, NAN, m)
    shared = shared_variance(draws[known])
    own = max(image_variance(draws[known]) - shared, 0.0)
    between = float(draws[0].var(ddof=1)) / m
    return _made(value, (between, shared, own), m, level)


def effect_of_chains(values: Floats, level: float) -> Effect:
    """The mean of one number of each chain, ``(m,)``, that shares nothing with the others."""
    m = len(values)
    value = float(values.mean()) if m else NAN
    if m < 2:
        return Effect(value, NAN, NAN, NAN, NAN, m)
    return _made(value, (float(values.var(ddof=1)) / m, 0.0, 0.0), m, level)


def over_chains(draws: Floats, level: float) -> tuple[float, float, float]:
    """A level's mean over chains with its interval: ``(1 + R, m) -> (value, low, high)``.

    Several chains: `effect`'s interval around the mean less its bootstrap bias, widened to the
    mean. One chain: the image bootstrap; it holds for this chain only.
    """
    found = effect(draws, level)
    if not found.tested:
        return found.value, found.low, found.high
    mean = draws.mean(axis=1)
    bias = float(mean[1:][~np.isnan(mean[1:])].mean()) - found.value
    return found.value, min(found.low - bias, found.value), max(found.high - bias, found.value)


def noise_floor(draws: Floats) -> tuple[float, float]:
    """(f, c): the floor of a gap's mean over chains and the gap without it, from ``(1 + R, m)``.

    Resamples are laid around the gap without its noise (`evaluation.noise`): with m the observed
    mean and b theirs, ``c = 2 m - b``, 0 or more, and ``f^2 = m^2 - c^2``. 0, 0 where that cannot
    be known.
    """
    mean = draws.mean(axis=1)
    if not len(mean[1:]) or np.isnan(mean).all():
        return 0.0, 0.0
    observed, again = float(mean[0]), float(np.nanmean(mean[1:]))
    start = min(max(2 * observed - again, 0.0), observed)
    return (observed**2 - start**2) ** 0.5, start


def slope_weights(times: Sequence[int], last: int) -> Floats | None:
    """Weights ``(n,)`` of ordinary least squares per generation, ``(t - mean t) / sum (t - mean
    t)^2``; None unless all of 0..``last`` are there, two or more.

    A slope over a part of the generations is another quantity, with a larger error, and runs with
    gaps are those that collapsed: such a run is left out and not given a full one's weight.
    """
    t = np.asarray(times, np.float64)
    if last < 1 or sorted(times) != list(range(last + 1)):
        return None
    centred = t - t.mean()
    return np.asarray(centred / (centred**2).sum())
