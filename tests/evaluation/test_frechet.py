"""Distances between feature sets: closed forms, brute force, and other people's implementations."""

import numpy as np
import pytest
import torch
import worlds
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kernel_poly, mmd2
from torch_fidelity.metric_prc import prc_features_to_metric
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from ray_selfloop.datasets import digits
from ray_selfloop.datasets.colours import paint
from ray_selfloop.evaluation.frechet import (
    distances,
    frechet_between,
    kernel_distance,
    moments,
    prdc,
    precision_and_coverage,
    radii,
)
from ray_selfloop.images.features import gray8, pixels8

RNG = np.random.default_rng(11)


def pair(n, m, d, shift=0.3):
    mix = RNG.standard_normal((d, d))
    return RNG.standard_normal((n, d)) @ mix, RNG.standard_normal((m, d)) @ mix * 1.2 + shift


def test_one_dimension_has_a_closed_form():
    a, b = RNG.standard_normal((50, 1)), 3 * RNG.standard_normal((70, 1)) + 1
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert worlds.frechet_distance(a, b) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "m", "d"), [(600, 500, 16), (200, 300, 64), (40, 60, 100)])
def test_frechet_equals_torchmetrics_also_where_covariances_are_singular(n, m, d):
    a, b = pair(n, m, d)
    parts = [torch.from_numpy(v) for x in (a, b) for v in (x.mean(axis=0), np.cov(x.T))]
    expected = _compute_fid(*parts).item()
    assert worlds.frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)


def test_distance_to_itself_is_zero_and_shifting_adds_the_squared_shift():
    a, _ = pair(300, 2, 20)
    scale = np.trace(np.cov(a.T))
    assert worlds.frechet_distance(a, a) == pytest.approx(0.0, abs=1e-7 * scale)
    assert worlds.frechet_distance(a, a + 2.0) == pytest.approx(4.0 * 20, abs=1e-6 * scale)


def test_kernel_distance_equals_torchmetrics_on_full_sets():
    a, b = pair(120, 120, 8)
    expected = poly_mmd(torch.from_numpy(a), torch.from_numpy(b)).item()
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-9)


def brute_prdc(real, fake, k):
    between = np.array([[np.linalg.norm(r - f) for f in fake] for r in real])

    def reach(points):
        own = [[np.linalg.norm(p - q) for q in points] for p in points]
        return np.array([sorted(row)[k] for row in own])  # entry 0 is the point itself

    r, f = reach(real), reach(fake)
    inside = between < r[:, None]
    return (
        np.mean([inside[:, j].any() for j in range(len(fake))]),
        np.mean([(between[i] < f).any() for i in range(len(real))]),
        sum(inside[:, j].sum() for j in range(len(fake))) / (k * len(fake)),
        np.mean([inside[i].any() for i in range(len(real))]),
    )


@pytest.mark.parametrize("k", [1, 3, 5])
def test_prdc_equals_a_brute_force(k):
    real, fake = pair(40, 55, 3)
    np.testing.assert_allclose(prdc(real, fake, k, radii(real, k)), brute_prdc(real, fake, k))


def test_precision_and_coverage_of_one_block_are_those_of_prdc():
    real, fake = pair(60, 50, 3)
    reach = radii(real, 4)
    found = prdc(real, fake, 4, reach)
    assert precision_and_coverage(real, fake, reach, 50) == (found.precision, found.coverage)
    halves = [prdc(real, part, 4, reach).coverage for part in (fake[:25], fake[25:])]
    assert precision_and_coverage(real, fake, reach, 25)[1] == pytest.approx(np.mean(halves))


def test_distances_survive_a_large_common_offset():
    a, b = RNG.standard_normal((20, 5)), RNG.standard_normal((30, 5))
    np.testing.assert_allclose(distances(a + 1e6, b + 1e6), distances(a, b), atol=1e-5)


@pytest.mark.parametrize("size", [8, 28, 32])
def test_pixels8_keeps_colour_and_mean_brightness(size):
    images = RNG.integers(0, 256, size=(4, 3, size, size)).astype(np.uint8)
    found = pixels8(images).reshape(4, 3, 64)
    np.testing.assert_allclose(found.mean(axis=2), images.mean(axis=(2, 3)) / 255)


def test_pixels8_is_block_averaging_where_it_divides_and_the_image_itself_at_8():
    images = RNG.integers(0, 256, size=(2, 3, 32, 32)).astype(np.uint8)
    blocks = images.reshape(2, 3, 8, 4, 8, 4).mean(axis=(3, 5)) / 255
    np.testing.assert_allclose(pixels8(images), blocks.reshape(2, -1))
    small = images[:, :, :8, :8]
    np.testing.assert_allclose(pixels8(small), small.reshape(2, -1) / 255)


