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

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from scipy.special import stdtrit

from ray_selfloop.inference.chains import Floats

DRAWS, SEED = 400_000, 20240  # simulated sweeps; the rate is known to 2 % at alpha = .005
TRIED = 20_000  # those behind a chance: it is known to 0.4 %


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
    found = np.empty((len(looks), DRAWS), np.float32)
    for k, (m, total, between) in enumerate(_simulated(looks, DRAWS)):
        found[k] = np.abs(total) / np.sqrt(m * between)
    return np.asarray(found)


def _simulated(looks: tuple[int, ...], draws: int) -> Iterator[tuple[int, Floats, Floats]]:
    """m, the sum over m standard normal chains and their variance s^2, look by look."""
    rng = np.random.default_rng(SEED)
    total, squares, done = np.zeros(draws), np.zeros(draws), 0
    for m in looks:
        for _ in range(done, m):
            values = rng.standard_normal(draws)
            total += values
            squares += values**2
        done = m
        yield m, total, (squares - total**2 / m) / (m - 1)


@dataclass(frozen=True)
class Chances:
    """What becomes of the statement 'it grows', as shares of all sweeps.

    decided: by each look. grows, falls, excluded: as what, at the last one; excluded: growth by the
    margin.
    """

    looks: tuple[int, ...]
    decided: tuple[float, ...]
    grows: float
    falls: float
    excluded: float

    def chains(self, statements: int = 1) -> float:
        """Mean number of chains until so many independent statements like this are decided, or
        the last look is made."""
        steps = zip(pairwise(self.looks), self.decided, strict=False)
        return self.looks[0] + sum((b - a) * (1 - p**statements) for (a, b), p in steps)


def chances(
    effect: float, sd: float, margin: float, looks: tuple[int, ...], alpha: float
) -> Chances:
    """Of a true effect that scatters by sd between chains; alpha: of all looks together.

    Decided for good by the first look whose interval lies above 0, below 0 or below the margin.
    """
    word, decided = np.zeros(TRIED, np.intp), []
    each = zip(_simulated(looks, TRIED), levels(looks, alpha), strict=True)
    for (m, total, between), level in each:
        mean = effect + sd * total / m
        reach = stdtrit(m - 1, 1 - level / 2) * sd * np.sqrt(between / m)
        ends = [mean - reach > 0, mean + reach < 0, mean + reach < margin]
        word = np.where(word > 0, word, np.select(ends, [1, 2, 3]))
        decided.append(float((word > 0).mean()))
    grows, falls, excluded = (float((word == i).mean()) for i in (1, 2, 3))
    return Chances(looks, tuple(decided), grows, falls, excluded)
