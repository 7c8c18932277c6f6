"""Fidelity of generated images: shares, copies and the quality q."""

from dataclasses import replace

import numpy as np
import pytest
import worlds

from ray_selfloop.evaluation import fidelity
from ray_selfloop.evaluation.frechet import RealFeatures, moments, radii

RNG = np.random.default_rng(12)
THIRDS, UNEVEN = (1 / 3, 1 / 3, 1 / 3), (0.7, 0.2, 0.1)


def change(counts, shares, resamples=200, seed=0):
    rng = np.random.default_rng(seed)
    return fidelity.share_change(np.array(counts, float), np.array(shares), resamples, 0.95, rng)


def leaning(images, original, lean, classes=10):
    """Exact counts of a generator that draws the first subgroup more often, by ``lean``."""
    first = np.array(original)
    rest = first[1:] * (1 - lean / first[1:].sum())
    shares = np.array([first[0] + lean, *rest])
    return np.tile(images * shares, (classes, 1)), np.tile(original, (classes, 1))


@pytest.mark.parametrize(("n", "expected"), [(43, 0.086), (200, 0.040), (1800, 0.013)])
def test_what_sampling_adds_to_a_perfect_generator(n, expected):
    found = change(*leaning(n, THIRDS, 0.0), resamples=2000)
    assert found.null.mean() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("images", [43, 150])
def test_the_majority_alone_reads_what_it_is(images):
    found = change([[images, 0, 0]] * 10, [UNEVEN] * 10)
    assert found.u.mean == pytest.approx((0.3, 0.3, 0.3), abs=1e-6)
    np.testing.assert_allclose(found.u.classes, 0.3, atol=1e-6)


def test_one_class_alone_has_an_estimate_and_an_interval():
    found = change([[90, 5, 5]], [UNEVEN])
    value, low, high = found.u.mean
    assert low < value < high
    assert value == pytest.approx(0.2, abs=0.01)
    assert found.u.classes[0] == pytest.approx(value, abs=0.01)


def test_the_sign_says_whether_the_majority_grows():
    found = change([[90, 5, 5], [50, 30, 20]], [UNEVEN] * 2)
    np.testing.assert_allclose(found.signed[0], [0.2, -0.2])
    np.testing.assert_allclose(found.variation[0], [0.2, 0.2])


def test_equal_shares_have_no_majority_and_a_class_without_images_has_no_number():
    found = change([[40, 30, 20], [0, 0, 0]], [THIRDS] * 2)
    assert np.isnan(found.signed[0]).all()
    assert np.isnan(found.variation[0, 1])
    assert np.isnan(found.u.classes).tolist() == [False, True]
    alone = change([[40, 30, 20]], [THIRDS])
    assert found.u.mean == pytest.approx(alone.u.mean)
    assert np.isnan(change([[0, 0, 0]], [THIRDS]).u.mean).all()


def test_designed_shares_are_what_they_are():
    found = fidelity.designed_change(np.array([[30.0, 9, 4]] * 10), np.array([UNEVEN] * 10))
    assert found.u.mean == pytest.approx((9 / 43 - 0.2 + 4 / 43 - 0.1 + 0.0,) * 3, abs=0.01)
    assert found.u.mean[0] == found.u.mean[1] == found.u.mean[2]
    assert found.u.mean[0] < 0.01  # rounding of counts alone
    assert found.null is None


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
    whole = RealFeatures(train, np.empty(0), held_out, moments(train))
    found = fidelity.frechet_relative(whole, far, 3)
    real, ours = (worlds.frechet_distance(train, x) for x in (held_out, far[:50]))
    assert found == pytest.approx(real / ours)
    assert fidelity.frechet_relative(whole, near, 3) > 0.5 > 3 * found
    assert fidelity.frechet_relative(replace(whole, held_out=held_out + 1.0), near, 3) == 1.0
    assert np.isnan(fidelity.frechet_relative(whole, near[:1], 3))
