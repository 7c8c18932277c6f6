"""What a loop's classifier has come to: a mean over chains in different states describes none.

A trial is in the first of these states whose condition it meets; C classes, G subgroups, all over
the test rows:

    one class only   one class is predicted for `MOST` of the rows or more
    by the shortcut  d_c = max over pairs of subgroups of the total variation
                     1/2 sum_k |P(k | c, g) - P(k | c, h)|; with two classes the larger d_c, with
                     more the mean of d_c over classes (one confused class is no shortcut) is above
                     `FOLLOWS` of its largest size, 1
    at chance        the mean over classes of the rate, S = mean_c h_c / n_c, is at most
                     1/C + 1.96 sqrt(sum_c (1/C)(1 - 1/C) / n_c) / C: what guessing reaches
    working          else

From predictions all of it is known. Counts (n, correct of each class and subgroup) give with two
classes the same: n - correct rows have the other class, so that the rows that are given class c are
correct_c + n_d - correct_d, and the total variation is the difference of the two rates. With more
classes they say that a row is wrong and not what it was taken for. Then 'one class only' asks for
one class with rate MOST or more and a rate of 1 - MOST or less in every other (which holds where
the state does, up to shares of the classes, and may hold where wrong rows went to several classes),
and the difference of two rates is the least that the total variation can be: 'by the shortcut' is
sure where it is said, and may be missed. Knows no chain, no generation and no table.
"""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.evaluation.predictions import Floats

MOST, FOLLOWS = 0.95, 0.8
WORKING, SHORTCUT, ONE_CLASS, CHANCE = STATES = (
    "working",
    "by the shortcut",
    "one class only",
    "at chance",
)
Words = NDArray[np.str_]


def of_predictions(given: Floats) -> Words:
    """given: ``(T, C, G, C)``, test rows of each class and subgroup by predicted class. ``(T,)``"""
    shares = given / np.maximum(given.sum(axis=-1, keepdims=True), 1.0)  # an empty cell: all 0
    pairs = combinations(range(given.shape[2]), 2)
    apart = [0.5 * np.abs(shares[:, :, g] - shares[:, :, h]).sum(axis=-1) for g, h in pairs]
    gaps = np.stack(apart or [np.zeros(given.shape[:2])]).max(axis=0)
    of_class = given.sum(axis=(1, 2)) / given.sum(axis=(1, 2, 3))[:, None]
    hits = np.einsum("tcgc->tcg", given)
    return _states(of_class.max(axis=-1) >= MOST, gaps, hits, given.sum(axis=-1))


def of_counts(hits: Floats, support: Floats) -> Words:
    """hits, support: ``(T, C, G)`` correct and all rows. ``(T,)``"""
    support = np.broadcast_to(support, hits.shape)
    rates = hits / support
    gaps = rates.max(axis=-1) - rates.min(axis=-1)
    return _states(_one_class(hits, support), gaps, hits, support)


def _one_class(hits: Floats, support: Floats) -> NDArray[np.bool_]:
    right, rows = hits.sum(axis=-1), support.sum(axis=-1)
    if hits.shape[1] == 2:
        given = right + (rows - right)[:, ::-1]
        return np.asarray((given / rows.sum(axis=-1, keepdims=True)).max(axis=-1) >= MOST)
    rates = np.sort(right / rows, axis=-1)
    return np.asarray((rates[:, -1] >= MOST) & (rates[:, -2] <= 1 - MOST))


def _states(one: NDArray[np.bool_], gaps: Floats, hits: Floats, support: Floats) -> Words:
    """gaps: ``(T, C)``, how far apart two subgroups of a class are at most."""
    apart = gaps.max(axis=-1) if gaps.shape[1] == 2 else gaps.mean(axis=-1)
    rows, chance = support.sum(axis=-1), 1 / hits.shape[1]
    mean = (hits.sum(axis=-1) / rows).mean(axis=-1)
    error = np.sqrt((chance * (1 - chance) / rows).sum(axis=-1)) * chance
    met = [one, apart > FOLLOWS, mean <= chance + 1.96 * error]
    return np.select(met, [ONE_CLASS, SHORTCUT, CHANCE], WORKING)
