"""Generator metrics as rows of the results table."""

from dataclasses import replace

import numpy as np
import pytest

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.generator_rows import (
    Generated,
    Reference,
    cas_rows,
    drawn_rows,
    generator_rows,
    judge_rows,
    kept_rows,
    real_features,
)
from ray_selfloop.evaluation.rows import COLUMNS

SETTINGS = Evaluation(samples=150, resamples=60, features=("pixels8", "lenet"))
SHARES = np.array([[0.6, 0.3, 0.1]] * 2)


def features(rng, n):
    return {"pixels8": rng.standard_normal((n, 6)), "lenet": rng.standard_normal((n, 3))}


def reference(rng):
    real, held_out = features(rng, 200), features(rng, 50)
    found = {name: real_features(real[name], held_out[name], SETTINGS) for name in real}
    return Reference(found, SHARES, ("c0", "c1"), ("r", "b", "g"), np.array([[20, 24], [26, 26]]))


def generated(rng, n):
    labels = np.arange(n) % 2
    judged = np.where(rng.random(n) < 0.9, labels, 1 - labels)
    return Generated(features(rng, n), labels, judged, rng.choice(4, n, p=[0.5, 0.3, 0.1, 0.1]))


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    return reference(rng), generated(rng, 300), generated(rng, 120)


@pytest.fixture(scope="module")
def table(world):
    real, drawn, kept = world
    return generator_rows(2, {"generated": drawn, "kept": kept}, real, SETTINGS)


def value(table, metric, split="generated", cls="", subgroup=""):
    at = (table["metric"] == metric) & (table["split"] == split)
    (found,) = table[at & (table["class"] == cls) & (table["subgroup"] == subgroup)]["value"]
    return found


def test_rows_have_the_tables_columns_no_classifier_and_described_keys(table):
    assert tuple(table.columns) == COLUMNS
    assert (table["classifier"] == "").all()
    assert table["seed"].isna().all()
    assert set(table["split"]) == {"generated", "kept"}
    for metric, rows in table.groupby("metric"):
        low, high = metrics.describe(metric).range
        assert rows["value"].dropna().between(low, high).all()
    row = u_row(table)
    assert row["low"] <= row["value"] <= row["high"]


def test_the_first_features_have_plain_names_and_distances_always_carry_theirs(table):
    for metric in ("precision", "q", "memorised", "samples"):
        value(table, metric)
        value(table, f"{metric}/lenet")
    for name in ("pixels8", "lenet"):
        value(table, f"frechet_distance/{name}")
    assert "fid" not in set(table["metric"])


def test_every_split_uses_the_stated_number_of_images_where_it_has_them(table):
    assert value(table, "samples") == 150
    assert value(table, "samples", split="kept") == 120


def test_label_fidelity_and_shares_are_counts(world, table):
    _, drawn, _ = world
    right = drawn.judged == drawn.labels
    assert value(table, "label_fidelity") == pytest.approx(right.mean())
    assert value(table, "label_fidelity", cls="c1") == pytest.approx(
        right[drawn.labels == 1].mean()
    )
    blue = (drawn.subgroups == 1)[(drawn.labels == 0) & (drawn.subgroups < 3)].mean()
    assert value(table, "subgroup_share", cls="c0", subgroup="b") == pytest.approx(blue)
    assert value(table, "none_clear") == pytest.approx((drawn.subgroups == 3).mean())


def u_row(table, split="generated"):
    at = (table["metric"] == "u") & (table["class"] == "") & (table["split"] == split)
    (row,) = table[at].to_dict("records")
    return row


def read(images, shares, seed=0, unreadable=0.0, classes=10):
    """``images`` a class of a generator with these within-class shares, and the reference."""
    rng, every = np.random.default_rng(seed), np.array([*shares, 0.0]) * (1 - unreadable)
    every[3] = unreadable
    labels = np.repeat(np.arange(classes), images)
    original = Reference(
        {}, np.array([[0.7, 0.2, 0.1]] * classes), tuple("abcdefghij"), tuple("rgb")
    )
    return Generated({}, labels, None, rng.choice(4, len(labels), p=every)), original


def test_images_without_a_clear_subgroup_are_no_imbalance(table):
    readable, reference = read(500, (0.7, 0.2, 0.1), unreadable=0.1)
    found = generator_rows(1, {"kept": readable}, reference, SETTINGS)
    row = u_row(found, "kept")
    assert row["low"] <= 0.0 <= row["high"]
    assert abs(row["value"]) < 0.025
    assert value(found, "none_clear", "kept") == pytest.approx(0.1, abs=0.015)
    shares = found[found["metric"] == "subgroup_share"]
    assert shares.groupby("class")["value"].sum().to_numpy() == pytest.approx(np.ones(10))


def test_u_does_not_depend_on_the_number_of_images():
    """The same generator, one kept set and a queue of three."""
    true, means = (0.85, 0.1, 0.05), []
    for images in (43, 129):
        values = []
        for seed in range(12):
            split, reference = read(images, true, seed)
            values.append(u_row(generator_rows(1, {"queue": split}, reference, SETTINGS), "queue"))
        means.append(np.mean([row["value"] for row in values]))
        held = [row["low"] <= 0.15 <= row["high"] for row in values]
        assert sum(held) >= 9
    assert means == pytest.approx([0.15, 0.15], abs=0.02)


