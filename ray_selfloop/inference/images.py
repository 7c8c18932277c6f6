"""Intervals and bands over test images: bootstrap draws, permutations, counts.

Knows arrays, and nothing of what a number means. Draw 0 is the observed value throughout.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]


def _at(ordered: Floats, count: Floats, share: Floats) -> Floats:
    """Linear quantile ``share`` of the first ``count`` entries of each column of sorted values."""
    position = share * np.maximum(count - 1, 0)
    below = np.floor(position).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(count - 1, 0).astype(np.int64))
    low = np.take_along_axis(ordered, below[None], axis=0)[0]
    high = np.take_along_axis(ordered, above[None], axis=0)[0]
    return low + (position - below) * (high - low)


def reverse_percentile(draws: Floats, level: float) -> tuple[Floats, Floats]:
    """Basic bootstrap interval of the true value; ``(1 + R, ...) -> (...)`` twice.

    ``[2 v - Q(1 - a/2), 2 v - Q(a/2)]`` with v the estimate and Q the quantiles of the draws: the
    error of a draw around v stands for the error of v around the truth. Gaps, maxima and minima of
    noisy rates are biased, and resampling adds the same bias again; percentile intervals add both
    (mean MD over classes at CIFAR's test counts, true 0.20: a percentile interval covers 4 % at
    nominal 95). Measured coverage at nominal 95 of one class's MD (100 images a cell), true mean
    0 / 0.06 / 0.20 / 0.40: 80 / 90 / 89 / 90 %; for the mean over classes see `readings`. Widened
    to the estimate where it would miss it. Near a true gap of zero no bootstrap is right: that is
    what the noise floor is for. NaN where the estimate, or more than half of the draws, is not
    defined.
    """
    observed, resamples = draws[0], draws[1:]
    ordered = np.sort(resamples, axis=0)  # NaN last
    count = (~np.isnan(resamples)).sum(axis=0).astype(np.float64)
    tail = np.full(count.shape, (1 - level) / 2)
    low = np.minimum(2 * observed - _at(ordered, count, 1 - tail), observed)
    high = np.maximum(2 * observed - _at(ordered, count, tail), observed)
    missing = np.isnan(observed) | (count < 0.5 * len(resamples))
    return np.where(missing, np.nan, low), np.where(missing, np.nan, high)


def band(draws: Floats, level: float) -> tuple[Floats, Floats, Floats]:
    """Mean and central quantiles of null draws ``(P, ...)``; NaN where under half are defined."""
    ordered = np.sort(draws, axis=0)
    defined = ~np.isnan(draws)
    count = defined.sum(axis=0).astype(np.float64)
    total = np.where(defined, draws, 0.0).sum(axis=0)
    mean = total / np.maximum(count, 1.0)
    tail = np.full(count.shape, (1 - level) / 2)
    ends = [mean, _at(ordered, count, tail), _at(ordered, count, 1 - tail)]
    low_count = count < 0.5 * len(draws)
    value, low, high = (np.where(low_count, np.nan, end) for end in ends)
    return value, low, high


def wilson(hits: int, total: int, level: float) -> tuple[float, float, float]:
    """A share with its Wilson score interval; all NaN without rows."""
    if not total:
        return float("nan"), float("nan"), float("nan")
    z, p = float(ndtri(0.5 + level / 2)), hits / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    reach = z / (1 + z * z / total) * np.sqrt(p * (1 - p) / total + z * z / (4 * total**2))
    low, high = float(centre - reach), float(centre + reach)
    return p, low if hits else 0.0, high if hits < total else 1.0


def mcnemar(lost: int, gained: int) -> float:
    """Exact two-sided p of ``lost = gained`` among independent rows; 1 where no row flipped."""
    from scipy.stats import binomtest  # slow to load, and a plan flips no rows

    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
