"""A from simulated predictions with a known law, and the verdicts."""

from dataclasses import replace

import laws
import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.equation6.amplification import (
    NO_BIAS,
    ONE_CHAIN,
    Images,
    _misfit,
    amplification,
    contrast,
    reach,
)
from ray_selfloop.equation6.amplification import Test as OfFactor
from ray_selfloop.equation6.bias import bias_series

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


@pytest.mark.parametrize(
    "growth",
    [pytest.param(0.9, marks=pytest.mark.slow), 1.0, pytest.param(1.1, marks=pytest.mark.slow)],
)
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


# --- by hand -------------------------------------------------------------------------------------


def test_a_contrast_of_any_factor_is_finite():
    """Of growth without end all weight of t_A lies on the last generation, of decay on the first:
    with both, c is a straight line from there, and one that is decayed away."""
    grown, shrunk = contrast(np.array([400.0, -400.0]), np.ones((1, 5)))[:, 0]
    assert grown == pytest.approx([-1, -0.75, -0.5, -0.25, 0])
    assert shrunk[0] == pytest.approx(0, abs=1e-100) or np.isfinite(shrunk).all()
    still = contrast(np.zeros(1), np.ones((1, 5)))[0, 0]
    assert still == pytest.approx([-1, -0.5, 0, 0.5, 1])


def chosen(y, **others):
    """A test of these y; its weights are of A_t (see `contrast`)."""
    known = np.ones_like(y)
    none = Images(*(np.zeros((y.size, y.size)) for _ in range(2)))
    plain = {"images": none, "training": np.zeros_like(y), "level": 0.95, **others}
    return OfFactor(y, lambda x: contrast(x, known), **plain), known


@pytest.mark.parametrize("x", [-0.4, 0.0, 0.3])
def test_the_misfit_is_the_rest_of_least_squares_chain_by_chain(x):
    rng = np.random.default_rng(0)
    y = np.vstack([1 + rng.random((2, 4)), -np.ones((1, 4))])  # the last has no bias to fit
    test, known = chosen(y)
    curve = np.exp(2 * x * np.arange(4))[:, None]
    rest = sum(np.linalg.lstsq(curve, row, rcond=None)[1][0] for row in y[:2])
    assert _misfit(test, known, x) == pytest.approx(rest + 4.0)
    law, known = chosen(np.exp(2 * x * np.arange(4)) * np.array([[0.1], [0.3]]))
    assert _misfit(law, known, x) == pytest.approx(0.0, abs=1e-12)
    assert _misfit(law, known, x + 0.2) > 1e-4


@pytest.mark.parametrize("chains", [1, 3])
@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_the_images_variance_is_that_of_pairs_of_chains(chains, scale):
    """By loops over the pairs; scale: of the square part, at 10 it outweighs the linear one."""
    rng, length = np.random.default_rng(1), 3
    size = chains * length
    linear, square = ((m @ m.T) for m in rng.standard_normal((2, size, size)))
    weights = rng.standard_normal((2, chains, length))
    found = Images(linear, scale * square).variance(weights)
    for one, value in zip(weights, found, strict=True):
        parts = []
        for of in (linear, scale * square):
            pairs = [
                one[i] @ of[i * length : (i + 1) * length, j * length : (j + 1) * length] @ one[j]
                for i in range(chains)
                for j in range(chains)
                if i != j or chains == 1
            ]
            parts.append(sum(pairs) / len(pairs))
        assert value == pytest.approx(max(parts[0] - 2 * parts[1], 0) + max(parts[1], 0))


def test_what_differs_between_chains_is_their_scatter_and_of_one_that_of_its_seeds():
    y = np.array([[0.1, 0.2, 0.4], [0.2, 0.2, 0.2]])
    x, c = np.array([0.0]), np.array([-1.0, 0.0, 1.0])
    value, between, shared = chosen(y)[0].parts(x)
    each = y @ c
    assert (value[0], shared[0]) == (pytest.approx(each.mean()), 0)
    assert between[0] == pytest.approx(each.var(ddof=1) / 2)
    one, _ = chosen(y[:1], training=np.array([[1.0, 2.0, 4.0]]))
    assert one.parts(x)[1] == pytest.approx([1.0 + 4.0])
    assert one.excess(x)[0] == pytest.approx(each[0] - norm.ppf(0.975) * 5**0.5)


def test_a_step_beyond_the_limit_is_a_ratio_of_b_without_an_interval():
    """Tenfold in a step is not sought up to 4; it is B(t+1) over B(t), not B^2."""
    bias = np.array([[0.01, 0.1, 0.1]] * 3)
    series = laws.series("s", "a", bias, 0, noise=1e-9)
    value, low, high = amplification(series, 0.95, LIMIT).by_step[0]
    assert value == pytest.approx(10, rel=1e-3)
    assert np.isnan([low, high]).all()


def test_chains_without_two_generations_are_not_behind_a():
    bias = 0.1 * 1.2 ** np.arange(3) * np.ones((3, 1))
    series = laws.series("s", "a", bias, 0, noise=1e-6)
    squared = series.squared.copy()
    squared[:, 2, 1:] = np.nan
    found = amplification(replace(series, squared=squared), 0.95, LIMIT)
    assert (found.chains, found.verdict) == (2, "A > 1")
    two = series.squared.copy()
    two[:, 2, 2] = np.nan
    assert amplification(replace(series, squared=two), 0.95, LIMIT).chains == 3
    squared[:, 1, 1:] = np.nan
    alone = amplification(replace(series, squared=squared), 0.95, LIMIT)
    assert (alone.chains, alone.verdict) == (1, ONE_CHAIN)
