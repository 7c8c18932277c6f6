"""Control generators: they hand out real images, and only as often as they may."""

import numpy as np
import pytest

from ray_selfloop.errors import ConfigError
from ray_selfloop.generators.base import TrainingImages
from ray_selfloop.generators.control import DuplicateReal, HeldOutReal, check_reserve


def _numbered(per_class: list[int]) -> TrainingImages:
    """Images whose first pixel is their row number; rows are not sorted by class."""
    labels = np.repeat(np.arange(len(per_class)), per_class)
    labels = np.random.default_rng(0).permutation(labels)
    images = np.zeros((len(labels), 3, 8, 8), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels))
    return TrainingImages(images, labels)


def _rows(images: np.ndarray) -> list[int]:
    return [int(row) for row in images[:, 0, 0, 0]]


PLAN = np.array([0, 1, 1, 0, 1])


def test_duplicates_are_original_images_of_the_asked_class() -> None:
    data = _numbered([5, 20, 7])
    labels = np.arange(90) % 3
    drawn = DuplicateReal(data).sample(np.arange(90), labels, 1)
    rows = _rows(drawn)
    np.testing.assert_array_equal(data.labels[rows], labels)
    np.testing.assert_array_equal(data.images[rows], drawn)
    assert len(set(rows)) > 20


def test_a_duplicate_depends_on_its_id_and_the_seed_alone() -> None:
    control = DuplicateReal(_numbered([30, 30]))
    ids, labels = np.arange(40), np.arange(40) % 2
    whole = control.sample(ids, labels, 5)
    back = control.sample(ids[::-1], labels[::-1], 5)[::-1]
    np.testing.assert_array_equal(whole, back)
    assert _rows(whole) != _rows(control.sample(ids, labels, 6))


def test_no_held_out_image_comes_twice_in_a_chain() -> None:
    reserve = _numbered([6, 9])
    rows: list[int] = []
    for generation in (1, 2, 3):
        control = HeldOutReal(reserve, PLAN, generation, chain_seed=4)
        drawn = _rows(control.sample(np.arange(5), PLAN, seed=generation))
        np.testing.assert_array_equal(reserve.labels[drawn], PLAN)
        rows += drawn
    assert sorted(rows) == list(range(15))  # 3 generations of 2 and 3 use 6 and 9 up


def test_held_out_images_do_not_depend_on_how_the_ids_are_batched() -> None:
    control = HeldOutReal(_numbered([6, 9]), PLAN, 2, chain_seed=4)
    whole = _rows(control.sample(np.arange(5), PLAN, 0))
    single = [_rows(control.sample(np.array([i]), PLAN[i : i + 1], 9))[0] for i in range(5)]
    assert whole == single


def test_another_chain_takes_the_reserve_in_another_order() -> None:
    reserve = _numbered([60, 90])
    first, other = (
        _rows(HeldOutReal(reserve, PLAN, 1, chain_seed=s).sample(np.arange(5), PLAN, 0))
        for s in (0, 1)
    )
    assert first != other


def test_too_small_a_reserve_names_what_is_feasible() -> None:
    with pytest.raises(ConfigError, match=r"Largest feasible: 3 generations of 5 draws, or .* 3 "):
        HeldOutReal(_numbered([7, 9]), PLAN, 4, chain_seed=0)


def test_a_class_that_the_reserve_lacks_allows_no_generation() -> None:
    with pytest.raises(ConfigError, match="Largest feasible: 0 generations"):
        check_reserve(np.array([50]), np.array([1, 1]), 1)


def test_classes_that_are_not_drawn_need_no_reserve() -> None:
    check_reserve(np.array([10, 0]), np.array([5, 0]), 2)
