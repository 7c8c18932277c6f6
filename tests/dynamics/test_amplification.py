"""A from simulated predictions with a known law, and the verdicts."""

from dataclasses import replace

import laws
import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.dynamics.amplification import (
    NO_BIAS,
    ONE_CHAIN,
    Images,
    amplification,
    contrast,
    reach,
)
from ray_selfloop.dynamics.factors import bias_series

SETTINGS = Evaluation(resamples=150, permutations=150)
LIMIT = 4.0


def fitted(growth, bias, seed, **more):
    test, found = laws.outcomes(growth, bias, seed, **more)
    (series,) = bias_series("s", found, test, SETTINGS)
    return amplification(series, 0.95, LIMIT)


@pytest.mark.parametrize("log_a", [-1.0, -0.1, 0.0, 0.3, 1.3])
def test_the_contrast_of_a_true_law_is_zero(log_a):
    known = np.array([1.0, 1.0, 0.0, 1.0, 1.0])
    curve = np.exp(2 * log_a * np.arange(5))
    found = contrast(np.array([log_a]), known[None])[0, 0]
    assert found @ curve == pytest.approx(0.0, abs=1e-9 * curve.max())
    assert found[2] == 0
    assert abs(found @ np.exp(2 * (log_a + 0.05) * np.arange(5))) > 1e-3


@pytest.mark.parametrize("growth", [0.9, 1.0, 1.1])
def test_the_interval_covers_the_true_a(growth):
    found = [fitted(growth, 0.08, seed) for seed in range(20)]
    assert np.mean([f.a for f in found]) == pytest.approx(growth, abs=0.02)
    assert sum(f.low <= growth <= f.high for f in found) >= 17
    right = {0.9: "A < 1", 1.0: "undecided", 1.1: "A > 1"}[growth]
    assert sum(f.verdict == right for f in found) >= (17 if growth == 1.0 else 12)


def test_without_bias_at_generation_0_there_is_nothing_to_amplify():
    found = [fitted(1.0, 0.0, seed, steps=2) for seed in range(20)]
    assert sum(f.verdict == NO_BIAS for f in found) >= 17
    assert all(np.isnan([f.a, f.low, f.high]).all() for f in found if f.verdict == NO_BIAS)


def test_one_chain_has_an_interval_and_no_verdict():
    found = [fitted(1.25, 0.08, seed, chains=1, steps=3) for seed in range(20)]
    assert all(f.verdict == ONE_CHAIN for f in found)
    assert sum(f.low <= 1.25 <= f.high for f in found) >= 17
    assert sum(f.low > 1 for f in found) >= 15


def test_steps_have_their_own_ratio_where_bias_is_measurable():
    bias = np.array([[0.1, 0.12, 0.06, 1e-4, 0.1]] * 3)
    series = laws.series("s", "a", bias, 0, noise=1e-5)
    found = amplification(series, 0.95, LIMIT).by_step
    assert sorted(found) == [0, 1, 2]  # generation 3 is under its floor: no ratio to it as base
    assert found[0][0] == pytest.approx(1.2, abs=0.01)
    assert found[1][1] <= 0.5 <= found[1][2]


def test_chains_that_lack_a_generation_still_count():
    series = laws.series("s", "a", 0.1 * 1.1 ** np.arange(5) * np.ones((3, 1)), 0, noise=1e-6)
    squared = series.squared.copy()
    squared[:, 1, 3:] = np.nan
    found = amplification(replace(series, squared=squared), 0.95, LIMIT)
    assert found.a == pytest.approx(1.1, abs=1e-3)
    assert found.low <= 1.1 <= found.high


def test_bias_that_vanishes_after_generation_0_gives_a_below_one():
    bias = np.tile([0.15, 0.0, 0.0, 0.0], (3, 1))
    found = amplification(laws.series("s", "a", bias, 1), 0.95, LIMIT)
    assert found.verdict in ("A < 1", "undecided: no A fits")
    assert np.isnan(found.a) or found.a < 0.6


