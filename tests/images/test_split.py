"""Shares by largest remainder, and stratified cuts."""

import numpy as np
import pytest

from ray_selfloop import seeding
from ray_selfloop.images.split import apportion, stratified_cut

CASES = range(200)


@pytest.mark.parametrize("case", CASES[:60])
def test_apportioned_numbers_add_up_and_stay_within_one_of_their_share(case: int) -> None:
    draw = seeding.rng(case, "apportion")
    shares = draw.random(int(draw.integers(1, 30))) * (draw.random() < 0.9) + 1e-3
    shares[draw.random(len(shares)) < 0.2] = 0
    shares[0] += not shares.any()
    total = int(draw.integers(0, 5_000))
    counts = apportion(total, shares)
    exact = total * shares / shares.sum()
    assert counts.sum() == total
    assert np.all(np.abs(counts - exact) < 1)
    assert np.all(counts[shares == 0] == 0)
    assert np.array_equal(counts, apportion(total, 7.5 * shares))  # shares need no normalising
    larger = shares[:, None] > shares[None, :] + 1e-9
    assert np.all((counts[:, None] >= counts[None, :])[larger])


@pytest.mark.parametrize(
    ("total", "shares", "counts"),
    [
        (10, (0.7, 0.2, 0.1), (7, 2, 1)),
        (129, (0.7, 0.2, 0.1), (90, 26, 13)),
        (10, (1 / 3, 1 / 3, 1 / 3), (4, 3, 3)),  # ties go to the earlier
        (5, (1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 1, 0)),
        (0, (0.5, 0.5), (0, 0)),
        (7, (1.0,), (7,)),
        (3, (0, 2, 0), (0, 3, 0)),
    ],
)
def test_known_apportionments(
    total: int, shares: tuple[float, ...], counts: tuple[int, ...]
) -> None:
    assert tuple(apportion(total, shares)) == counts


@pytest.mark.parametrize("case", CASES[:30])
def test_a_cut_is_disjoint_exhaustive_and_stratified(case: int) -> None:
    draw = seeding.rng(case, "cut")
    labels = draw.integers(0, draw.integers(1, 12), size=int(draw.integers(1, 400)))
    size = int(draw.integers(0, len(labels) + 1))
    rest, cut = stratified_cut(labels, size, seeding.rng(case, "rows"))
    assert len(cut) == size
    assert np.array_equal(np.sort(np.concatenate([rest, cut])), np.arange(len(labels)))
    expected = size * np.bincount(labels) / len(labels)
    assert np.all(np.abs(np.bincount(labels[cut], minlength=len(expected)) - expected) < 1)
    again = stratified_cut(labels, size, seeding.rng(case, "rows"))
    assert np.array_equal(again[0], rest)
    assert np.array_equal(again[1], cut)


def test_a_cut_is_random_within_the_class() -> None:
    labels = np.repeat(np.arange(2), 100)
    taken = np.zeros(200)
    for seed in range(200):
        taken[stratified_cut(labels, 50, seeding.rng(seed, "rows"))[1]] += 1
    chance = 200 * 0.25  # each row is cut with this expectation, a binomial with sd 6.1
    assert np.all(np.abs(taken - chance) < 5 * 6.1)
    assert taken.std() > 3


def test_all_and_none_can_be_cut() -> None:
    labels = np.array([0, 0, 1, 2])
    rest, cut = stratified_cut(labels, 4, seeding.rng(0, "all"))
    assert len(rest) == 0
    assert list(cut) == [0, 1, 2, 3]
    rest, cut = stratified_cut(labels, 0, seeding.rng(0, "none"))
    assert len(cut) == 0
    assert list(rest) == [0, 1, 2, 3]
