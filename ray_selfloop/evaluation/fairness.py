"""Fairness of subgroup true positive rates: eq. 2 to 5 of the paper and what stands beside them.

Pure functions of rates or counts whose last axis is the subgroup; all leading axes are free. A
subgroup without test rows has rate NaN and takes part in nothing. A number that is not defined is
NaN, never infinite and never replaced. Knows nothing of trials, draws or tables.
"""

from collections.abc import Callable, Iterator
from functools import reduce
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.evaluation.predictions import Floats

MAJORITY_MARGIN = 0.02  # training shares closer than this count as equal (rounding of counts)


def ratio(top: Floats, bottom: Floats) -> Floats:
    """top / bottom, NaN where bottom is 0."""
    top, bottom = np.broadcast_arrays(top, bottom)
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)


def _fold(operation: Callable[..., NDArray[Any]], values: NDArray[Any]) -> NDArray[Any]:
    """Reduce the short last axis slice by slice: several times faster than numpy's own."""
    return reduce(operation, (values[..., i] for i in range(values.shape[-1])))


def mean_defined(values: Floats) -> Floats:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(values)
    total = _fold(np.add, np.where(defined, values, 0.0))
    return ratio(total, _fold(np.add, defined.astype(np.float64)))


def _pairs(rates: Floats) -> Iterator[tuple[Floats, Floats]]:
    for i, j in combinations(range(rates.shape[-1]), 2):
        yield rates[..., i], rates[..., j]


def _pair_mean(differences: list[Floats], shape: tuple[int, ...]) -> Floats:
    """Mean over the pairs of supported subgroups; NaN with fewer than two of them."""
    total, count = np.zeros(shape), np.zeros(shape)
    for difference in differences:
        defined = ~np.isnan(difference)
        total += np.where(defined, difference, 0.0)
        count += defined
    return ratio(total, count)


def mean_gap(rates: Floats) -> Floats:
    """Mean over unordered pairs of |r_i - r_j|; ``(..., G) -> (...)``."""
    return _pair_mean([np.abs(a - b) for a, b in _pairs(rates)], rates.shape[:-1])


def meo(rates: Floats, ordered: bool) -> Floats:
    """Multi-group equality of opportunity, eq. 2, 0..1; 1 is equal.

    ``1 - 1/C(G,2) sum_{i<j} |TPR_i - TPR_j|``. ``i, j < G`` is read as ``<= G``. ``ordered`` sums
    over ordered pairs as printed, which counts each gap twice: 2 meo - 1, range -1..1. No library
    has it; with G = 2 it is one minus AIF360's `equal_opportunity_difference`, absolute.
    """
    return 1.0 - (2.0 if ordered else 1.0) * mean_gap(rates)


def di(rates: Floats, ordered: bool) -> Floats:
    """Multi-group disparate impact, eq. 3, at most 1, no lower bound; 1 is equal.

    ``1 - 1/(G(G-1)) sum_{i != j} |TPR_i / TPR_j - 1|``: the mean over both orders of each pair, so
    that renumbering subgroups changes nothing. NaN where a supported subgroup has rate 0.
    ``ordered`` divides by C(G,2) as printed: 2 di - 1. fairlearn's and torchmetrics' ratios are
    `di_min_max`, another number.
    """
    both = [0.5 * (np.abs(ratio(a, b) - 1.0) + np.abs(ratio(b, a) - 1.0)) for a, b in _pairs(rates)]
    value = 1.0 - (2.0 if ordered else 1.0) * _pair_mean(both, rates.shape[:-1])
    return np.where(_fold(np.logical_or, rates == 0.0), np.nan, value)


def _extremes(rates: Floats) -> tuple[Floats, Floats]:
    """Smallest and largest supported rate; NaN with fewer than two supported subgroups."""
    few = _fold(np.add, (~np.isnan(rates)).astype(np.int64)) < 2
    low, high = _fold(np.fmin, rates), _fold(np.fmax, rates)  # which pass over NaN
    return np.where(few, np.nan, low), np.where(few, np.nan, high)


def di_min_max(rates: Floats) -> Floats:
    """Smallest over largest rate, 0..1; 0 where one rate is zero, NaN where all are.

    fairlearn's ``ratio(method="between_groups")`` and torchmetrics' `equal_opportunity`.
    """
    low, high = _extremes(rates)
    return ratio(low, high)


def md(rates: Floats) -> Floats:
    """Maximum disparity, eq. 4: largest minus smallest rate, 0..1.

    fairlearn's ``difference(method="between_groups")``; per class with ``control_features``.
    """
    low, high = _extremes(rates)
    return high - low


