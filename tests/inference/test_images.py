"""Intervals and bands over test images: closed forms, and coverage with a known truth."""

import numpy as np
import pytest
from scipy.stats import binomtest

from ray_selfloop.evaluation import fairness
from ray_selfloop.evaluation.tallies import resampled
from ray_selfloop.inference.images import band, mcnemar, reverse_percentile, wilson
from ray_selfloop.simulator import Layout


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
    test = Layout(np.full((5, 3), 80), crossed=False, pooled=True).test_set()
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


def test_a_band_is_the_mean_and_the_central_quantiles():
    draws = np.linspace(0, 1, 1001)[:, None] * np.array([1.0, np.nan])
    value, low, high = band(draws, 0.9)
    np.testing.assert_allclose([value[0], low[0], high[0]], [0.5, 0.05, 0.95])
    assert np.isnan([value[1], low[1], high[1]]).all()


@pytest.mark.parametrize(("hits", "total"), [(0, 7), (3, 7), (7, 7), (40, 41)])
def test_wilsons_interval_and_mcnemars_p_are_scipys(hits, total):
    ends = binomtest(hits, total).proportion_ci(0.9, method="wilson")
    assert wilson(hits, total, 0.9) == pytest.approx((hits / total, ends.low, ends.high))
    assert mcnemar(hits, total - hits) == pytest.approx(binomtest(hits, total).pvalue)


def test_without_rows_there_is_no_share_and_without_flips_no_evidence():
    assert np.isnan(wilson(0, 0, 0.95)).all()
    assert mcnemar(0, 0) == 1.0
