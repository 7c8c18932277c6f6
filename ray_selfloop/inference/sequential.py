"""Levels of a design that looks at its chains several times, and stops when it is decided.

At look k, of m_k chains (those of earlier looks among them), an interval has the level 1 - a_k. The
a_k are such that under no effect, with normal chains,

    P(p_k <= a_k at any look k) = alpha,    a_k proportional to m_k

so that the intervals of all looks hold together (repeated confidence intervals): whenever, and for
whatever reason, somebody stops, the true value lies outside any of them in at most alpha of all
sweeps. Equal a_k would be spent on 3 chains, whose interval is wide whatever its level. What all
chains share, the test images, makes the looks more alike and the rate smaller (measured:
benchmarks/sequential.py). Knows numbers of chains and levels, and nothing of what is measured.
"""

from functools import cache
from itertools import pairwise

import numpy as np
from scipy.special import stdtrit

from ray_selfloop.inference.chains import Floats

DRAWS, SEED = 400_000, 20240  # simulated sweeps; the rate is known to 2 % at alpha = .005


@cache
def levels(looks: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    """a_k of each look, two-sided; looks: m_k, rising, 2 or more. One look: alpha itself."""
    assert looks[0] >= 2, looks
    assert all(a < b for a, b in pairwise(looks)), looks
    if len(looks) == 1:
        return (alpha,)
    shares = np.array(looks) / looks[-1]
    found = _without_effect(looks)
    low, high = alpha / len(looks), alpha / float(shares[0])
    for _ in range(50):
        middle = 0.5 * (low + high)
        limits = [stdtrit(m - 1, 1 - 0.5 * middle * w) for m, w in zip(looks, shares, strict=True)]
        falsely = float((found > np.array(limits, np.float32)[:, None]).any(axis=0).mean())
        low, high = (middle, high) if falsely < alpha else (low, middle)
    return tuple(float(low * w) for w in shares)


@cache
def _without_effect(looks: tuple[int, ...]) -> Floats:
    """``|t|`` at each look of simulated sweeps without an effect, ``(K, DRAWS)``."""
    rng = np.random.default_rng(SEED)
    total, squares, done = np.zeros(DRAWS), np.zeros(DRAWS), 0
    found = np.empty((len(looks), DRAWS), np.float32)
    for k, m in enumerate(looks):
        for _ in range(done, m):
            values = rng.standard_normal(DRAWS)
            total += values
            squares += values**2
        done = m
        between = (squares - total**2 / m) / (m - 1)
        found[k] = np.abs(total) / np.sqrt(m * between)
    return np.asarray(found)