class AgainstRest(NamedTuple):
    """Each class against all others: rates in every subgroup, ``(..., C, G)``.

    right: P(predicted as it | of the class). wrong: P(predicted as it | of another class).
    chosen: P(predicted as it). base ``(C, G)``: P(of the class) in each subgroup of the test rows.
    signs ``(C, G)``: see `association`; NaN where the training data hold none.
    """

    right: Floats
    wrong: Floats
    chosen: Floats
    base: Floats
    signs: Floats


def equalized_odds_difference(rates: AgainstRest) -> Floats:
    """The larger of the differences (`md`) of true and of false positive rates, ``(..., C)``.

    Of two classes both have the same, which is fairlearn's ``equalized_odds_difference``; its of
    several classes is not defined.
    """
    return np.maximum(md(rates.right), md(rates.wrong))


def demographic_parity_difference(rates: AgainstRest) -> Floats:
    """Largest minus smallest share of a subgroup's rows that the class is predicted for,
    ``(..., C)``: fairlearn's, with the class as the positive one."""
    return md(rates.chosen)


def demographic_parity_ratio(rates: AgainstRest) -> Floats:
    """Smallest over largest of these shares, ``(..., C)``: fairlearn's, see above."""
    return di_min_max(rates.chosen)


def dba_at(rates: AgainstRest) -> Floats:
    """`directional_amplification` from subgroups to predicted classes, ``(..., C)``."""
    return directional_amplification(rates.chosen, rates.base, rates.signs)


def directional_amplification(found: Floats, base: Floats, signs: Floats) -> Floats:
    """``BiasAmp`` of Wang and Russakovsky (2021), ``(..., C, G) -> (..., C)``: their number is the
    mean over classes.

    Mean over subgroups of ``y (found - base)``, y = 1 where class and subgroup are associated, else
    -1. A -> T: found and base are shares of a class in subgroups, as predicted and as it is;
    T -> A: shares of a subgroup in classes. NaN without an association.
    """
    return mean_defined(signs * (found - base))


def association(shares: Floats, classes: Floats) -> Floats:
    """1 where a class and a subgroup come together more often than apart, else -1, ``(C, G)``.

    shares ``(C, G)`` of subgroups within classes; classes ``(C,)``: shares or counts. NaN where no
    subgroup's share in any class is `MAJORITY_MARGIN` from its share in all: what is left then is
    the rounding of counts.
    """
    above = shares - (classes / classes.sum()) @ shares
    if np.abs(above).max() <= MAJORITY_MARGIN:
        return np.full(shares.shape, np.nan)
    return np.where(above > 0, 1.0, -1.0)


def worst(rates: Floats) -> Floats:
    """Smallest supported rate over the last axis, 0..1; NaN without support.

    Empty subgroups are left out, as in SubpopBench; WILDS counts them as 0.
    """
    return _fold(np.fmin, rates)


def log_odds(hits: Floats, support: Floats) -> Floats:
    """``log((s + 1/2) / (n - s + 1/2))`` (add-half), always finite; NaN without support."""
    value = np.log((hits + 0.5) / (support - hits + 0.5))
    return np.where(support > 0, value, np.nan)


def ranked(rates: Floats) -> Floats:
    """Eq. 5: ``(..., C, G) -> (..., G)``, rates sorted ascending in each class, mean over classes.

    Rank k averages over the classes that have at least k supported subgroups. Where all have all,
    the best rank less the worst is the mean over classes of `md`.
    """
    return mean_defined(np.moveaxis(np.sort(rates, axis=-1), -2, -1))


def ranked_by(order_rates: Floats, rates: Floats) -> Floats:
    """Eq. 5 with the ranks of other rates: ``(..., C, G) -> (..., G)``.

    The subgroup at rank k of ``order_rates`` contributes its value in ``rates``. Tied subgroups
    share the ranks that they occupy, so that their numbering does not matter.
    """
    known = ~(np.isnan(order_rates) | np.isnan(rates))
    keys = np.where(known, order_rates, np.inf)[..., :, None]
    others = np.swapaxes(keys, -1, -2)
    below = _fold(np.add, (others < keys).astype(np.int8))  # (..., C, G)
    equal = _fold(np.add, (others == keys).astype(np.int8))
    by_rank = []
    for k in range(rates.shape[-1]):
        share = known & (below <= k) & (k < below + equal)
        weight = np.where(share, 1.0 / equal, 0.0)
        value = _fold(np.add, weight * np.where(known, rates, 0.0))
        by_rank.append(np.where(_fold(np.logical_or, share), value, np.nan))
    return mean_defined(np.swapaxes(np.stack(by_rank, axis=-1), -1, -2))


