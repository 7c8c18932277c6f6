"""Resampling a kept set to given subgroup shares."""

import numpy as np
import pytest

from ray_selfloop.filtering.tilt import parity, resample, target

SHARES = np.array([[0.7, 0.2, 0.1], [0.2, 0.3, 0.5]])


def drawn(seed=0, n=600):
    rng = np.random.default_rng(seed)
    return rng.integers(2, size=n), rng.integers(4, size=n)  # 3 = none clear


@pytest.mark.parametrize("tilt", [0.0, 0.25, 1.0])
def test_total_variation_from_the_original_is_tilt_times_what_the_majority_lacks(tilt):
    moved = 0.5 * np.abs(target(SHARES, tilt) - SHARES).sum(axis=1)
    assert moved == pytest.approx(tilt * (1 - SHARES.max(axis=1)))


@pytest.mark.parametrize("tilt", [0.0, 0.5, 1.0])
def test_class_sizes_stay_and_shares_are_those_asked_for(tilt):
    labels, subgroups = drawn()
    found = resample(labels, subgroups, target(SHARES, tilt), np.random.default_rng(1))
    assert (np.bincount(labels[found.rows]) == np.bincount(labels)).all()
    for c in (0, 1):
        of = subgroups[found.rows][labels[found.rows] == c]
        share = np.bincount(of, minlength=4)[:3] / len(of)
        assert share == pytest.approx(target(SHARES, tilt)[c], abs=1 / len(of))
    assert found.missing == 0


def test_rows_repeat_only_where_a_subgroup_is_used_up_and_then_evenly():
    labels, subgroups = np.zeros(90, np.int64), np.repeat([0, 1, 2], 30)
    found = resample(labels, subgroups, np.array([[1 / 3, 1 / 3, 1 / 3]]), np.random.default_rng(0))
    assert found.repeated == 0
    assert (found.rows == np.arange(90)).all()
    found = resample(labels, subgroups, np.array([[1.0, 0.0, 0.0]]), np.random.default_rng(0))
    assert found.repeated == 60
    assert (np.bincount(found.rows, minlength=90)[:30] == 3).all()


def test_a_subgroup_without_images_is_missing_and_the_others_fill_the_class():
    labels, subgroups = np.zeros(50, np.int64), np.repeat([0, 2], 25)
    found = resample(labels, subgroups, np.array([[0.4, 0.4, 0.2]]), np.random.default_rng(0))
    assert (found.missing, len(found.rows)) == (20, 50)
    nothing = resample(
        labels, np.full(50, 3), np.array([[0.4, 0.4, 0.2]]), np.random.default_rng(0)
    )
    assert (nothing.missing, len(nothing.rows)) == (50, 50)


def test_parity_has_every_cell_alike_at_the_same_size_and_none_that_is_not_clear():
    labels, subgroups = drawn(3)
    found = parity(labels, subgroups, 3, np.random.default_rng(1))
    counts = np.zeros((2, 4), int)
    np.add.at(counts, (labels[found.rows], subgroups[found.rows]), 1)
    assert counts.tolist() == [[100, 100, 100, 0]] * 2
    uses = np.bincount(found.rows, minlength=600)
    assert found.repeated == (uses[uses > 1] - 1).sum() > 0
    for cell in range(6):  # each once before any is taken again
        own = uses[(labels * 3 + subgroups == cell) & (subgroups < 3)]
        assert own.max() - own.min() <= 1


def test_a_cell_without_images_is_counted_and_the_others_stand_in():
    labels = np.repeat([0, 1], [30, 30])
    subgroups = np.where(labels == 0, np.arange(60) % 2, 0)
    found = parity(labels, subgroups, 2, np.random.default_rng(0))
    assert (found.missing, len(found.rows)) == (1, 60)
    assert np.bincount(labels[found.rows] * 2 + subgroups[found.rows]).tolist() == [20, 20, 20]
    unread = parity(labels, np.full(60, 2), 2, np.random.default_rng(0))
    assert unread.rows.tolist() == [*range(60)]
    assert unread.missing == 4
