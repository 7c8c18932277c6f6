"""Fidelity of generated images: exact sampling floors, shares, copies and the quality q."""

from itertools import product
from math import factorial, prod

import numpy as np
import pytest
from scipy.stats import binomtest

from ray_selfloop.evaluation import fidelity
from ray_selfloop.evaluation.frechet import frechet_distance, moments, radii

RNG = np.random.default_rng(12)
THIRDS = np.array([[1 / 3, 1 / 3, 1 / 3, 0.0]])


@pytest.mark.parametrize(("hits", "total"), [(0, 9), (4, 9), (9, 9), (480, 500)])
def test_wilson_equals_scipy(hits, total):
    expected = binomtest(hits, total).proportion_ci(0.9, method="wilson")
    np.testing.assert_allclose(
        fidelity.wilson(hits, total, 0.9), (hits / total, *expected), atol=1e-12
    )
    assert np.isnan(fidelity.wilson(0, 0, 0.9)).all()


@pytest.mark.parametrize(("n", "expected"), [(43, 0.086), (200, 0.040), (1800, 0.013)])
def test_sampling_floor_of_three_equal_colours(n, expected):
    assert fidelity.sampling_floor(np.array([n]), THIRDS)[0] == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("shares", [(0.7, 0.2, 0.1, 0.0), (0.25, 0.25, 0.5, 0.0)])
def test_sampling_floor_is_the_exact_expectation(shares):
    n, expected = 7, 0.0
    for counts in product(range(n + 1), repeat=3):
        if sum(counts) == n:
            chance = factorial(n) / prod(map(factorial, counts))
            chance *= prod(p**k for p, k in zip(shares, counts, strict=False))
            gaps = (abs(k / n - p) for p, k in zip(shares, counts, strict=False))
            expected += chance * sum(gaps) / 2
    found = fidelity.sampling_floor(np.array([n]), np.array([shares]))
    assert found[0] == pytest.approx(expected)


def change(counts, shares, resamples=400):
    rng = np.random.default_rng(0)
    return fidelity.share_change(np.array(counts, float), np.array(shares), resamples, rng)


def test_a_perfect_generator_has_no_unbalance_on_average():
    rng, shares = np.random.default_rng(1), np.array([0.7, 0.2, 0.1, 0.0])
    counts = rng.multinomial(50, shares, size=4000).astype(float)
    found = change(counts, np.tile(shares[:3], (4000, 1)), resamples=2)
    assert (found.variation[0] - found.floor).mean() == pytest.approx(0.0, abs=2e-3)


def test_the_sign_says_whether_the_majority_grows():
    found = change([[90, 5, 5, 0], [50, 30, 20, 0]], [[0.7, 0.2, 0.1]] * 2)
    np.testing.assert_allclose(found.signed[0], [0.2, -0.2])
    np.testing.assert_allclose(found.variation[0], [0.2, 0.2])


def test_none_clear_counts_as_a_deviation_and_equal_shares_have_no_majority():
    found = change([[30, 30, 30, 10], [0, 0, 0, 0]], [[1 / 3] * 3] * 2)
    assert found.variation[0, 0] == pytest.approx(0.1)
    assert np.isnan(found.signed[0]).all()
    assert np.isnan(found.variation[0, 1])
    assert np.isnan(found.floor[1])


def test_share_counts_put_none_clear_last():
    counts = fidelity.share_counts(np.array([0, 0, 1, 1]), np.array([2, 3, 0, 0]), 2, 3)
    np.testing.assert_array_equal(counts, [[0, 0, 1, 1], [2, 0, 0, 0]])


def clouds(n, spread=1.0, at=0.0):
    return RNG.standard_normal((n, 4)) * spread + at


def quality(train, held_out, generated):
    return fidelity.quality(train, held_out, generated, radii(train, 5), 5)


def test_quality_is_about_one_for_a_perfect_generator():
    assert quality(clouds(400), clouds(100), clouds(1000)) > 0.93


def test_quality_falls_with_precision_and_with_coverage():
    train, held_out = clouds(400), clouds(100)
    assert quality(train, held_out, clouds(1000, at=6.0)) < 0.05  # elsewhere
    assert quality(train, held_out, clouds(1000, spread=0.2)) < 0.6  # in the middle only
    half = np.where(RNG.random((1000, 1)) < 0.5, clouds(1000), clouds(1000, at=9.0))
    assert 0.4 < quality(train, held_out, half) < 0.85


def test_quality_compares_at_equal_count_when_more_images_are_held_out():
    train, held_out, generated = clouds(400), clouds(600), clouds(200)
    assert quality(train, held_out, generated) > 0.93
    assert quality(train, held_out, generated) == quality(train, held_out, generated)
    assert quality(train, held_out, clouds(200, spread=0.2)) < 0.6  # in the middle only


def test_quality_is_missing_where_the_neighbours_need_more_images():
    sets = [clouds(100), clouds(50), clouds(40)]
    assert not np.isnan(quality(*sets))
    assert np.isnan(quality(sets[0], sets[1], clouds(5)))
    assert np.isnan(quality(sets[0], clouds(5), sets[2]))


def test_copies_are_recognised_and_fresh_images_are_not():
    train, held_out = clouds(400), clouds(300)
    copied = fidelity.copies(train, held_out, train[:200] + 1e-9)
    assert (copied.memorised, round(copied.ratio, 6)) == (1.0, 0.0)
    fresh = fidelity.copies(train, held_out, clouds(3000))
    assert fresh.memorised < 0.04
    assert fresh.ratio == pytest.approx(1.0, abs=0.1)


def test_the_relative_frechet_distance_compares_equal_counts_and_is_cut_at_one():
    train, held_out, near = clouds(400), clouds(50), clouds(90)
    far = near + 2.0
    found = fidelity.frechet_relative(moments(train), held_out, far)
    real, ours = (frechet_distance(train, x) for x in (held_out, far[:50]))
    assert found == pytest.approx(real / ours)
    assert fidelity.frechet_relative(moments(train), held_out, near) > 0.5 > 3 * found
    assert fidelity.frechet_relative(moments(train), held_out + 1.0, near) == 1.0
    assert np.isnan(fidelity.frechet_relative(moments(train), held_out, near[:1]))
