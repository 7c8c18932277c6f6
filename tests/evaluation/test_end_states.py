"""End states: from whole predictions and from counts, which with two classes say the same."""

import numpy as np
import pytest

from ray_selfloop.evaluation.end_states import (
    CHANCE,
    ONE_CLASS,
    SHORTCUT,
    WORKING,
    of_counts,
    of_predictions,
)

N = 200
TWO = {  # class x subgroup: the share of class 0 among the predictions
    WORKING: [[0.9, 0.8], [0.2, 0.1]],
    SHORTCUT: [[0.95, 0.05], [0.9, 0.02]],
    ONE_CLASS: [[0.99, 0.98], [0.97, 0.94]],
    CHANCE: [[0.5, 0.52], [0.5, 0.49]],
}


def given(shares: object) -> np.ndarray:
    first = np.round(N * np.asarray(shares, np.float64))
    return np.stack([first, N - first], axis=-1)[None]


@pytest.mark.parametrize("state", TWO)
def test_two_classes_are_known_alike_from_predictions_and_counts(state: str) -> None:
    table = given(TWO[state])
    hits = np.einsum("tcgc->tcg", table)
    assert of_predictions(table).tolist() == [state]
    assert of_counts(hits, np.full((2, 2), float(N))).tolist() == [state]


def test_two_classes_agree_wherever_the_predictions_lie() -> None:
    rng = np.random.default_rng(0)
    tables = np.concatenate([given(rng.beta(0.2, 0.2, (2, 2))) for _ in range(2000)])
    words = of_predictions(tables)
    assert set(words) == {WORKING, SHORTCUT, ONE_CLASS, CHANCE}
    hits = np.einsum("tcgc->tcg", tables)
    assert (of_counts(hits, np.full((2, 2), float(N))) == words).all()


def test_more_classes_by_counts_say_the_shortcut_only_where_it_is() -> None:
    rng = np.random.default_rng(1)
    chances = rng.dirichlet([0.1] * 4, (3000, 4, 3))
    tables = np.apply_along_axis(lambda p: rng.multinomial(N, p / p.sum()), -1, chances)
    words, hits = of_predictions(tables.astype(float)), np.einsum("tcgc->tcg", tables).astype(float)
    counted = of_counts(hits, np.full((4, 3), float(N)))
    assert (words[counted == SHORTCUT] == SHORTCUT).all()
    assert (counted == SHORTCUT).sum() > 100


@pytest.mark.parametrize(("followed", "state"), [(1, WORKING), (3, WORKING), (4, SHORTCUT)])
def test_of_more_than_two_classes_the_mean_class_must_follow_the_subgroup(
    followed: int, state: str
) -> None:
    """A class that does: its second subgroup is taken for the next class."""
    table = np.zeros((1, 4, 2, 4))
    for c in range(4):
        table[0, c, 0, c] = table[0, c, 1, (c + 1) % 4 if c < followed else c] = N
    hits = np.einsum("tcgc->tcg", table)
    assert of_predictions(table).tolist() == [state]
    assert of_counts(hits, np.full((4, 2), float(N))).tolist() == [state]


def test_of_two_classes_one_that_follows_the_subgroup_is_enough() -> None:
    assert of_predictions(given([[0.95, 0.05], [0.1, 0.1]])).tolist() == [SHORTCUT]


def test_one_class_of_four_is_seen_in_counts() -> None:
    hits = np.zeros((1, 4, 2))
    hits[0, 2] = N
    assert of_counts(hits, np.full((4, 2), float(N))).tolist() == [ONE_CLASS]
