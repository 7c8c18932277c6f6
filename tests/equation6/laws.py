"""Predictions and bias series that follow eq. 6 with known parameters."""

import numpy as np
from scipy.stats import norm

from ray_selfloop.equation6.bias import BiasSeries
from ray_selfloop.evaluation.predictions import Outcome, TestSet

CLASSES, GROUPS = 10, 3
SHARED = 0.7  # correlation of an image's difficulty between classifiers


def outcomes(growth, bias, seed, *, per_cell=60, chains=3, steps=4, seeds=2):
    """Test set and trials: subgroup rates 0.85 + B, 0.85, 0.85 - B with B(t) = bias growth^t."""
    rng, n = np.random.default_rng(seed), CLASSES * GROUPS * per_cell
    labels, subgroups = np.arange(n) % CLASSES, (np.arange(n) // CLASSES) % GROUPS
    test = TestSet(
        labels, subgroups, np.arange(n), tuple(map(str, range(CLASSES))), ("r", "b", "g"),
        np.ones((CLASSES, GROUPS)), pooled=True, crossed=False,
    )  # fmt: skip
    difficulty = rng.standard_normal(n)
    found = []
    for chain in range(chains):
        for t in range(steps + 1):
            rate = 0.85 + bias * growth**t * (1 - subgroups)
            for s in range(seeds):
                own = np.sqrt(1 - SHARED**2) * rng.standard_normal(n)
                right = norm.cdf(SHARED * difficulty + own) < rate
                found.append(
                    Outcome(chain, t, "a", s, np.where(right, labels, (labels + 1) % CLASSES))
                )
    return test, found


def series(scenario, classifier, bias, seed, *, noise=2e-4, draws=200):
    """A series with B ``(m, N + 1)`` and normal noise of B^2, half of it shared by all."""
    rng, bias = np.random.default_rng(seed), np.asarray(bias, float)
    m, length = bias.shape

    def error(n):
        own, shared = rng.standard_normal((n, m, length)), rng.standard_normal((n, 1, 1))
        return noise * (own + shared)

    observed = bias[None] ** 2 + error(1)
    none = np.zeros((draws, m, length))
    return BiasSeries(
        scenario, classifier, tuple(range(m)), np.concatenate([observed, observed + error(draws)]),
        0.0, np.ones((m, length), np.int64), np.full(length, 3 * noise), none,
    )  # fmt: skip