def test_gray8_is_blind_to_the_colour_of_a_digit_and_pixels8_is_not():
    gray = digits.scans()[0][0][:60]
    colours = RNG.integers(0, 3, size=len(gray))
    plain, recoloured = paint(gray, colours), paint(gray, (colours + 1) % 3)
    np.testing.assert_allclose(gray8(plain), gray8(recoloured), atol=1e-12)
    assert (pixels8(plain) != pixels8(recoloured)).any(axis=1).all()
    assert gray8(plain).shape == (60, 64)
    np.testing.assert_allclose(gray8(plain).mean(axis=1), plain.mean(axis=(1, 2, 3)) / 255)


@pytest.mark.parametrize(("n", "m", "d"), [(600, 500, 16), (200, 300, 64), (40, 60, 100)])
def test_frechet_equals_torch_fidelity_also_where_covariances_are_singular(n, m, d):
    a, b = pair(n, m, d)
    ours = worlds.frechet_distance(a, b)
    theirs = fid_statistics_to_metric(
        *(fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)), False
    )
    assert ours == pytest.approx(theirs["frechet_inception_distance"], rel=1e-5)


@pytest.mark.parametrize(("n", "d"), [(300, 20), (15, 40)])
def test_factors_give_the_covariance_back(n, d):
    a, _ = pair(n, 2, d)
    mean, factor = moments(a)
    assert factor.shape[1] == d
    assert len(factor) == min(n, d)
    np.testing.assert_allclose(mean, a.mean(axis=0))
    np.testing.assert_allclose(factor.T @ factor, np.cov(a.T), atol=1e-9 * np.trace(np.cov(a.T)))


def test_kernel_distance_equals_torch_fidelity_on_the_full_set():
    a, b = pair(90, 90, 8)
    full = {"kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1}
    theirs = mmd2(*(kernel_poly(x, y, **full) for x, y in ((a, a), (a, b), (b, b))))
    assert kernel_distance(a, b) == pytest.approx(theirs, rel=1e-9)


def test_precision_and_recall_equal_torch_fidelity_with_the_arguments_swapped():
    real, fake = pair(80, 60, 3)
    ours = prdc(real, fake, 3, radii(real, 3))
    theirs = prc_features_to_metric(
        torch.from_numpy(fake), torch.from_numpy(real), prc_neighborhood=3, verbose=False
    )
    assert (ours.precision, ours.recall) == pytest.approx((theirs["precision"], theirs["recall"]))
    assert ours.precision != ours.recall  # else the order would not matter here


def test_strict_balls_leave_out_a_point_on_the_surface():
    real = np.arange(4.0)[:, None]
    surface = np.array([[4.0], [8.0]])  # at distance 1 of the last, whose nearest is at 1
    assert prdc(real, surface, 1, radii(real, 1)).precision == 0.0
    assert prdc(real, surface - 1e-6, 1, radii(real, 1)).precision == 0.5


def by_roots(a, b):
    """By singular values of the symmetric roots, which are right for every covariance."""
    roots = []
    for features in (a, b):
        values, vectors = np.linalg.eigh(np.cov(features, rowvar=False))
        roots.append((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)
    overlap = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()
    shift = a.mean(axis=0) - b.mean(axis=0)
    return float(shift @ shift + sum((root**2).sum() for root in roots) - 2.0 * overlap)


@pytest.mark.parametrize(
    ("rows", "rank", "floor"),
    [
        (400, 40, 0.1),  # more rows than dimensions
        (30, 40, 0.1),  # fewer
        (400, 12, 0.0),  # more, of a singular covariance
        (400, 12, 1e-9),  # all but singular
        (400, 12, 1e-4),
    ],
)
@pytest.mark.parametrize("apart", [1.0, 1e-3])
def test_the_faster_way_to_the_overlap_is_exact_for_every_rank(rows, rank, floor, apart):
    rng = np.random.default_rng(rows + rank)
    mixing = rng.normal(size=(rank, 40)) * (1 / np.arange(1, rank + 1))[:, None]
    a = rng.normal(size=(rows, rank)) @ mixing + floor * rng.normal(size=(rows, 40))
    b = (1 + apart) * a[::-1] + apart * rng.normal(size=a.shape) * floor + apart
    found = frechet_between(moments(a), moments(b))
    assert found == pytest.approx(by_roots(a, b), rel=1e-6, abs=1e-12)


def test_the_faster_way_is_left_where_rounding_could_be_seen(monkeypatch):
    rng, taken = np.random.default_rng(0), []
    svd = np.linalg.svd
    monkeypatch.setattr(np.linalg, "svd", lambda *a, **k: taken.append(1) or svd(*a, **k))
    full, other = (rng.normal(size=(500, 20)) for _ in range(2))
    frechet_between(moments(full), moments(2 * other))
    assert not taken
    assert frechet_between(moments(full), moments(full)) == pytest.approx(0.0, abs=1e-12)
    frechet_between(moments(full[:10]), moments(other[:8]))
    assert taken
