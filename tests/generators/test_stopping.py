"""The stopping criterion against brute force, and what it says of a collapsed generator."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ray_selfloop.datasets import colours
from ray_selfloop.generators import stopping
from ray_selfloop.generators.base import TrainingImages
from ray_selfloop.generators.looked import Looks
from ray_selfloop.generators.stopping import Stopping, look
from ray_selfloop.images.features import OF_PIXELS, pixels8


def _random(seed: int, n: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    return torch.randn((n, 5), generator=random), labels


def _mean_distance(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    return float(np.mean([np.linalg.norm(a - b) for a, b in pairs]))


def _brute_force(x: np.ndarray, y: np.ndarray) -> float:
    across = _mean_distance(list(itertools.product(x, y)))
    within = [_mean_distance(list(itertools.combinations(z, 2))) for z in (x, y)]
    return 2 * across - sum(within)


def test_the_distance_is_the_energy_distance_of_each_class_weighted_by_real_images() -> None:
    real, real_labels = _random(0, 11, 2)  # 6 and 5 images
    drawn, drawn_labels = _random(1, 8, 2)
    by_class = [
        _brute_force(real[real_labels == c].numpy(), drawn[drawn_labels == c].numpy())
        for c in range(2)
    ]
    expected = (6 * by_class[0] + 5 * by_class[1]) / 11
    assert look(real, real_labels, drawn, drawn_labels).distance == pytest.approx(
        expected, rel=1e-5
    )


def test_samples_of_the_same_distribution_are_near_and_as_diverse() -> None:
    seen = look(*_random(0, 4_000, 2), *_random(1, 4_000, 2))
    assert abs(seen.distance) < 0.01
    assert seen.diversity == pytest.approx(1, abs=0.02)


def test_swapped_labels_are_seen_though_the_images_are_the_same() -> None:
    drawn, labels = _random(0, 400, 2)
    drawn = drawn + 3 * labels[:, None]
    right = look(drawn, labels, drawn.flip(0), labels.flip(0))
    assert look(drawn, labels, drawn, 1 - labels).distance > right.distance + 1


def test_one_colour_per_class_costs_distance_and_diversity() -> None:
    random = np.random.default_rng(0)
    gray = random.integers(0, 256, (300, 8, 8)).astype(np.uint8)
    labels = torch.zeros(300, dtype=torch.int64)

    def features(of: np.ndarray) -> torch.Tensor:
        return stopping.features(colours.paint(gray, of))

    real = features(random.integers(0, 3, 300))
    alike = look(real, labels, features(random.integers(0, 3, 300)), labels)
    two = look(real, labels, features(random.integers(0, 2, 300)), labels)
    one = look(real, labels, features(np.zeros(300, np.int64)), labels)
    assert alike.distance < two.distance < one.distance
    assert alike.diversity > two.diversity > one.diversity


@pytest.mark.parametrize("size", [8, 28, 32])
def test_the_criterion_compares_what_its_name_says(size: int) -> None:
    """`energy_distance/pixels8` and `frechet_distance/pixels8` are of the same features."""
    images = np.random.default_rng(0).integers(0, 256, (20, 3, size, size)).astype(np.uint8)
    held_out = TrainingImages(images, np.arange(20) % 2)
    looks = Looks(held_out, samples=30)
    name = stopping.CRITERION.partition("/")[2]
    np.testing.assert_allclose(looks.real.numpy(), OF_PIXELS[name](images), rtol=1e-6)


def test_a_pixel_counts_by_the_area_that_it_shares_with_a_cell() -> None:
    """At 28 pixels a cell is 3.5 wide: the fourth column belongs to two cells, half to each."""
    images = np.zeros((1, 1, 28, 28), np.uint8)
    images[..., 3] = 255
    found = pixels8(images).reshape(8, 8)
    np.testing.assert_allclose(found[:, :2], 0.5 / 3.5)
    assert (found[:, 2:] == 0).all()


@pytest.mark.parametrize(("size", "off"), [(8, 0.0), (32, 2e-7)])
def test_where_cells_are_whole_pixels_the_criterion_is_what_it_was(size: int, off: float) -> None:
    """Bit by bit at 8 pixels, to the rounding of float32 at 32: block averages, as before."""
    images = np.random.default_rng(1).integers(0, 256, (20, 3, size, size)).astype(np.uint8)
    blocks = F.adaptive_avg_pool2d(torch.from_numpy(images).float() / 255, 8).flatten(1)
    assert float((stopping.features(images) - blocks).abs().max()) <= off


def test_classes_without_two_real_images_are_left_out() -> None:
    real, labels = _random(0, 10, 2)
    lonely = torch.cat([real, real[:1] + 100]), torch.cat([labels, torch.tensor([2])])
    drawn = _random(1, 30, 3)
    assert look(*lonely, *drawn) == look(real, labels, *drawn)


def test_nothing_to_compare_with_is_an_error() -> None:
    with pytest.raises(ValueError, match="two held-out images"):
        look(*_random(0, 3, 3), *_random(1, 9, 3))


def test_training_goes_on_while_the_criterion_improves_and_for_its_patience() -> None:
    rule = Stopping(patience=20, minimum=0, budget=1_000)
    verdicts = []
    for step, distance in [(10, 3.0), (20, 2.0), (30, 2.5), (40, 2.0)]:
        rule.improved(step, distance)
        verdicts.append(rule.verdict(step))
    assert verdicts == [None, None, None, "converged"]
    assert rule.best_step == 20


def test_the_minimum_holds_training_and_the_budget_ends_it() -> None:
    rule = Stopping(patience=10, minimum=50, budget=60)
    rule.improved(10, 1.0)
    assert rule.verdict(40) is None
    assert rule.verdict(50) == "converged"
    still_improving = Stopping(patience=10, minimum=50, budget=60)
    still_improving.improved(60, 1.0)
    assert still_improving.verdict(60) == "budget"


def test_a_distance_that_is_not_a_number_never_counts_as_the_best() -> None:
    assert not Stopping(10, 0, 10).improved(1, math.nan)
