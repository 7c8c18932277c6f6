"""The smallest effect that a test over chains finds, and how often it finds one.

Knows errors and levels, and nothing of what is measured. The error of a mean over m chains has two
parts (see `chains`): what differs between chains, estimated with m - 1 freedom, and what all share.
``share`` is the second's part of the whole variance, 0 in a contrast of arms on the same images but
for a little.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from ray_selfloop.inference.chains import chi_square_quantile, critical

Floats = NDArray[np.float64]
POINTS = 400  # of the quadrature over the estimated variance
HALVINGS = 24  # of a bracket of the size: to 1e-7
FEW = slice(10, None, 20)  # of the points: enough for 1 % of the size
NEAR, TINY = 0.01, 1e-9  # a bracket's half width, of its middle; sizes that count as none


@cache
def _scatter(chains: int) -> Floats:
    """Equally likely values of (estimated over true) variance between chains, ``(POINTS,)``."""
    shares = (np.arange(POINTS) + 0.5) / POINTS
    return chi_square_quantile(shares, chains - 1) / (chains - 1)


def _reach(chains: int, alpha: float, share: float) -> Floats:
    """Half width of the interval, in true errors, for each of `_scatter`."""
    between = (1.0 - share) * np.maximum(_scatter(chains), 1e-12)
    if share == 0:
        return np.asarray(stdtrit(chains - 1, 1 - alpha / 2) * np.sqrt(between))
    ratio = share / np.maximum(between, 1e-12)
    return np.asarray(critical(1 - alpha, chains, ratio) * np.sqrt(between + share))


def power_of(effect: float, error: float, chains: int, alpha: float, share: float = 0.0) -> float:
    """Probability that the test at two-sided ``alpha`` finds a true ``effect`` on its own side.

    error: the mean's true standard error. 0 with one chain.
    """
    if chains < 2:
        return 0.0
    if error == 0:
        return float(effect != 0)
    return float(np.mean(ndtr(abs(effect) / error - _reach(chains, alpha, share))))


def detectable(error: float, chains: int, alpha: float, power: float, share: float = 0.0) -> float:
    """Smallest true effect that is found with this power where the error is known; inf with one
    chain. alpha: the level that a verdict needs, after multiplicity."""
    if chains < 2:
        return float("inf")
    return _in_errors(chains, alpha, power, round(share, 2)) * error


@cache
def _in_errors(chains: int, alpha: float, power: float, share: float) -> float:
    reach = _reach(chains, alpha, share)
    return _solved(lambda size: float(np.mean(ndtr(size - reach))) - power, 1.0)


def detectable_from(
    error: float, chains: int, alpha: float, power: float, share: float = 0.0, own: float = 0.0
) -> float:
    """The same from an *estimated* error.

    A multiple of the error such that, over the error's own scatter, a repetition of the experiment
    finds an effect of that size with this power: with 3 chains the error alone may be half or twice
    the true one. own: the part of the variance that is the chains' own test-image noise: known, so
    that no estimate lies below it. inf with one chain. share and own rest on the same estimate,
    and are largest where it happens to be small: taken whole, the effect would be found in 69 % at
    3 chains; times (m - 2)/(m - 1) in 77 to 91 (nominal 80; 3 and 5 chains).
    """
    if chains < 2:
        return float("inf")
    sure = (chains - 2) / (chains - 1)
    known = round(sure * min(share, 1.0), 2), round(sure * min(own, 1.0 - share), 2)
    return _in_estimated_errors(chains, alpha, power, *known) * error


@cache
def _in_estimated_errors(
    chains: int, alpha: float, power: float, share: float, own: float
) -> float:
    between = np.maximum((1.0 - share) * _scatter(chains), max(own, 1e-12))
    ratio = share / between
    reach = critical(1 - alpha, chains, ratio) * np.sqrt(between + share)
    found = np.sqrt(between + share)[:, None]  # estimated, in true errors
    few, some = found[FEW], reach[FEW]
    near = _solved(lambda size: float(np.mean(ndtr(size * few - some))) - power, 1.0)
    return _solved(lambda size: float(np.mean(ndtr(size * found - reach))) - power, near)


def _solved(lacks: Callable[[float], float], near: float) -> float:
    """The root of a rising function, by bisection: scipy.optimize is slow to load.

    near: where it may be. What lies beyond a narrow bracket of it is not asked, so that a function
    that takes long is called a fourth as often.
    """
    short, enough = _bracket(lacks, near)

    def lacking(size: float) -> bool:
        return lacks(size) < 0 if short < size < enough else size <= short

    low, high = 0.0, 1.0
    while lacking(high):
        low, high = high, 2.0 * high
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if lacking(middle) else (low, middle)
    return high


def _bracket(lacks: Callable[[float], float], near: float) -> tuple[float, float]:
    """A place where a rising function is below 0, or 0.0, and one near it where it is not.

    False position; where one end moves twice in turn, the other's value is halved (Illinois), so
    that both come near.
    """
    left, right, moved = near * (1 - NEAR), near * (1 + NEAR), 0
    while (below := lacks(left)) >= 0:
        left = 0.5 * left if left > TINY else 0.0
        if not left:
            return 0.0, right
    while (above := lacks(right)) < 0:
        right *= 2
    while above > 0 and right - left > right / 2**HALVINGS:
        middle = (left * above - right * below) / (above - below)
        value = lacks(middle)
        if value < 0:
            left, below, above, moved = middle, value, above / (2 if moved < 0 else 1), -1
        else:
            right, above, below, moved = middle, value, below / (2 if moved > 0 else 1), 1
    return left, right