def test_an_end_that_the_search_does_not_find_is_open():
    series = laws.series("s", "a", 0.1 * 1.3 ** np.arange(4) * np.ones((3, 1)), 0, noise=1e-4)
    closed = amplification(series, 0.95, LIMIT)
    assert closed.low < closed.a < closed.high
    limit = (closed.a + closed.high) / 2  # between the estimate and the upper end
    opened = amplification(series, 0.95, limit)
    assert opened.a == pytest.approx(closed.a)
    assert opened.low == pytest.approx(closed.low)
    assert np.isnan(opened.high)
    assert opened.verdict == closed.verdict == "A > 1"


def test_a_does_not_depend_on_the_scale_of_bias():
    bias = 0.08 * 1.05 ** np.arange(6) * np.ones((3, 1))
    one = laws.series("s", "a", bias, 2)
    other = replace(one, squared=one.squared * 9, floor=one.floor * 9)
    a, b = (amplification(s, 0.95, LIMIT) for s in (one, other))
    assert (a.a, a.low, a.high) == pytest.approx((b.a, b.low, b.high))


def test_the_images_part_is_that_of_new_test_images():
    """Without true bias B^2 is all square part; resamples scatter three times as much as B^2 does.

    Gaps of 40 cells with sampling sd s, shared by all chains: Var B^2 = 2 tr S^2 = 80 s^4.
    """
    sd, shape = 0.004, np.ones((4, 3))
    rng, images, raw = np.random.default_rng(0), [], []
    plain = laws.series("s", "a", 0.1 * shape, 0, draws=400)
    for _ in range(60):
        gaps = sd * rng.standard_normal(40)
        again = sd * rng.standard_normal((400, 40))
        values = (gaps**2).sum(), ((gaps + again) ** 2).sum(axis=-1), (again**2).sum(axis=-1)
        observed, draws, square = (np.multiply.outer(v, shape) for v in values)
        squared = np.concatenate([observed[None], draws])
        series = replace(plain, squared=squared, square=square)
        found = Images.of(series, np.ones(4, bool))
        images.append(found.variance(np.full((1, 4, 3), 1 / 3))[0])
        raw.append(values[1].var())
    assert np.mean(raw) == pytest.approx(3 * 80 * sd**4, rel=0.15)
    assert np.mean(images) == pytest.approx(80 * sd**4, rel=0.35)


def test_a_floor_inflated_bias_has_an_interval_and_no_verdict():
    bias = 0.1 * 1.3 ** np.arange(4) * np.ones((3, 1))
    series = laws.series("s", "a", bias, 0, noise=1e-5)
    assert amplification(series, 0.95, LIMIT).verdict == "A > 1"
    found = amplification(replace(series, inflated=True), 0.95, LIMIT)
    assert found.verdict == "undecided: floor-inflated B"
    assert found.low > 1


@pytest.mark.parametrize("chains", [2, 3, 9, 10, 20])
def test_an_interval_reaches_as_far_as_the_two_parts_of_its_error_need(chains):
    one, none = np.ones(1), np.zeros(1)
    of_chains = reach(0.9, chains, one, none)[0]
    assert of_chains == pytest.approx(student.ppf(0.95, chains - 1), rel=1e-3)
    assert reach(0.9, chains, none, one)[0] == pytest.approx(norm.ppf(0.95), rel=3e-3)
    both = reach(0.9, chains, one, one)[0]
    assert 1.4 * norm.ppf(0.95) < both < 2**0.5 * of_chains + 1e-9


def test_the_law_of_the_interval_is_one_from_few_chains_to_many():
    """No other rule from some number of chains on: the same scatter, ever narrower."""
    found = [reach(0.95, m, np.ones(1) / m, np.ones(1) / 10)[0] for m in range(2, 30)]
    assert (np.diff(found) < 0).all()


def test_one_seed_is_marked():
    test, found = laws.outcomes(1.0, 0.1, 0, per_cell=20, chains=2, steps=1)
    (two,) = bias_series("s", found, test, SETTINGS)
    (one,) = bias_series("s", [o for o in found if o.seed == 0], test, SETTINGS)
    assert (two.seeds_apart, one.seeds_apart) == (True, False)
