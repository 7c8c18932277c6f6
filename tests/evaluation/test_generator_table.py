"""Generator metrics as rows of the results table."""

import numpy as np
import pytest

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation import names
from ray_selfloop.evaluation.generator_table import (
    Generated,
    Reference,
    generator_rows,
    kept_rows,
)
from ray_selfloop.evaluation.rows import COLUMNS

SETTINGS = Evaluation(samples=150, resamples=60, features=("pixels8", "lenet"))
SHARES = np.array([[0.6, 0.3, 0.1]] * 2)


def features(rng, n):
    return {"pixels8": rng.standard_normal((n, 6)), "lenet": rng.standard_normal((n, 3))}


def reference(rng):
    return Reference(features(rng, 200), features(rng, 50), SHARES, ("c0", "c1"), ("r", "b", "g"))


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
    return generator_rows("s", 0, 2, {"generated": drawn, "kept": kept}, real, SETTINGS)


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
        low, high = names.describe(metric).range
        assert rows["value"].dropna().between(low, high).all()


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
    blue = (drawn.subgroups == 1)[drawn.labels == 0].mean()
    assert value(table, "subgroup_share", cls="c0", subgroup="b") == pytest.approx(blue)
    assert value(table, "none_clear") == pytest.approx((drawn.subgroups == 3).mean())


def test_u_is_the_mean_excess_over_the_floor_with_an_interval_around_it(table):
    excess = value(table, "u_total_variation") - value(table, "u")
    assert 0.02 < excess < 0.06  # the expectation of a perfect sample of 150 a class
    (row,) = table[
        (table["metric"] == "u") & (table["class"] == "") & (table["split"] == "generated")
    ].to_dict("records")
    assert row["low"] < row["value"] < row["high"]
    assert row["low"] > 0  # a tenth of the images has no clear subgroup


def test_numbers_are_the_same_every_time(world, table):
    real, drawn, kept = world
    again = generator_rows("s", 0, 2, {"generated": drawn, "kept": kept}, real, SETTINGS)
    assert again.equals(table)


def test_a_split_without_judge_subgroups_or_features_has_no_such_rows(world):
    real, drawn, _ = world
    bare = Generated({}, drawn.labels, None, drawn.subgroups)
    found = set(generator_rows("s", 0, 1, {"queue": bare}, real, SETTINGS)["metric"])
    assert "u" in found
    assert not found & {"label_fidelity", "precision", "q"}


def test_kept_fractions_count_what_the_filter_kept(world):
    real, drawn, _ = world
    kept = np.random.default_rng(1).random(300) < 0.7
    table = kept_rows("s", 0, 1, drawn, kept, real, SETTINGS)
    assert value(table, "kept_fraction", "kept") == pytest.approx(kept.mean())
    cell = (drawn.labels == 1) & (drawn.subgroups == 0)
    found = value(table, "kept_fraction", "kept", "c1", "r")
    assert found == pytest.approx(kept[cell].mean())
