"""Fairness numbers against fairlearn, and against a brute force in fractions."""

import warnings
from fractions import Fraction
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from fairlearn.metrics import MetricFrame
from sklearn.metrics import accuracy_score, recall_score
from torchmetrics.functional.classification import binary_groups_stat_rates

from ray_selfloop.evaluation import fairness

RNG = np.random.default_rng(7)
TABLES = [RNG.integers(0, 12, size=groups).tolist() for groups in (2, 2, 3, 3, 4, 5, 5)]


def brute_meo(rates):
    pairs = list(combinations(rates, 2))
    return 1 - sum((abs(a - b) for a, b in pairs), Fraction(0)) / len(pairs)


def brute_di(rates):
    if 0 in rates:
        return None
    pairs = list(permutations(rates, 2))
    return 1 - sum((abs(a / b - 1) for a, b in pairs), Fraction(0)) / len(pairs)


@pytest.mark.parametrize("hits", TABLES)
def test_meo_di_md_equal_a_brute_force_in_fractions(hits):
    fractions = [Fraction(h, 13) for h in hits]
    rates = np.array(hits) / 13
    assert fairness.meo(rates, ordered=False) == pytest.approx(float(brute_meo(fractions)))
    assert fairness.md(rates) == pytest.approx(float(max(fractions) - min(fractions)))
    expected = brute_di(fractions)
    found = fairness.di(rates, ordered=False)
    assert np.isnan(found) if expected is None else found == pytest.approx(float(expected))


@pytest.mark.parametrize("hits", TABLES)
def test_a_subgroup_without_support_takes_part_in_nothing(hits):
    rates = np.array(hits) / 13
    longer = np.insert(rates, 1, np.nan)
    for function in (fairness.md, fairness.di_min_max, fairness.worst, fairness.mean_gap):
        np.testing.assert_equal(function(longer), function(rates))
    np.testing.assert_equal(fairness.di(longer, False), fairness.di(rates, False))


def test_ordered_sums_are_twice_the_unordered_less_one():
    rates = RNG.random((50, 4)) + 0.01
    for function in (fairness.meo, fairness.di):
        np.testing.assert_allclose(function(rates, True), 2 * function(rates, False) - 1)


def test_with_two_subgroups_every_gap_is_the_same():
    rates = RNG.random((50, 2))
    gap = np.abs(rates[:, 0] - rates[:, 1])
    np.testing.assert_allclose(fairness.md(rates), gap)
    np.testing.assert_allclose(fairness.meo(rates, False), 1 - gap)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_renumbering_subgroups_changes_nothing(order):
    hits, support = RNG.integers(1, 9, size=(6, 3)).astype(float), np.full((6, 3), 9.0)
    rates, other = hits / support, (hits / support)[:, order]
    for function in (fairness.md, fairness.di_min_max, fairness.worst, fairness.mean_gap):
        np.testing.assert_allclose(function(rates), function(other))
    np.testing.assert_allclose(fairness.di(rates, False), fairness.di(other, False))
    np.testing.assert_allclose(fairness.ranked(rates), fairness.ranked(other))
    ranks = RNG.integers(1, 4, size=(6, 3)) / 4  # with ties
    np.testing.assert_allclose(
        fairness.ranked_by(ranks, rates), fairness.ranked_by(ranks[:, order], other)
    )


def test_a_zero_rate_leaves_di_missing_and_min_max_zero():
    rates = np.array([[0.0, 0.5, 0.9], [0.0, 0.0, 0.0], [0.4, 0.5, 0.5]])
    np.testing.assert_array_equal(np.isnan(fairness.di(rates, False)), [True, True, False])
    np.testing.assert_equal(fairness.di_min_max(rates), [0.0, np.nan, 0.8])


def test_nothing_is_ever_infinite_and_one_subgroup_has_no_gap():
    one = np.array([0.7, np.nan, np.nan])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [f(one) for f in (fairness.md, fairness.di_min_max, fairness.mean_gap)]
        found += [fairness.di(one, False), fairness.meo(one, True), fairness.md(one * np.nan)]
    assert all(np.isnan(value) for value in found)
    assert fairness.worst(one) == 0.7


def frame(labels, subgroups, predictions, **more):
    return MetricFrame(
        metrics=accuracy_score,
        y_true=labels,
        y_pred=predictions,
        sensitive_features=subgroups,
        **more,
    )


@pytest.mark.parametrize("seed", range(4))
def test_rates_gaps_and_ranks_equal_fairlearn(seed):
    rng = np.random.default_rng(seed)
    labels, subgroups = np.tile(np.arange(5), 60), rng.integers(4, size=300)
    predictions = np.where(rng.random(300) < 0.7, labels, (labels + 1) % 5)
    cells = labels * 4 + subgroups
    hits = np.bincount(cells, labels == predictions, 20).reshape(5, 4)
    support = np.bincount(cells, minlength=20).reshape(5, 4).astype(float)
    pooled = fairness.ratio(hits.sum(axis=0), support.sum(axis=0))
    every = frame(labels, subgroups, predictions)
    np.testing.assert_array_equal(pooled, every.by_group.to_numpy())
    assert fairness.md(pooled) == every.difference(method="between_groups")
    assert fairness.di_min_max(pooled) == every.ratio(method="between_groups")
    inside = frame(labels, subgroups, predictions, control_features=labels)
    rates = fairness.ratio(hits, support)
    np.testing.assert_allclose(
        fairness.md(rates), inside.difference(method="between_groups").to_numpy(float)
    )
    by_rank = np.sort(inside.by_group.unstack().to_numpy(float), axis=1).mean(axis=0)
    np.testing.assert_allclose(fairness.ranked(rates), by_rank, atol=1e-12)


