"""The field's words for a class against the rest, against fairlearn and what others published."""

from dataclasses import replace

import numpy as np
import pytest
import worlds
from fairlearn.metrics import (
    demographic_parity_difference,
    demographic_parity_ratio,
    equalized_odds_difference,
)
from worlds import pick, rows

from ray_selfloop import api
from ray_selfloop.evaluation import fairness
from ray_selfloop.evaluation.generator_rows import Generated, Reference, generator_rows
from ray_selfloop.evaluation.metrics import METRICS, Reads, Shown, reading
from ray_selfloop.evaluation.predictions import Outcome
from ray_selfloop.evaluation.tallies import mistaken, permuted_mistaken

NAMES = [one.name for one in reading(Reads.AGAINST_REST)]
ROWS = [3568, 1540, 1455, 3437]
RIGHT = [
    (3367, 1230, 890, 3015), (2897, 624, 1350, 3315), (3081, 970, 1226, 3081),
    (3376, 1234, 1049, 3046), (2998, 1090, 1290, 3156), (3369, 1414, 1132, 2794),
    (3301, 1341, 1089, 2882), (3407, 1267, 775, 2774), (3105, 1170, 1217, 3127),
    (3281, 1015, 1201, 3245), (3422, 1341, 832, 2883), (3350, 1201, 1105, 3123),
    (3329, 1378, 1205, 2977), (3383, 1282, 1001, 2906), (3206, 1159, 1197, 3148),
    (2815, 658, 1181, 3294), (3370, 1170, 1013, 3025), (3308, 1294, 1158, 3059),
    (3337, 1273, 1120, 3082), (3141, 1088, 1228, 3156), (3229, 1224, 1182, 3093),
    (3194, 1110, 1128, 3101), (3421, 1429, 808, 2492), (3148, 1099, 1296, 3203),
    (3358, 1227, 1125, 3153),
]  # fmt: skip
"""Wyllie et al. (FAccT 2024), SeqGenSeqClass at generation 5: of each of 25 chains the test rows of
class 0 in two colours, then of class 1, that are right; of `ROWS`."""


def of_labels(labels, subgroups, predictions):
    """Rates of each class against the rest, by counting; associated as the test rows are."""
    shape = int(labels.max()) + 1, int(subgroups.max()) + 1

    def count(rows, columns):
        table = np.zeros(shape)
        np.add.at(table, (rows, columns), 1)
        return table

    n, chosen = count(labels, subgroups), count(predictions, subgroups)
    hit = predictions == labels
    right = count(labels[hit], subgroups[hit])
    signs = fairness.association(n / n.sum(axis=1, keepdims=True), n.sum(axis=1))
    wrong = (chosen - right) / (n.sum(axis=0) - n)
    return fairness.AgainstRest(right / n, wrong, chosen / n.sum(axis=0), n / n.sum(axis=0), signs)


@pytest.mark.parametrize("seed", range(4))
def test_each_class_against_the_rest_is_fairlearns_number(seed):
    rng = np.random.default_rng(seed)
    test = worlds.independent(rng, classes=2 + seed)
    predictions = worlds.predict(rng, test, 0.8 - 0.2 * test.subgroups)
    found = of_labels(test.labels, test.subgroups, predictions)
    for theirs in (
        equalized_odds_difference, demographic_parity_difference, demographic_parity_ratio,
    ):  # fmt: skip
        expected = [
            theirs(test.labels == c, predictions == c, sensitive_features=test.subgroups)
            for c in range(test.classes)
        ]
        np.testing.assert_allclose(getattr(fairness, theirs.__name__)(found), expected)


def test_equalized_odds_are_the_mean_that_others_published():
    """.1780, and accuracy .8576."""
    n, gaps, right = np.array(ROWS, float).reshape(2, 2), [], []
    for chain in RIGHT:
        hits = np.array(chain, float).reshape(2, 2)
        taken = (n - hits)[::-1]
        other = fairness.AgainstRest(hits / n, taken / n[::-1], n, n, n)
        both = fairness.equalized_odds_difference(other)
        assert both[0] == pytest.approx(both[1])  # of two classes
        gaps.append(both.mean())
        right.append(hits.sum() / n.sum())
    assert np.mean(gaps) == pytest.approx(0.1780, abs=5e-5)
    assert np.mean(right) == pytest.approx(0.8576, abs=5e-5)


