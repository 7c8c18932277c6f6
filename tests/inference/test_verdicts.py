"""Which word an effect deserves: sides, margins, and several networks."""

import pytest

from ray_selfloop.inference.chains import Effect
from ray_selfloop.inference.verdicts import (
    CONTRADICTED,
    DIFFERS,
    DOWN,
    NOT_DOWN,
    NOT_UP,
    RULED_OUT,
    SAME,
    SUPPORTED,
    UNDECIDED,
    UP,
    WORDS,
    Accuracy,
    Evidence,
    adjusted,
    evidence,
    together,
    word,
)

MARGIN = 0.02


def of(value, error=0.002):
    return Effect(value, 0, 0, error**2, 0.0, 6)


@pytest.mark.parametrize(
    ("direction", "value", "expected"),
    [
        (UP, 0.03, SUPPORTED), (UP, -0.03, CONTRADICTED), (UP, 0.0, RULED_OUT),
        (UP, 0.005, RULED_OUT), (UP, 0.018, SUPPORTED),
        (DOWN, -0.03, SUPPORTED), (DOWN, 0.03, CONTRADICTED), (DOWN, 0.0, RULED_OUT),
        (SAME, 0.0, SUPPORTED), (SAME, 0.03, CONTRADICTED), (SAME, -0.03, CONTRADICTED),
        (SAME, 0.02, UNDECIDED),
        (NOT_UP, -0.05, SUPPORTED), (NOT_UP, 0.0, SUPPORTED), (NOT_UP, 0.05, CONTRADICTED),
        (NOT_DOWN, 0.05, SUPPORTED), (NOT_DOWN, -0.05, CONTRADICTED), (NOT_DOWN, -0.02, UNDECIDED),
        (DIFFERS, 0.03, SUPPORTED), (DIFFERS, 0.0, RULED_OUT),
    ],
)  # fmt: skip
def test_where_the_interval_lies_decides(direction, value, expected):
    assert word(evidence(of(value), direction, MARGIN), 0.05) == expected


@pytest.mark.parametrize("direction", [UP, DOWN, SAME, NOT_UP, NOT_DOWN, DIFFERS])
def test_what_is_not_known_well_enough_is_undecided(direction):
    assert word(evidence(of(0.001, error=0.05), direction, MARGIN), 0.05) == UNDECIDED


def test_an_improvement_does_not_contradict_that_nothing_gets_worse():
    assert word(evidence(of(-0.3), NOT_UP, MARGIN), 0.05) == SUPPORTED
    assert word(evidence(of(0.3), NOT_DOWN, MARGIN), 0.05) == SUPPORTED


def test_a_statement_about_networks_counts_them():
    rises, falls, still = (evidence(of(v), UP, MARGIN) for v in (0.05, -0.05, 0.0))
    assert word(together([rises] * 3, "all"), 0.05) == SUPPORTED
    assert word(together([rises, rises, falls], "all"), 0.05) == CONTRADICTED
    assert word(together([rises, rises, falls], "most"), 0.05) == SUPPORTED
    assert word(together([rises, falls, falls], "most"), 0.05) == CONTRADICTED
    assert word(together([rises, falls, falls], "some"), 0.05) == SUPPORTED
    assert word(together([still, still, still], "some"), 0.05) == RULED_OUT
    assert word(together([], "all"), 0.05) == UNDECIDED


@pytest.mark.parametrize("side", [1, -1])
def test_accuracy_is_excluded_where_it_stands_still_or_the_rest_moves(side):
    """Without parts by whether it changed; with them, the better of both."""
    still, moved, rest = of(0.0), of(side * 0.05), of(side * 0.006)
    assert Accuracy(still, MARGIN).excluded(side) == still.p_inside(MARGIN) < 1e-3
    assert Accuracy(moved, MARGIN).excluded(side) == moved.p_inside(MARGIN) == 1.0
    parts = Accuracy(moved, MARGIN, of(0.0), rest)
    assert parts.excluded(side) == pytest.approx(rest.p_change())
    assert parts.excluded(-side) == 1.0
    both = Accuracy(still, MARGIN, of(0.0), of(side * 0.001))
    assert both.excluded(side) == still.p_inside(MARGIN)


@pytest.mark.parametrize("side", [1, -1])
def test_accuracy_explains_a_change_whose_level_part_moves_and_whose_rest_is_small(side):
    level, rest = of(side * 0.012), of(side * 0.001)
    parts = Accuracy(of(0.05), MARGIN, level, rest)
    assert parts.explains(side, MARGIN) == pytest.approx(
        max(level.p_change(), rest.p_inside(MARGIN))
    )
    assert parts.explains(-side, MARGIN) == 1.0
    assert Accuracy(of(0.05), MARGIN, level, of(0.05)).explains(side, MARGIN) == 1.0
    nan = Accuracy(of(0.05), MARGIN).explains(side, MARGIN)
    assert nan != nan
    found = evidence(of(side * 0.03), UP if side > 0 else DOWN, MARGIN, parts)
    assert word(found, 0.05) == "explained by accuracy"


def test_more_statements_need_more():
    weak = evidence(of(0.007), UP, 0.001)
    assert word(weak, 0.05) == SUPPORTED
    family = [weak, *[Evidence(0.9, 0.9, 0.9)] * 11]
    assert word(adjusted(family)[0], 0.05) == UNDECIDED


def test_a_statement_without_a_p_counts_and_helps_nobody():
    """What the data happen to lack must not make it easier for the others."""
    nan = float("nan")
    first, second = adjusted([Evidence(0.01, 0.5, nan), Evidence(nan, nan, nan)])
    assert (first.holds, first.opposite) == (0.02, 1.0)
    assert second.holds != second.holds


def test_every_word_is_defined_in_a_sentence():
    assert all(len(meaning) > 40 for meaning in WORDS.values())
    assert "no evidence that nothing happens" in WORDS[UNDECIDED]
