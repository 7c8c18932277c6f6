"""How much test images differ in difficulty, and the scale on which a level moves all alike.

Decides what 'the level alone has changed' means. A classifier that is right on image i with
probability ``expit(z + s d_i)``, d ~ N(0, 1), has the rate ``F_s(z) = E_d expit(z + s d)``. When
every image's logit moves by the same amount, rates move along F_s; the logit of a rate (s = 0)
moves by less, and by how much depends on the rate. Knows nothing of gaps or of rows.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import expit

from ray_selfloop.evaluation.fairness import ratio
from ray_selfloop.evaluation.predictions import Floats, Ids
from ray_selfloop.evaluation.tallies import Tally

NODES = np.linspace(-6.0, 6.0, 241)
WEIGHTS = np.exp(-0.5 * NODES**2) / np.exp(-0.5 * NODES**2).sum()
SDS = np.linspace(0.0, 8.0, 33)  # difficulties that are told apart; above the last: the last
STEP = 0.02  # of the link's table


@dataclass(frozen=True)
class Link:
    """F_s as a table, straight between its entries; sd: s, 0 or more. start: of the grid."""

    sd: float
    start: float
    table: Floats

    @staticmethod
    @lru_cache(maxsize=128)
    def of(sd: float) -> "Link":
        """The table over all logits that a rate of a finite cell can have."""
        reach = 20.0 + 5.0 * sd
        grid = np.arange(-reach, reach, STEP)
        return Link(sd, -reach, mixed(grid, sd) if sd else expit(grid))

    @property
    def grid(self) -> Floats:
        return self.start + STEP * np.arange(len(self.table), dtype=np.float64)

    def rate(self, logit: Floats) -> Floats:
        """F_s, any shape."""
        return self.rate_and_slope(logit)[0]

    def rate_and_slope(self, logit: Floats) -> tuple[Floats, Floats]:
        """F_s and its derivative, any shape."""
        place = np.clip((logit - self.start) / STEP, 0.0, len(self.table) - 1.001)
        below = place.astype(np.int64)
        rise = self.table[below + 1] - self.table[below]
        return self.table[below] + (place - below) * rise, rise / STEP

    def logit(self, rate: Floats) -> Floats:
        """The inverse of F_s for rates inside (0, 1), any shape."""
        return np.asarray(np.interp(rate, self.table, self.grid), np.float64)

    def moved(self, rates: Floats, target: Floats, support: Floats) -> Floats:
        """Rates ``(..., C, G)`` after one conditional shift of each class, ``z -> z + delta``, such
        that its accuracy ``sum_g n_g p_g / sum_g n_g`` is ``target (..., C)``; support ``(C, G)``.

        Newton steps on a monotone function, kept inside a bracket. NaN without support.
        """
        known = support > 0
        n = np.where(known, support, 0.0)
        weight = ratio(n, n.sum(axis=-1, keepdims=True))
        origin = self.logit(np.where(known, rates, 0.5))
        aim = self.logit(target)[..., None]
        low = aim - np.where(known, origin, -np.inf).max(axis=-1, keepdims=True)
        high = aim - np.where(known, origin, np.inf).min(axis=-1, keepdims=True)
        shift = 0.5 * (low + high)
        for _ in range(20):
            rate, slope = self.rate_and_slope(origin + shift)
            error = (weight * rate).sum(axis=-1, keepdims=True) - target[..., None]
            if np.nanmax(np.abs(error), initial=0.0) < 1e-12:
                break
            low, high = np.where(error < 0, shift, low), np.where(error > 0, shift, high)
            rise = np.maximum((weight * slope).sum(axis=-1, keepdims=True), 1e-12)
            step = shift - error / rise
            shift = np.where((step < low) | (step > high), 0.5 * (low + high), step)
        return np.where(known, self.rate(origin + shift), np.nan)


def mixed(logits: Floats, sd: float) -> Floats:
    """``E_d expit(logit + sd d)``, any shape."""
    return np.asarray(expit(logits[..., None] + sd * NODES) @ WEIGHTS)


def estimated(tally: Tally, base: Ids) -> float:
    """s of one classifier from its trials of generation 0; NaN where nothing shows it.

    base ``(T,)``: see `readings.Plan`. Two showings of one image that is right with one probability
    are right together more often than by chance. The excess over all cells, divided by what it were
    at most, is matched to what F_s predicts. Showings: the subgroups of a unit where these are
    crossed (all that makes this classifier's images differ); else two trials of different chain or
    seed (what makes all its trials' images differ, the smaller part).
    """
    trials = np.unique(base[base >= 0])
    hits = np.einsum("ttcg->tcg", tally.together)[trials]
    if tally.spread is not None:
        excess, most = _between_subgroups(hits, tally.spread[0, trials], tally.support)
    elif len(trials) > 1:
        excess, most = _between_trials(tally.together[np.ix_(trials, trials)], tally.support)
    else:
        return float("nan")
    if not most > 0:
        return float("nan")
    rates = (hits.sum(axis=0) + 0.5) / (len(hits) * tally.support + 1.0)  # add-half, (C, G)
    return float(np.interp(excess / most, _shares(rates, tally), SDS))


def _between_subgroups(hits: Floats, spread: Floats, support: Floats) -> tuple[float, float]:
    """Summed over trials and classes: mean covariance of the correctness of two subgroups of one
    unit, and mean of ``p_g (1 - p_h)``, g != h; hits ``(t, C, G)``, spread ``(t, C)``."""
    groups, n = hits.shape[-1], support[:, 0]
    used = n > 1
    total, rates = hits.sum(axis=-1), ratio(hits, support)
    pairs = groups * (groups - 1)
    squares = groups * (total - spread)  # of a unit's hits, summed over units
    joint = ratio(squares - total, n * pairs)
    product = (rates.sum(axis=-1) ** 2 - (rates**2).sum(axis=-1)) / pairs
    excess = ratio(n, n - 1.0) * (joint - product)
    most = rates.mean(axis=-1) - product + ratio(excess, n)
    return float((n * excess)[:, used].sum()), float((n * most)[:, used].sum())


def _between_trials(together: Floats, support: Floats) -> tuple[float, float]:
    """The same for two trials and one cell; together ``(t, t, C, G)``, see Tally."""
    hits = np.einsum("ttcg->tcg", together)
    n, rates = support, ratio(hits, support)
    product = rates[:, None] * rates
    excess = ratio(n, n - 1.0) * (ratio(together, n) - product)
    most = rates[:, None] - product + ratio(excess, n)
    used = ~np.eye(len(hits), dtype=np.bool_)[..., None, None] & (n > 1)
    return float((n * excess)[used].sum()), float((n * most)[used].sum())


def _shares(rates: Floats, tally: Tally) -> Floats:
    """What ``excess / most`` is at each of `SDS`, rising; rates and support ``(C, G)``."""
    found = []
    for sd in SDS:
        chance = expit(Link.of(sd).logit(rates)[..., None] + sd * NODES)  # (C, G, nodes)
        if tally.spread is None:
            excess, most = (chance**2) @ WEIGHTS - rates**2, rates * (1.0 - rates)
        else:
            excess, most = _of_pairs(chance, rates)
        n = tally.support[..., : np.shape(excess)[-1]]
        found.append(float((n * excess).sum() / (n * most).sum()))
    return np.maximum.accumulate(np.asarray(found))


def _of_pairs(chance: Floats, rates: Floats) -> tuple[Floats, Floats]:
    """Mean over pairs of subgroups, ``(C, 1)``: covariance, and ``p_g (1 - p_h)``."""
    pairs = rates.shape[-1] * (rates.shape[-1] - 1)
    joint = (chance.sum(axis=1) ** 2 - (chance**2).sum(axis=1)) @ WEIGHTS / pairs
    product = (rates.sum(axis=-1) ** 2 - (rates**2).sum(axis=-1)) / pairs
    return (joint - product)[:, None], (rates.mean(axis=-1) - product)[:, None]
