"""Resampling and permuting: what is drawn together, and what stays as it is."""

import numpy as np
import pytest
import worlds

from ray_selfloop.evaluation.predictions import TestSet
from ray_selfloop.evaluation.readings import gap_variances
from ray_selfloop.evaluation.tallies import permuted, resampled

DRAWS = 400


@pytest.fixture(params=["independent", "crossed"])
def test_set(request):
    rng = np.random.default_rng(3)
    return worlds.crossed(rng) if request.param == "crossed" else worlds.independent(rng)


def correctness(test, trials=5, seed=0):
    return np.random.default_rng(seed).random((trials, len(test.labels))) < 0.7


def test_draw_zero_holds_the_observed_counts(test_set):
    correct = correctness(test_set)
    tally = resampled(correct, test_set, DRAWS, 0)
    for c in range(test_set.classes):
        for g in range(test_set.groups):
            rows = (test_set.labels == c) & (test_set.subgroups == g)
            np.testing.assert_array_equal(tally.hits[0, :, c, g], correct[:, rows].sum(axis=1))
            assert tally.support[c, g] == rows.sum()


def test_resampled_hits_are_centred_on_the_observed_ones_with_binomial_spread():
    test_set = worlds.independent(np.random.default_rng(3))
    tally = resampled(correctness(test_set), test_set, 4000, 0)
    p = tally.hits[0] / tally.support
    sd = np.sqrt(tally.support * p * (1 - p))
    np.testing.assert_allclose(tally.hits[1:].mean(axis=0), tally.hits[0], atol=0.4)
    np.testing.assert_allclose(tally.hits[1:].std(axis=0), sd, rtol=0.08)


def test_always_right_stays_always_right_and_supports_are_kept(test_set):
    right = np.ones((1, len(test_set.labels)), bool)
    for tally in (resampled(right, test_set, DRAWS, 0), permuted(right, test_set, DRAWS, 0)):
        np.testing.assert_array_equal(
            tally.hits[:, 0],
            np.broadcast_to(tally.support, (len(tally.hits), *tally.support.shape)),
        )
        assert (tally.half_support <= tally.support).all()


def test_a_unit_in_all_subgroups_is_resampled_as_one():
    test = worlds.crossed(np.random.default_rng(0))
    by_unit = np.random.default_rng(1).random(1000)[test.units] < 0.6
    tally = resampled(by_unit[None], test, DRAWS, 0)
    assert (tally.hits == tally.hits[..., :1]).all()  # all colours of a digit: same hits


def test_trials_share_resamples_and_permutations(test_set):
    correct = correctness(test_set, trials=1)
    for draw in (resampled, permuted):
        both = draw(np.concatenate([correct, correct]), test_set, DRAWS, 0)
        np.testing.assert_array_equal(both.hits[:, 0], both.hits[:, 1])
        alone = draw(correct, test_set, DRAWS, 0)
        np.testing.assert_array_equal(both.hits[:, 0], alone.hits[:, 0])


def test_permutations_keep_every_class_and_crossed_ones_every_unit(test_set):
    correct = correctness(test_set)
    tally, observed = permuted(correct, test_set, DRAWS, 0), resampled(correct, test_set, 1, 0)
    expected = np.broadcast_to(observed.hits[0].sum(axis=-1), tally.hits.shape[:-1])
    np.testing.assert_array_equal(tally.hits.sum(axis=-1), expected)
    assert tally.hits.std(axis=0).min() > 0


def test_row_order_and_subgroup_numbers_do_not_matter():
    rng = np.random.default_rng(5)
    test = worlds.independent(rng)
    correct = correctness(test)
    rows, order = rng.permutation(len(test.labels)), np.array([2, 0, 1])
    shuffled = TestSet(
        test.labels[rows], order[test.subgroups][rows], test.units[rows], test.class_names,
        test.subgroup_names, test.train_shares, test.pooled, test.crossed,
    )  # fmt: skip
    for draw in (resampled, permuted):
        one, other = draw(correct, test, 50, 0), draw(correct[:, rows], shuffled, 50, 0)
        np.testing.assert_array_equal(one.hits, other.hits[..., order])
        np.testing.assert_array_equal(one.half_hits, other.half_hits[..., order])


def test_the_mean_noise_of_permuted_subgroups_is_removed_exactly(test_set):
    correct = correctness(test_set, trials=2)
    for variance in gap_variances(permuted(correct, test_set, 6000, 0), bootstrap=False):
        error = variance.std(axis=0) / np.sqrt(6000)
        assert (np.abs(variance.mean(axis=0)) < 4 * error).all()


def test_halves_are_disjoint_and_about_equal(test_set):
    tally = resampled(correctness(test_set), test_set, DRAWS, 0)
    assert (np.abs(2 * tally.half_support[0] - tally.support) <= 1).all()
    assert (tally.half_hits <= tally.hits).all()


def test_crossed_spreads_and_gap_variances_are_exact_beyond_single_precision():
    test = worlds.crossed(np.random.default_rng(0), units=1200, classes=3)
    correct = correctness(test)
    tally = resampled(correct, test, 3, 0)
    at = np.argsort(test.units * 3 + test.subgroups, kind="stable")
    x = correct[:, at].reshape(len(correct), -1, 3).astype(np.float64)
    labels = test.labels[at].reshape(-1, 3)[:, 0]
    within = ((x - x.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    expected = np.stack([within[:, labels == c].sum(axis=1) for c in range(3)], axis=-1)
    np.testing.assert_allclose(tally.spread[0], expected, rtol=1e-12)
    found = gap_variances(tally, bootstrap=False)[0][0]
    rates = np.stack([x[:, labels == c].mean(axis=1) for c in range(3)], axis=1)
    q = 2 * rates.var(axis=-1, ddof=1)
    n = np.bincount(labels)
    exact = (rates.var(axis=-1, ddof=1) - (expected / n - q) / ((n - 1) * 2)).mean(axis=-1)
    np.testing.assert_allclose(found, exact, atol=1e-14)


def test_what_two_trials_both_have_right_is_counted_by_cell(test_set):
    correct = correctness(test_set)
    for tally in (resampled(correct, test_set, 2, 0), permuted(correct, test_set, 2, 0)):
        for c in range(test_set.classes):
            for g in range(test_set.groups):
                rows = (test_set.labels == c) & (test_set.subgroups == g)
                both = (correct[0] & correct[1] & rows).sum()
                assert tally.together[0, 1, c, g] == tally.together[1, 0, c, g] == both
