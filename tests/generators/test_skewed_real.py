"""Real images with a generator's subgroup shares."""

import numpy as np
import pytest

from ray_selfloop.generators.base import TrainingImages
from ray_selfloop.generators.control import SkewedReal

CLASSES, GROUPS, EACH = 2, 3, 40
LABELS = np.repeat(np.arange(CLASSES), GROUPS * EACH)
SUBGROUPS = np.tile(np.repeat(np.arange(GROUPS), EACH), CLASSES)
IMAGES = np.arange(len(LABELS), dtype=np.uint8).reshape(-1, 1, 1, 1)  # an image shows its row
RESERVE = TrainingImages(IMAGES, LABELS)
PLAN = np.repeat([0, 1], [30, 20])
SHARES = np.array([[0.8, 0.1, 0.1], [0.2, 0.2, 0.6]])


def rows(shares, seed=5):
    sampler = SkewedReal(RESERVE, SUBGROUPS, PLAN, shares, seed)
    ids = np.arange(len(PLAN))
    return sampler.sample(ids, PLAN, 0)[:, 0, 0, 0], sampler


def test_shares_within_the_class_are_those_asked_for():
    found, sampler = rows([SHARES])
    assert (LABELS[found] == PLAN).all()
    for c in range(CLASSES):
        counts = np.bincount(SUBGROUPS[found[c == PLAN]], minlength=GROUPS)
        assert counts == pytest.approx(SHARES[c] * (c == PLAN).sum(), abs=1)
    assert sampler.repeated == 0
    assert len(set(found)) == len(found)


def test_no_image_comes_twice_in_a_chain_before_its_subgroup_is_used_up():
    first, _ = rows([SHARES])
    second, sampler = rows([SHARES, SHARES])
    used_up = 2 * 24 - EACH  # class 0 asks subgroup 0 for 24 images in each generation, and has 40
    assert sampler.repeated == used_up == len(set(first) & set(second))


def test_a_batch_does_not_change_its_images():
    found, sampler = rows([SHARES])
    part = np.array([7, 33, 2])
    assert (sampler.sample(part, PLAN[part], 9)[:, 0, 0, 0] == found[part]).all()


def test_a_subgroup_that_the_reserve_lacks_is_made_up_by_the_others():
    labels, subgroups = LABELS[SUBGROUPS != 0], SUBGROUPS[SUBGROUPS != 0]
    reserve = TrainingImages(IMAGES[: len(labels)], labels)
    sampler = SkewedReal(reserve, subgroups, PLAN, [np.array([[1.0, 0, 0], [1.0, 0, 0]])], 1)
    found = sampler.rows
    assert (labels[found] == PLAN).all()
    assert set(subgroups[found]) == {1, 2}