def test_cross_fitted_ranks_by_hand():
    order = np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.5]])
    rates = np.array([[0.6, 0.7, 0.8], [0.1, 0.2, 0.3]])
    expected = [(0.7 + 0.1) / 2, (0.8 + 0.3) / 2, (0.6 + 0.2) / 2]
    np.testing.assert_allclose(fairness.ranked_by(order, rates), expected)


def test_ranks_of_the_same_rates_are_the_sorted_rates():
    rates = RNG.integers(0, 5, size=(7, 4, 3)) / 5
    np.testing.assert_allclose(fairness.ranked_by(rates, rates), fairness.ranked(rates))


def test_gap_variance_is_unbiased_for_independent_cells():
    p = np.array([[0.9, 0.8, 0.6], [0.5, 0.5, 0.5]])
    support = np.array([[20.0, 35.0, 50.0], [10.0, 10.0, 80.0]])
    draws = np.random.default_rng(0).binomial(support.astype(int), p, size=(20000, 2, 3))
    corrected, raw = fairness.gap_variance(draws.astype(float), support)
    np.testing.assert_allclose(corrected.mean(axis=0), p.var(axis=1, ddof=1), atol=2e-4)
    assert (raw.mean(axis=0) > p.var(axis=1, ddof=1) + 3e-3).all()
    pooled, _ = fairness.gap_variance_pooled(draws.astype(float), support)
    truth = ((p * support).sum(axis=0) / support.sum(axis=0)).var(ddof=1)
    assert pooled.mean() == pytest.approx(truth, abs=2e-4)


def test_gap_variance_is_unbiased_for_crossed_units():
    rng, units, p = np.random.default_rng(1), 40, np.array([0.9, 0.8, 0.6])
    shared = rng.random((6000, units, 1))
    correct = 0.5 * shared + 0.5 * rng.random((6000, units, 3)) < 1 - np.sqrt((1 - p) / 2)
    truth = 1 - 2 * (1 - (1 - np.sqrt((1 - p) / 2))) ** 2  # of the sum of two uniforms
    x = correct.astype(float)
    spread = (x.sum(-1) - x.sum(-1) ** 2 / 3).sum(axis=1)[:, None]
    hits, support = x.sum(axis=1)[:, None, :], np.full((1, 3), float(units))
    corrected, _ = fairness.gap_variance(hits, support, spread)
    assert corrected.mean() == pytest.approx(truth.var(ddof=1), abs=3e-4)
    pooled, _ = fairness.gap_variance_pooled(hits, support, spread)
    np.testing.assert_allclose(pooled, corrected[:, 0])  # one class: the same thing


HITS, SUPPORT = (
    np.array([[1.0, 3.0, 2.0], [4.0, 0.0, 1.0]]),
    np.array([[2.0, 4.0, 3.0], [5.0, 0.0, 4.0]]),
)


def variance_by_hand(rates, noise):
    """Of rates and the noise of each, in plain arithmetic."""
    mean = sum(rates) / len(rates)
    raw = sum((p - mean) ** 2 for p in rates) / (len(rates) - 1)
    return raw - sum(noise) / len(noise), raw


def of_cell(hits, n):
    """Rate and its noise: ``p (1 - p) / (n - 1)``."""
    p = hits / n
    return p, p * (1 - p) / (n - 1)


def test_gap_variance_by_hand_also_without_a_cell():
    corrected, raw = fairness.gap_variance(HITS, SUPPORT)
    for c in range(2):
        pairs = zip(HITS[c], SUPPORT[c], strict=True)
        rates, noise = zip(*(of_cell(h, n) for h, n in pairs if n), strict=True)
        assert (corrected[c], raw[c]) == pytest.approx(variance_by_hand(rates, noise))
    drawn = fairness.gap_variance(np.stack([HITS, HITS / 2]), np.stack([SUPPORT, SUPPORT]))
    np.testing.assert_allclose([part[0] for part in drawn], [corrected, raw])


def test_pooled_gap_variance_by_hand_also_without_a_cell():
    """Classes are strata: each brings the square of its share of the subgroup's images."""
    rates, noise = [], []
    for g in range(3):
        n_g = SUPPORT[:, g].sum()
        cells = [(h, n) for h, n in zip(HITS[:, g], SUPPORT[:, g], strict=True) if n]
        rates.append(sum(h for h, _ in cells) / n_g)
        noise.append(sum((n / n_g) ** 2 * of_cell(h, n)[1] for h, n in cells))
    found = fairness.gap_variance_pooled(HITS, SUPPORT)
    assert found == pytest.approx(variance_by_hand(rates, noise))