def test_designed_shares_have_no_sampling():
    split, reference = read(43, (0.7, 0.2, 0.1))
    exact = np.concatenate([np.repeat([0, 1, 2], [30, 9, 4])] * 10)
    tables = {
        designed: generator_rows(1, {"kept": split_}, reference, SETTINGS)
        for designed in (True, False)
        for split_ in [replace(split, subgroups=exact, designed=designed)]
    }
    row = u_row(tables[True], "kept")
    assert row["low"] == row["value"] == row["high"] == pytest.approx(0.009, abs=1e-3)
    assert "u_floor" not in set(tables[True]["metric"])
    assert u_row(tables[False], "kept")["value"] < -0.03  # as if it had been drawn so evenly


def test_numbers_are_the_same_every_time(world, table):
    real, drawn, kept = world
    again = generator_rows(2, {"generated": drawn, "kept": kept}, real, SETTINGS)
    assert again.equals(table)


def test_a_split_without_judge_subgroups_or_features_has_no_such_rows(world):
    real, drawn, _ = world
    bare = Generated({}, drawn.labels, None, drawn.subgroups)
    found = set(generator_rows(1, {"queue": bare}, real, SETTINGS)["metric"])
    assert "u" in found
    assert not found & {"label_fidelity", "precision", "q"}


def test_kept_fractions_count_what_the_filter_kept(world):
    real, drawn, _ = world
    kept = np.random.default_rng(1).random(300) < 0.7
    table = kept_rows(1, drawn, kept, real, SETTINGS)
    assert value(table, "kept_fraction", "kept") == pytest.approx(kept.mean())
    cell = (drawn.labels == 1) & (drawn.subgroups == 0)
    found = value(table, "kept_fraction", "kept", "c1", "r")
    assert found == pytest.approx(kept[cell].mean())


def moved(data, order):
    """The same images in another order."""
    return replace(
        data,
        features={name: x[order] for name, x in data.features.items()},
        labels=data.labels[order],
        judged=data.judged[order],
        subgroups=data.subgroups[order],
    )


def test_the_order_of_generated_images_changes_no_number(world, table):
    real, drawn, kept = world
    rng = np.random.default_rng(5)
    splits = {
        "generated": moved(drawn, rng.permutation(300)),
        "kept": moved(kept, rng.permutation(120)),
    }
    assert generator_rows(2, splits, real, SETTINGS).equals(table)


def test_the_order_of_original_and_held_out_images_changes_the_real_side_by_rounding_alone():
    rng = np.random.default_rng(6)
    train, held_out = rng.standard_normal((90, 4)), rng.standard_normal((30, 4))
    one = real_features(train, held_out, SETTINGS)
    other = real_features(train[::-1], held_out[rng.permutation(30)], SETTINGS)
    for column in ("train", "reach", "held_out"):
        np.testing.assert_array_equal(getattr(one, column), getattr(other, column))
    for a, b in zip(one.moments, other.moments, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_a_draw_is_another_one_with_another_seed_or_purpose():
    values = np.random.default_rng(7).standard_normal((50, 3))
    first = drawn_rows(values, 20, 0, "a")
    assert len(set(first.tolist())) == 20
    for seed, purpose in ((1, "a"), (0, "b")):
        assert set(drawn_rows(values, 20, seed, purpose)) != set(first)
    np.testing.assert_array_equal(np.sort(drawn_rows(values, 99, 0, "a")), np.arange(50))


def test_a_perfect_generator_is_as_near_as_held_out_images_and_a_shifted_one_is_not(world):
    real, drawn, _ = world
    shifted = {name: x + 1.0 for name, x in drawn.features.items()}
    splits = {"generated": drawn, "kept": replace(drawn, features=shifted)}
    found = generator_rows(1, splits, real, SETTINGS)
    for suffix in ("", "/lenet"):
        perfect = value(found, f"frechet_relative{suffix}")
        assert suffix or 0.3 < perfect <= 1.0  # three numbers of 50 images alone are too few
        assert value(found, f"frechet_relative{suffix}", split="kept") < 0.3 * perfect


def test_the_judges_own_accuracy_stands_beside_the_fidelity(world):
    real, _, _ = world
    found = judge_rows(1, real, SETTINGS)
    assert value(found, "judge_accuracy") == pytest.approx(46 / 50)
    assert value(found, "judge_accuracy", cls="c0") == pytest.approx(20 / 24)
    (row,) = found[found["class"] == "c1"].to_dict("records")
    assert row["low"] < row["value"] == row["high"] == 1.0
    assert judge_rows(1, replace(real, judged=None), SETTINGS).empty


@pytest.mark.parametrize(("hits", "relative"), [(23, 0.5), (50, 1.0)])
def test_the_accuracy_score_is_relative_to_the_judge_and_cut_at_one(world, hits, relative):
    found = cas_rows(1, (hits, 50), world[0], SETTINGS)
    assert value(found, "cas") == hits / 50
    assert value(found, "cas_relative") == pytest.approx(relative)
