"""Several questions at once: over the networks of one statement, and over the statements of a
family. Knows p values, and nothing of what they are of."""

from collections.abc import Sequence

import numpy as np


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p values: the k-th smallest times (n - k + 1), made monotone, at most 1."""
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p, np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(x) for x in adjusted]


def at_least(p: Sequence[float], least: int) -> float:
    """p of 'at least ``least`` of these hold', whatever joins them (partial conjunction).

    ``(K - u + 1) p_(u)``, at most 1, with ``p_(u)`` the u-th smallest of K and u = ``least``: u = 1
    is Bonferroni ('some'), u = K the largest p ('all'). NaN where fewer than u of them are known.
    """
    known = sorted(x for x in p if not np.isnan(x))
    if not 1 <= least <= len(known):
        return float("nan")
    return min(1.0, (len(p) - least + 1) * known[least - 1])


def needed(quantifier: str, networks: int) -> int:
    """Of so many networks, how many must hold: ``all``, ``most`` (more than half) or ``some``."""
    return {"all": networks, "most": networks // 2 + 1, "some": 1}[quantifier]
