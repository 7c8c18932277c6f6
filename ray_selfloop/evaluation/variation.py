"""u of eq. 6: how far subgroup shares within classes lie from the original data's, and how sure.

Total variation (TV) of counted shares is too large: sampling alone gives .087 at 43 images a class
and three equal subgroups. What it adds falls as the true TV grows, so it is taken off where the
truth seems to be, at a centre whose squared deviation is the one found less sampling's:

    u = mean over classes of TV(found) - b(centre),    b(p) = E* TV(sample of p) - TV(p)

A class's squared deviation is drawn to the classes' mean as far as their scatter is sampling's own
(empirical Bayes). Where it is below 0, b is carried on by symmetry, ``2 b(original) - b(centre)``:
u of a perfect generator is then negative as often as positive, and 0 on average. The interval holds
every TV, on the line through the centre, whose samples would give the observed TV (inverted tests).
Decides what u is; does not know how shares were read or drawn.

Chosen by simulation (benchmarks/u_coverage.py; 10 classes, 3 equal subgroups). Mean error at 150
images a class and true TV 0 / .05 / .15 of this: .00 / -.008 / -.003. TV itself: +.046 / +.014 /
+.001; less a perfect generator's: .000 / -.032 / -.045; 2 TV - mean of TV* at the shares found:
+.027 / -.002 / -.003; the deviation below 0 cut at 0: +.008 / -.007 / -.003; s TV, s^2 the part of
the squared deviation that is not sampling: .000 / -.009 / -.008; each class on its own, then
averaged: -.006 / -.026 / -.010. Drawing classes together costs where they truly differ: half of
them off by .3, half by nothing, +.02 at 43 images. At 43 a class all alike: .00 / -.02 / -.01.
The interval at nominal 95 % held the truth in 92 to 100 %, and lay above 0 at TV 0 in 0 to 5 %.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ray_selfloop.evaluation.predictions import Floats

WIDER = 1.15  # of both arms of the interval: the line's direction is known from the sample alone
STRETCHES = np.linspace(0.0, 1.6, 17)  # beyond, samples hardly give what was observed
NAN = float("nan")
# (shares (C, G) of all that a generator draws, number of samples R) -> shares found (R, C, G)
Sampler = Callable[[Floats, int], Floats]


def total_variation(found: Floats, shares: Floats) -> Floats:
    """``1/2 sum_g |found_g - shares_g|``, 0..1; ``(..., C, G)`` and ``(C, G)``. NaN stays."""
    return np.asarray(0.5 * np.abs(found - shares).sum(axis=-1))


def squared_deviation(found: Floats, shares: Floats) -> Floats:
    """``sum_g (found_g - shares_g)^2``, shapes as in `total_variation`."""
    return np.asarray(((found - shares) ** 2).sum(axis=-1))


def _valid(line: Floats) -> Floats:
    """Cut at 0, summing to 1."""
    line = np.maximum(line, 0.0)
    return np.asarray(line / line.sum(axis=-1, keepdims=True))


@dataclass(frozen=True)
class Samples:
    """TV and squared deviation of samples, ``(R, C)``; at ``(C,)``: TV of the shares drawn from."""

    at: Floats
    variation: Floats
    squared: Floats

    @property
    def excess(self) -> Floats:
        """b, ``(C,)``."""
        return np.asarray(self.variation.mean(axis=0) - self.at)


@dataclass(frozen=True)
class Unbalance:
    """u of each class ``(C,)``, of their mean ``(value, low, high)``, and of the mean in samples of
    a perfect generator, ``null (R,)``."""

    classes: Floats
    mean: tuple[float, float, float]
    null: Floats


@dataclass(frozen=True)
class _Reader:
    """shares, found ``(C, G)``; noise ``(C,)``: squared deviation that sampling gives."""

    shares: Floats
    found: Floats
    noise: Floats
    sampler: Sampler
    resamples: int

    def samples(self, centre: Floats) -> Samples:
        """Samples of the shares ``centre (C, G)``."""
        drawn = self.sampler(centre, self.resamples)
        at = total_variation(centre, self.shares)
        return Samples(
            at, total_variation(drawn, self.shares), squared_deviation(drawn, self.shares)
        )

    def along(self, length: Floats) -> Floats:
        """The shares as far from the original ones as ``length (C,)``, towards those found."""
        deviation = self.found - self.shares
        size = np.sqrt(np.maximum((deviation**2).sum(axis=1), 1e-300))
        return _valid(self.shares + deviation * (length / size)[:, None])

    def excess(self, true: Floats, null: Floats) -> Floats:
        """b where the squared deviation is ``true (C,)``; null: b at the original shares."""
        b = self.samples(self.along(np.sqrt(np.abs(true)))).excess
        return np.where(true < 0, 2.0 * null - b, b)


def _pooled(squared: Floats, noise: Floats, null: Floats) -> Floats:
    """True squared deviations ``(C,)``, drawn to their mean as far as their scatter is sampling's.

    Scatter is that of the deviations' lengths, whose sampling variance is about ``tr S^2 / tr S``,
    S the covariance of found shares. null ``(R, C)``: squared deviations of samples of the original
    shares, which vary by ``2 tr S^2`` around tr S.
    """
    true, length = squared - noise, np.sqrt(squared)
    scatter = float(length.var(ddof=1)) if len(length) > 1 else 0.0
    if scatter == 0.0:
        return np.full(len(true), true.mean())
    sampling = float(null.var(axis=0).mean() / (2.0 * null.mean()))
    held = max(1.0 - sampling / scatter, 0.0)
    drawn = (length.mean() + held * (length - length.mean())) ** 2
    own = drawn * (squared.mean() / drawn.mean()) - squared.mean()
    return np.asarray(true.mean() + own - held**2 * (noise - noise.mean()))


def unbalance(
    shares: Floats, found: Floats, noise: Floats, sampler: Sampler, resamples: int, level: float
) -> Unbalance:
    """u with its interval. shares, found ``(C, G)``, rows sum to 1, all classes with images.

    noise ``(C,)``: expected squared deviation of found shares from those that they are drawn from.
    """
    reader = _Reader(shares, found, noise, sampler, resamples)
    variation, squared = total_variation(found, shares), squared_deviation(found, shares)
    first = reader.samples(shares)
    true, most = squared - noise, squared + noise
    drawn = np.clip(_pooled(squared, noise, first.squared), -most, most)
    value = float((variation - reader.excess(drawn, first.excess)).mean())
    classes = variation - reader.excess(true, first.excess)
    shape = np.sqrt(np.maximum(drawn, 0.0)) if drawn.mean() > 0 else np.ones(len(drawn))
    shape *= float(np.sqrt(squared.sum() / (shape**2).sum()))
    line = [first, *(reader.samples(reader.along(t * shape)) for t in STRETCHES[1:])]
    ends = _interval(float(variation.mean()), value, line, level)
    return Unbalance(classes, (value, *ends), _null(first, line))


def _null(first: Samples, line: list[Samples]) -> Floats:
    """u of samples of the original shares, ``(R,)``, with b of the line."""
    squared = first.squared.sum(axis=1)
    true = 1.0 - squared.mean() / np.maximum(squared, 1e-300)
    b = np.array([samples.excess.mean() for samples in line])
    at = np.array([samples.at.mean() for samples in line])
    found = first.variation.mean(axis=1)
    taken = np.interp(np.sqrt(np.minimum(np.abs(true), 1.0)) * found, at, b)
    return np.asarray(found - np.where(true < 0, 2.0 * b[0] - taken, taken))


def _interval(
    observed: float, value: float, line: list[Samples], level: float
) -> tuple[float, float]:
    """Every TV on the line at which neither tail of the samples rejects the observed TV.

    Where 0 is not rejected the low end lies as far under the value as the high end lies above it
    (and at 0 or under it), so that half the width is an error throughout.
    """
    at = np.array([samples.at.mean() for samples in line])
    means = np.stack([samples.variation.mean(axis=1) for samples in line])
    tails = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2], axis=1)
    lower, upper = np.maximum.accumulate(tails, axis=1)
    low, high = np.interp(observed, upper, at), np.interp(observed, lower, at)
    most = value + WIDER * max(float(high) - value, 0.0)
    if observed <= upper[0]:
        return min(2.0 * value - most, 0.0), most
    return value - WIDER * max(value - float(low), 0.0), most
