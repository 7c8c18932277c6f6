"""From draws to intervals and bands. Knows nothing of what a number means.

Two sources of uncertainty: the test images (bootstrap draws, shared by all trials) and the chains
(independent repetitions of the whole loop). Draw 0 is the observed value throughout.
"""

import numpy as np
from scipy.stats import t as student

from ray_selfloop.evaluation.outcomes import Floats


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


def chain_variance(draws: Floats) -> tuple[float, float]:
    """Variance of the mean over m > 1 chains, and its degrees of freedom; draws ``(1 + R, m)``.

    ``s^2 / m`` of the observed chain values holds all that differs between chains, with m - 1
    degrees of freedom. What all chains share is the test images' common part: from the bootstrap
    variance of the mean V and the mean of the chains' variances W it is ``(m V - W) / (m - 1)``.
    The degrees of freedom of the sum follow Satterthwaite. The mean cannot be surer than its test
    images: where few chains happen to agree, the variance is V.
    """
    m = draws.shape[1]
    between = float(draws[0].var(ddof=1)) / m
    of_mean = float(draws[1:].mean(axis=1).var(ddof=1))
    of_chains = float(draws[1:].var(axis=0, ddof=1).mean())
    common = max((m * of_mean - of_chains) / (m - 1), 0.0)
    total = max(between + common, of_mean)
    freedom = (m - 1) * (total / between) ** 2 if between > 0 else np.inf
    return total, float(freedom)


def over_chains(draws: Floats, level: float) -> tuple[float, float, float]:
    """Mean over chains with its interval: ``(1 + R, m) -> (value, low, high)``.

    Several chains: t interval (see chain_variance) around the mean less its bootstrap bias, widened
    to the mean. It is used at any number of chains: at 10 a percentile bootstrap of runs still
    covers 84 % at nominal 90. One chain: the image bootstrap; it holds for this chain only.
    """
    mean = draws.mean(axis=1)
    value = float(mean[0])
    if draws.shape[1] == 1:
        low, high = reverse_percentile(mean, level)
        return value, float(low), float(high)
    known = ~np.isnan(mean)
    if not known[0] or known.mean() < 0.5:
        return value, np.nan, np.nan
    variance, freedom = chain_variance(draws[known])
    reach = float(student.ppf(0.5 + level / 2, freedom)) * variance**0.5
    centre = 2 * value - float(mean[known][1:].mean())
    return value, min(centre - reach, value), max(centre + reach, value)


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
