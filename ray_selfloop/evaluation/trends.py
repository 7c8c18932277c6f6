"""Slopes over generations. Knows nothing of what is measured."""

from collections.abc import Sequence

import numpy as np

from ray_selfloop.evaluation.outcomes import Floats


def slope_weights(times: Sequence[int], last: int) -> Floats | None:
    """Weights ``(n,)`` of ordinary least squares per generation, ``(t - mean t) / sum (t - mean
    t)^2``; None with fewer than two of the generations, or than half of 0..``last``."""
    t = np.asarray(times, np.float64)
    if len(t) < max(2, (last + 1) / 2):
        return None
    centred = t - t.mean()
    return np.asarray(centred / (centred**2).sum())