def _rate_variance(rates: Floats) -> Floats:
    """Sample variance over supported subgroups (divisor G' - 1); NaN below two."""
    known = ~np.isnan(rates)
    count = _fold(np.add, known.astype(np.float64))
    centred = np.where(known, rates - mean_defined(rates)[..., None], 0.0)
    return np.where(
        count < 2, np.nan, ratio(_fold(np.add, centred**2), np.maximum(count - 1.0, 1.0))
    )


def _cell_noise(hits: Floats, support: Floats) -> Floats:
    """Unbiased sampling variance of each cell's rate, ``p (1 - p) / (n - 1)``; NaN at n <= 1."""
    rates = ratio(hits, support)
    return ratio(rates * (1.0 - rates), support - 1.0)


def gap_variance(
    hits: Floats, support: Floats, spread: Floats | None = None
) -> tuple[Floats, Floats]:
    """Variance of the true subgroup rates within each class: ``(..., C, G) -> (..., C)``, twice.

    Variance components for independent cells, support n_g:
    ``1/(G-1) sum_g (p_g - mean p)^2  -  mean_g p_g (1 - p_g) / (n_g - 1)``.
    The second term is the sampling noise's expected share of the first, so that the first result
    is unbiased (and may be negative). The second result is the first term alone. Classes with a
    supported cell of one row are NaN: its noise cannot be estimated.
    spread: of units that are each shown in every subgroup, see `_crossed_noise`.
    """
    raw = _rate_variance(ratio(hits, support))
    if spread is None:
        noise, unknown = mean_defined(_cell_noise(hits, support)), (support == 1).any(axis=-1)
    else:
        noise = _crossed_noise(hits, support, spread)
        unknown = np.isnan(noise)
    raw = np.where(unknown, np.nan, raw)
    return raw - noise, raw


def gap_variance_pooled(
    hits: Floats, support: Floats, spread: Floats | None = None
) -> tuple[Floats, Floats]:
    """The same for rates pooled over the classes: ``(..., C, G) -> (...)``, twice.

    Classes are strata: the noise of pooled rate g is ``sum_c (n_cg / n_g)^2 noise_cg``; of crossed
    units, n_c of each class, that of the variance is ``sum_c (n_c / n)^2 noise_c``.
    """
    raw = _rate_variance(ratio(hits.sum(axis=-2), support.sum(axis=-2)))
    if spread is not None:
        units = support[..., 0]
        crossed = np.where(units > 0, _crossed_noise(hits, support, spread), 0.0)
        return raw - ((units / units.sum()) ** 2 * crossed).sum(axis=-1), raw
    raw = np.where((support == 1).any(), np.nan, raw)
    weight = ratio(support, support.sum(axis=-2, keepdims=True)) ** 2
    noise = np.where(support > 0, weight * _cell_noise(hits, support), 0.0).sum(axis=-2)
    noise = np.where(support.sum(axis=-2) > 0, noise, np.nan)
    return raw - mean_defined(noise), raw


def _crossed_noise(hits: Floats, support: Floats, spread: Floats) -> Floats:
    """Sampling noise of the variance of rates of one class whose n units are all in every subgroup:
    the rates are dependent, and their noise comes from the spread within units.

    ``(spread / n - Q) / ((n - 1)(G - 1))`` with ``Q = sum_g (p_g - mean p)^2``; see Tally for
    spread ``(..., C)``.
    """
    units, groups = support[..., 0], hits.shape[-1]
    q = (groups - 1) * _rate_variance(ratio(hits, support))
    return ratio(ratio(spread, units) - q, (units - 1.0) * (groups - 1))


def share_levels(shares: Floats) -> list[NDArray[np.bool_]] | None:
    """Masks ``(C, G)`` of the majority, the next share, ..., the minority; None where undefined.

    Shares within MAJORITY_MARGIN of each other form one level. Defined where there are at least
    two levels and the same number of them in every class.
    """
    ranks = np.empty(shares.shape, np.int64)
    for label, row in enumerate(shares):
        order = np.argsort(-row, kind="stable")
        drops = np.concatenate([[0], -np.diff(row[order]) > MAJORITY_MARGIN])
        ranks[label, order] = np.cumsum(drops)
    levels = ranks.max(axis=1)
    if levels.min() != levels.max() or levels[0] == 0:
        return None
    return [ranks == level for level in range(levels[0] + 1)]
