"""Intervals: closed forms, and coverage in simulations with a known truth."""

import numpy as np
import pytest
import worlds

from ray_selfloop.evaluation import fairness
from ray_selfloop.evaluation.intervals import band, chain_variance, over_chains, reverse_percentile
from ray_selfloop.evaluation.readings import Plan, subgroup_readings
from ray_selfloop.evaluation.tallies import resampled


def test_reverse_percentile_mirrors_the_quantiles_around_the_estimate():
    draws = np.concatenate([[5.0], np.linspace(4.0, 9.0, 101)])
    low, high = reverse_percentile(draws, 0.9)
    assert low == pytest.approx(10 - 8.75)
    assert high == pytest.approx(10 - 4.25)


def test_intervals_are_missing_where_the_estimate_or_most_draws_are():
    draws = np.tile(np.linspace(0, 1, 11)[:, None], (1, 3))
    draws[0, 0], draws[1:8, 1], draws[1:4, 2] = np.nan, np.nan, np.nan
    low, high = reverse_percentile(draws, 0.9)
    np.testing.assert_array_equal(np.isnan(low), [True, True, False])
    np.testing.assert_array_equal(np.isnan(high), [True, True, False])


@pytest.mark.parametrize("p", [(0.95, 0.9, 0.85), (0.95, 0.85, 0.65)])
def test_image_intervals_cover_true_gaps(p):
    rng, p = np.random.default_rng(0), np.array(p)
    test = worlds.independent(rng, n=1200, classes=5)
    correct = rng.random((300, 1200)) < p[test.subgroups]
    tally = resampled(correct, test, 300, 0)
    pooled = fairness.ratio(tally.hits.sum(axis=-2), tally.support.sum(axis=-2))
    for values, truth in (
        (fairness.md(pooled), np.ptp(p)),
        (fairness.meo(pooled, False), fairness.meo(p, False)),
        (fairness.worst(pooled), p.min()),
    ):
        low, high = reverse_percentile(values, 0.95)
        assert 0.89 <= ((low <= truth) & (truth <= high)).mean() <= 0.99


def test_three_chains_cover_their_mean_where_a_bootstrap_of_runs_does_not():
    rng, inside, naive = np.random.default_rng(2), [], []
    for _ in range(500):
        image = 0.3 * rng.standard_normal()  # what the test images add to all chains
        chains = rng.standard_normal(3) + image
        draws = np.vstack([chains, chains + 0.3 * rng.standard_normal((200, 1))])
        _, low, high = over_chains(draws, 0.9)
        inside.append(low <= 0 <= high)
        runs = chains[rng.integers(3, size=(200, 3))].mean(axis=1)
        naive.append(np.quantile(runs, 0.05) <= 0 <= np.quantile(runs, 0.95))
    assert 0.86 <= np.mean(inside) <= 0.95
    assert np.mean(naive) < 0.75


def test_chain_variance_adds_only_what_the_chains_share():
    rng = np.random.default_rng(3)
    chains = rng.standard_normal(4)
    own = chains + rng.standard_normal((4000, 4))
    shared = chains + rng.standard_normal((4000, 1))
    between = chains.var(ddof=1) / 4
    assert chain_variance(np.vstack([chains, own]))[0] == pytest.approx(between, abs=0.02)
    assert chain_variance(np.vstack([chains, shared]))[0] == pytest.approx(between + 1, abs=0.08)


def test_one_chain_has_the_image_interval_alone():
    draws = np.random.default_rng(4).standard_normal((501, 1))
    value, low, high = over_chains(draws, 0.95)
    expected = reverse_percentile(draws[:, 0], 0.95)
    assert (value, low, high) == (draws[0, 0], *(float(end) for end in expected))


def test_a_band_is_the_mean_and_the_central_quantiles():
    draws = np.linspace(0, 1, 1001)[:, None] * np.array([1.0, np.nan])
    value, low, high = band(draws, 0.9)
    np.testing.assert_allclose([value[0], low[0], high[0]], [0.5, 0.05, 0.95])
    assert np.isnan([value[1], low[1], high[1]]).all()


@pytest.mark.parametrize(("half", "least"), [(0.03, 0.8), (0.1, 0.88), (0.2, 0.82)])
def test_intervals_of_a_mean_disparity_over_classes_cover_it_at_cifar_counts(half, least):
    """Nominal 95 %; resampling the observed rates alone covers 54 % at the smallest gap."""
    rng, classes, groups = np.random.default_rng(5), 20, 5
    p = 0.6 + rng.permuted(np.tile(np.linspace(-half, half, groups), (classes, 1)), axis=1)
    cells = np.arange(classes * groups).repeat(100)
    test = worlds.TestSet(
        cells // groups, cells % groups, np.arange(len(cells)),
        worlds.names("c", classes), worlds.names("g", groups), np.ones((classes, groups)),
        pooled=False, crossed=False,
    )  # fmt: skip
    correct = rng.random((120, len(cells))) < p.ravel()[cells]
    tally = resampled(correct, test, 150, 0)
    alone = np.arange(120)
    plan = Plan(test, False, alone, np.ones((120, classes), np.bool_))
    found = {r.metric: r.values for r in subgroup_readings(tally, plan, bootstrap=True)}
    for metric, gap in (("md", fairness.md), ("meo", lambda x: fairness.meo(x, False))):
        truth = gap(p).mean()
        values = found[f"{metric}_per_class"]
        low, high = reverse_percentile(values, 0.95)
        assert least <= ((low <= truth) & (truth <= high)).mean() <= 0.99
        plain = gap(fairness.ratio(tally.hits, tally.support)).mean(axis=-1)
        np.testing.assert_allclose(values[0], plain[0])  # the estimate itself does not move
        low, high = reverse_percentile(plain, 0.95)
        if half == 0.03:
            assert ((low <= truth) & (truth <= high)).mean() < 0.65


def test_chains_that_agree_by_chance_are_no_surer_than_their_images():
    rng = np.random.default_rng(0)
    draws = np.concatenate([np.full((1, 3), 0.1), rng.normal(0.1, 0.02, (400, 3))])
    variance, freedom = chain_variance(draws)
    assert variance == pytest.approx(draws[1:].mean(axis=1).var(ddof=1))
    assert freedom > 1e6
    _, low, high = over_chains(draws, 0.95)
    assert high - low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.05)