def test_directional_amplification_is_that_of_the_package_in_both_directions():
    """Numbers of `bias-amplification` 0.2.1, `DBA().computeBiasAmpBidirectional` of these rows."""
    subgroups = np.repeat([0, 0, 0, 1, 1, 1, 2, 2, 2], [9, 4, 2, 3, 8, 4, 2, 3, 11])
    labels = np.repeat([0, 1, 2] * 3, [9, 4, 2, 3, 8, 4, 2, 3, 11])
    place = np.arange(len(labels))
    predictions = np.where(place % 4 == 0, subgroups, labels)
    shown = np.where(place % 5 == 0, labels, subgroups)
    to_class = fairness.dba_at(of_labels(labels, subgroups, predictions))
    assert to_class.mean() == pytest.approx(0.05833333333333333, abs=1e-12)
    counts = np.zeros((3, 3))
    np.add.at(counts, (labels, subgroups), 1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    real = Reference({}, shares, ("a", "b", "c"), ("r", "g", "b"), alike=True)
    table = generator_rows(1, {"kept": Generated({}, labels, None, shown)}, real, worlds.FEW)
    found = table.set_index("metric").loc["dba_ta"]
    assert found["value"] == pytest.approx(0.046560846560846546, abs=1e-12)
    assert found["low"] < found["value"] < found["high"]
    assert "dba_ta_floor" in set(table["metric"])
    apart = replace(real, alike=False)  # subgroup 1 of a class is none of another's
    table = generator_rows(1, {"kept": Generated({}, labels, None, shown)}, apart, worlds.FEW)
    assert "dba_ta" not in set(table["metric"])


@pytest.mark.parametrize("build", [worlds.independent, worlds.crossed])
def test_rows_hold_them_with_interval_floor_and_change(build):
    rng = np.random.default_rng(1)
    shares = np.stack([np.roll([0.8, 0.1, 0.1], c) for c in range(4)])
    test = replace(build(rng, pooled=False), alike=True, train_shares=shares)
    outcomes = worlds.outcomes(rng, test)
    table = rows(outcomes, test)
    signs = fairness.association(shares, np.bincount(test.labels))
    found = of_labels(test.labels, test.subgroups, outcomes[1].predictions)._replace(signs=signs)
    where = {"generation": 1, "chain": 0, "seed": 0}
    for name in NAMES:
        values = METRICS[name](found)
        row = pick(table, name, **where)
        assert row["value"] == pytest.approx(values.mean())
        assert row["low"] < row["value"] < row["high"]
        assert pick(table, name, cls="c2", **where)["value"] == pytest.approx(values[2])
        floor = pick(table, f"{name}_floor", **where)
        assert floor["low"] < floor["value"] < floor["high"]
        change = pick(table, name, generation=2)["value"] - pick(table, name, generation=0)["value"]
        assert pick(table, f"{name}_change", generation=2)["value"] == pytest.approx(change)


def test_equal_subgroups_read_as_the_floor_says_and_unequal_ones_above_it():
    rng, inside = np.random.default_rng(2), []
    for gap in (0.0, 0.4):
        test = replace(worlds.crossed(rng, units=120), alike=True)
        table = rows(worlds.outcomes(rng, test, gap=gap), test)
        value = pick(table, "equalized_odds_difference", generation=1)["value"]
        floor = pick(table, "equalized_odds_difference_floor", generation=1)
        inside.append(floor["low"] <= value <= floor["high"])
    assert inside == [True, False]


def test_they_are_not_there_where_subgroups_mean_another_thing_in_each_class():
    rng = np.random.default_rng(3)
    test = worlds.independent(rng)
    assert not {*NAMES} & {*rows(worlds.outcomes(rng, test), test)["metric"]}


def test_amplification_is_not_there_without_an_association_in_the_training_data():
    """Rounding of counts is none."""
    assert np.isnan(fairness.association(np.array([[0.51, 0.49], [0.5, 0.5]]), np.ones(2))).all()
    rng = np.random.default_rng(4)
    test = replace(worlds.crossed(rng), alike=True)
    found = {*rows(worlds.outcomes(rng, test), test)["metric"]}
    assert {*NAMES} - found == {"dba_at"}


@pytest.mark.parametrize("build", [worlds.independent, worlds.crossed])
def test_mistakes_are_counted_where_they_are_made(build):
    rng = np.random.default_rng(5)
    test = build(rng)
    predictions = np.stack([o.predictions for o in worlds.outcomes(rng, test)])
    counts = mistaken(predictions, test, 30, 0)
    for t, taken in enumerate(predictions):
        wrong = taken != test.labels
        expected = np.zeros((test.classes, test.groups))
        np.add.at(expected, (taken[wrong], test.subgroups[wrong]), 1)
        np.testing.assert_array_equal(counts.hits[0, t], expected)
        np.testing.assert_array_equal(counts.together[t, t], expected)
    assert counts.hits[1:].std(axis=0).max() > 0
    null = permuted_mistaken(predictions, test, 30, 0)
    whole = counts.hits[0].sum(axis=-1)
    np.testing.assert_array_equal(
        null.hits.sum(axis=-1), np.broadcast_to(whole, (30, *whole.shape))
    )


def test_a_person_meets_them_in_the_tables_alone():
    """They are exploratory: no figure, no first page, no verdict."""
    assert {METRICS[name].shown for name in (*NAMES, "dba_ta")} == {Shown.NOWHERE}


def test_one_prediction_for_all_has_no_odds_to_differ():
    rng = np.random.default_rng(6)
    test = replace(worlds.independent(rng), alike=True)
    always = [Outcome(0, n, "a", 0, np.zeros(len(test.labels), np.int64)) for n in range(2)]
    table = rows(always, test)
    assert pick(table, "equalized_odds_difference", generation=1)["value"] == 0.0
    assert pick(table, "demographic_parity_ratio", generation=1, cls="c0")["value"] == 1.0
    assert np.isnan(pick(table, "demographic_parity_ratio", generation=1, cls="c1")["value"])


def test_a_sweep_whose_colours_mean_the_same_has_them_in_its_results(published):
    """Not those of an association: its training data hold none."""
    found = {*api.results(None, *published)["metric"]}
    assert {*NAMES} - found == {"dba_at"}
