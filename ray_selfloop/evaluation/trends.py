"""Slopes over generations. Knows nothing of what is measured."""

from collections.abc import Sequence

import numpy as np

from ray_selfloop.evaluation.predictions import Floats


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
