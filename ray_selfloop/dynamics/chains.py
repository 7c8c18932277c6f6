"""How far the mean over chains may lie from the truth: critical values for a few or many chains.

Below MANY chains Student's t for the scatter of the chains and the normal quantile for what they
share, weighted by the two variances (Cochran); from MANY on a bootstrap over chains of the t
statistic. Knows nothing of what the chains' numbers mean.
"""

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from ray_selfloop import seeding
from ray_selfloop.evaluation.outcomes import Floats

MANY = 10
RESAMPLES = 599


def studentised(each: Floats, common: Floats, level: float) -> Floats:
    """Critical value of ``|mean| / sqrt(s^2 / m + common)``, one for each of n quantities.

    each: ``(n, m)``, m > 1 chains. common: ``(n,)``, variance that all chains share. Of few
    chains' scatter Satterthwaite's degrees of freedom make too much when it happens to be small
    (87 to 94 % at nominal 90; Cochran's weights 92 to 95 %). A percentile bootstrap of 10 runs
    covers 84 %: so it is studentised.
    """
    m = each.shape[1]
    between = each.var(axis=1, ddof=1) / m
    if m < MANY:
        chains = float(student.ppf(0.5 + level / 2, m - 1))
        images = float(norm.ppf(0.5 + level / 2))
        total = np.maximum(between + common, 1e-300)
        return np.asarray((chains * between + images * common) / total)
    rng = seeding.rng(0, "chains", m)
    counts = rng.multinomial(m, np.full(m, 1 / m), size=RESAMPLES).T.astype(np.float64)
    shared = rng.standard_normal(RESAMPLES) * np.sqrt(common)[:, None]
    centred = each - each.mean(axis=1, keepdims=True)
    mean = centred @ counts / m
    spread = np.maximum(centred**2 @ counts / m - mean**2, 0.0) / (m - 1)
    size = np.sqrt(np.maximum(spread + common[:, None], 1e-300))
    return np.asarray(np.quantile(np.abs(mean + shared) / size, level, axis=1))