def test_a_cell_of_one_image_has_no_noise_and_so_no_gap_variance():
    """In its class; of the pooled rates in all. Two images are enough."""
    few = SUPPORT.copy()
    few[0, 0] = 1.0
    corrected, raw = fairness.gap_variance(HITS, few)
    np.testing.assert_array_equal(np.isnan([corrected, raw]), [[True, False]] * 2)
    assert np.isnan(fairness.gap_variance_pooled(HITS, few)).all()
    assert np.isfinite(fairness.gap_variance(HITS, SUPPORT)).all()
    assert np.isfinite(fairness.gap_variance_pooled(HITS, SUPPORT)).all()


def test_log_odds_add_a_half_to_both_sides():
    found = fairness.log_odds(np.array([0.0, 3.0, 4.0, 0.0]), np.array([4.0, 4.0, 4.0, 0.0]))
    np.testing.assert_allclose(found[:3], np.log([0.5 / 4.5, 3.5 / 1.5, 4.5 / 0.5]))
    assert np.isnan(found[3])


def test_shares_nearer_than_two_hundredths_are_one_level():
    def levels(*shares):
        found = fairness.share_levels(np.array([shares] * 2))
        return None if found is None else len(found)

    assert levels(0.37, 0.34, 0.29) == 3
    assert levels(0.345, 0.33, 0.325) is None
    assert levels(0.5, 0.255, 0.245) == 2


def test_share_levels_name_majority_and_minority_or_nothing():
    rotated = np.stack([np.roll([0.7, 0.2, 0.1], c) for c in range(4)])
    majority, _, minority = fairness.share_levels(rotated)
    np.testing.assert_array_equal(majority.argmax(axis=1), [0, 1, 2, 0])
    np.testing.assert_array_equal(minority.argmax(axis=1), [2, 0, 1, 2])
    strong = np.stack([np.roll([0.98, 0.01, 0.01], c) for c in range(4)])
    first, rest = fairness.share_levels(strong)
    np.testing.assert_array_equal(rest, ~first)
    assert fairness.share_levels(np.array([[0.34, 0.33, 0.33]] * 4)) is None  # rounding of a third


def drawn(seed, classes=5, groups=4, n=400):
    """Labels, subgroups and predictions; hits and support ``(C, G)``."""
    rng = np.random.default_rng(seed)
    labels, subgroups = rng.integers(classes, size=n), rng.integers(groups, size=n)
    predictions = np.where(rng.random(n) < 0.4 + 0.1 * labels, labels, (labels + 1) % classes)
    cells, size = labels * groups + subgroups, classes * groups
    hits = np.bincount(cells, labels == predictions, size).reshape(classes, groups)
    support = np.bincount(cells, minlength=size).reshape(classes, groups).astype(float)
    return labels, subgroups, predictions, hits, support


@pytest.mark.parametrize("seed", range(3))
def test_rates_equal_torchmetrics_with_correctness_as_the_prediction(seed):
    labels, subgroups, predictions, hits, support = drawn(seed)
    correct = torch.from_numpy((labels == predictions).astype(np.int64))
    rates = binary_groups_stat_rates(
        correct, torch.ones_like(correct), torch.from_numpy(subgroups), 4
    )
    ours = fairness.ratio(hits.sum(axis=0), support.sum(axis=0))
    theirs = [float(rates[f"group_{g}"][0]) for g in range(4)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)  # float32
    assert fairness.di_min_max(ours) == pytest.approx(min(theirs) / max(theirs))


@pytest.mark.parametrize("seed", range(3))
def test_macro_recall_is_another_number_than_the_pooled_rate(seed):
    labels, subgroups, predictions, hits, support = drawn(seed)
    pooled = fairness.ratio(hits.sum(axis=0), support.sum(axis=0))
    within = fairness.ratio(hits, support)
    for g in range(4):
        mine = subgroups == g
        macro = recall_score(labels[mine], predictions[mine], average="macro")
        assert within[:, g].mean() == pytest.approx(macro)
        assert pooled[g] != pytest.approx(macro)


def test_the_mean_disparity_within_classes_is_fairlearns_and_the_rank_gap_of_eq_5():
    labels, subgroups, predictions, hits, support = drawn(0)
    inside = frame(labels, subgroups, predictions, control_features=labels)
    rates = fairness.ratio(hits, support)
    expected = inside.difference(method="between_groups").to_numpy(float).mean()
    assert fairness.md(rates).mean() == pytest.approx(expected)
    ranks = fairness.ranked(rates)
    assert ranks[-1] - ranks[0] == pytest.approx(expected)


def test_fairlearns_ratio_is_not_eq_3():
    labels, subgroups, predictions, hits, support = drawn(1)
    pooled = fairness.ratio(hits.sum(axis=0), support.sum(axis=0))
    ratio = frame(labels, subgroups, predictions).ratio(method="between_groups")
    assert fairness.di_min_max(pooled) == pytest.approx(ratio)
    assert fairness.di(pooled, False) > ratio + 0.01  # a mean over pairs, not the worst pair
