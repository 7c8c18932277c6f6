"""Predictions under ablation as rows of the results table: closed forms, pairing, what stays."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import worlds
from worlds import FEW, pick, rows

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.ablation.readings import kinds_of, relative_foreground_sensitivity
from ray_selfloop.evaluation.predictions import KINDS, NOISES, Outcome, TestSet
from ray_selfloop.evaluation.rows import KEY

ALL = (*KINDS, *NOISES)
TRIAL = {"chain": 0, "seed": 0}


def without_subgroups(n=90, classes=3):
    labels = np.arange(n) % classes
    return TestSet(
        labels, np.full(n, -1), np.arange(n), worlds.names("c", classes), (),
        np.zeros((classes, 0)), pooled=False, crossed=False,
    )  # fmt: skip


def outcomes(test, chains=2, generations=3, seeds=1, seed=0, fade=0.0):
    """Trials with predictions of every kind; the object is the less needed the later it is."""
    rng = np.random.default_rng(seed)

    def ablated(t):
        accuracies = 0.5 + 0.05 * np.arange(len(ALL)) + 0.05 * t
        return {kind: worlds.predict(rng, test, a) for kind, a in zip(ALL, accuracies, strict=True)}

    return [
        Outcome(k, t, "a", s, worlds.predict(rng, test, 0.9 - fade * t), False, ablated(t))
        for k in range(chains)
        for s in range(seeds)
        for t in range(generations)
    ]


@pytest.fixture(scope="module")
def plain():
    test = without_subgroups()
    return test, outcomes(test, fade=0.1)


@pytest.fixture(scope="module")
def table(plain):
    return rows(plain[1], plain[0])


def value(table, metric, **where):
    return pick(table, metric, **where)["value"]


# --- values --------------------------------------------------------------------------------------


def test_a_trials_numbers_are_their_definitions(plain, table):
    test, found = plain
    for o in found[:3]:
        where = {**TRIAL, "generation": o.generation}
        clean = (o.predictions == test.labels).mean()
        for kind in KINDS:
            gone = (o.ablated[kind] == test.labels).mean()
            assert value(table, f"ablation_accuracy/{kind}", **where) == pytest.approx(gone)
            assert value(table, f"ablation_drop/{kind}", **where) == pytest.approx(clean - gone)
            relative = (clean - gone) / (clean - 1 / 3)
            key = f"ablation_drop_relative/{kind}"
            assert value(table, key, **where) == pytest.approx(relative)
        on, beside = ((o.ablated[kind] == test.labels).mean() for kind in NOISES)
        mean = (on + beside) / 2
        expected = (beside - on) / (2 * min(mean, 1 - mean))
        assert value(table, "relative_foreground_sensitivity", **where) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("foreground", "background", "expected"),
    [(0.2, 0.8, 0.6), (0.8, 0.2, -0.6), (0.0, 0.4, 1.0), (0.7, 1.0, 1.0), (0.5, 0.5, 0.0),
     (0.0, 0.0, 0.0), (1.0, 1.0, 0.0)],
)  # fmt: skip
def test_relative_foreground_sensitivity_at_known_points(foreground, background, expected):
    found = relative_foreground_sensitivity(np.array(foreground), np.array(background))
    assert found == pytest.approx(expected)


def test_relative_foreground_sensitivity_lies_between_minus_one_and_one():
    a, b = np.meshgrid(np.linspace(0, 1, 41), np.linspace(0, 1, 41))
    found = relative_foreground_sensitivity(a, b)
    assert (np.abs(found) <= 1 + 1e-12).all()
    np.testing.assert_allclose(found, -found.T, atol=1e-12)


def test_pictures_in_which_a_kind_is_not_defined_count_in_neither_accuracy():
    test = without_subgroups()
    (o,) = outcomes(test, chains=1, generations=1)
    lost = np.arange(90) < 20
    ablated = {**o.ablated, "box_neighbour": np.where(lost, -1, o.ablated["box_neighbour"])}
    table, where = rows([replace(o, ablated=ablated)], test), {**TRIAL, "generation": 0}
    clean, gone = (
        (p[20:] == test.labels[20:]).mean() for p in (o.predictions, ablated["box_neighbour"])
    )
    assert value(table, "ablation_accuracy/box_neighbour", **where) == pytest.approx(gone)
    assert value(table, "ablation_drop/box_neighbour", **where) == pytest.approx(clean - gone)
    counts = {kind: value(table, f"ablation_undefined/{kind}", classifier="") for kind in ALL}
    assert counts == {kind: 20 * (kind == "box_neighbour") for kind in ALL}


def test_noise_is_compared_on_the_pictures_where_both_are_defined():
    test = without_subgroups()
    (o,) = outcomes(test, chains=1, generations=1)
    on, beside = (o.ablated[kind].copy() for kind in NOISES)
    on[:30], beside[60:] = -1, -1
    ablated = dict(zip(NOISES, (on, beside), strict=True))
    table = rows([replace(o, ablated=ablated)], test)
    a, b = ((p == test.labels)[30:60].mean() for p in (on, beside))
    expected = float(relative_foreground_sensitivity(a, b))
    found = value(table, "relative_foreground_sensitivity", **TRIAL, generation=0)
    assert found == pytest.approx(expected)
    assert not table["metric"].str.startswith("ablation_drop").any()


def test_at_chance_there_is_no_relative_drop_and_nothing_in_its_place():
    test = without_subgroups()
    (o,) = outcomes(test, chains=1, generations=1)
    table = rows([replace(o, predictions=(test.labels + 1) % 3)], test)
    for where in ({**TRIAL, "generation": 0}, {"generation": 0}):
        row = pick(table, "ablation_drop_relative/object_gray", **where)
        assert np.isnan([row["value"], row["low"], row["high"]]).all()
        assert value(table, "ablation_drop/object_gray", **where) < 0


# --- resamples, changes, means -------------------------------------------------------------------


def test_the_resamples_are_those_of_accuracy(plain):
    test, found = plain
    blind = {"object_gray": (test.labels + 1) % 3}  # never right: the drop is the accuracy
    table = rows([replace(o, ablated=blind) for o in found], test)
    accuracy = table[table["metric"] == "accuracy"].reset_index(drop=True)
    drop = table[table["metric"] == "ablation_drop/object_gray"].reset_index(drop=True)
    assert len(drop) == 6 + 3
    for end in ("value", "low", "high"):
        np.testing.assert_allclose(drop[end], accuracy[end], atol=1e-12)


def test_an_ablation_that_changes_no_prediction_has_no_drop_and_no_error(plain):
    test, found = plain
    table = rows([replace(o, ablated={"box_gray": o.predictions}) for o in found], test)
    drops = table[table["metric"].str.startswith("ablation_drop")]
    assert len(drops) > 30
    np.testing.assert_allclose(drops[["value", "low", "high"]], 0.0, atol=1e-12)


def test_changes_are_since_generation_0_and_split_into_clean_accuracys_part_and_the_rest(table):
    for where in ({**TRIAL, "generation": 2}, {"generation": 2}):
        start = {**where, "generation": 0}
        for stem in ("ablation_accuracy", "ablation_drop", "ablation_drop_relative"):
            key, change = f"{stem}/box_gray", f"{stem}_change/box_gray"
            now, before = value(table, key, **where), value(table, key, **start)
            assert value(table, change, **where) == pytest.approx(now - before)
        parts = [
            value(table, f"ablation_drop_change_{part}/box_gray", **where)
            for part in ("level", "distribution")
        ]
        assert sum(parts) == pytest.approx(value(table, "ablation_drop_change/box_gray", **where))
        now, before = (value(table, "relative_foreground_sensitivity", **w) for w in (where, start))
        change = value(table, "relative_foreground_sensitivity_change", **where)
        assert change == pytest.approx(now - before)


def test_a_drop_that_shrinks_with_clean_accuracy_alone_is_all_level():
    test = without_subgroups(n=900)
    right = np.arange(900) // 3  # position within the class, 0..299

    def trial(t, clean, ablated):
        """Exactly these shares are right."""
        clean, gone = (
            np.where(right < 300 * share, test.labels, (test.labels + 1) % 3)
            for share in (clean, ablated)
        )
        return Outcome(0, t, "a", 0, clean, False, {"object_gray": gone})

    # relative drop 1/2 at both: (.9 - 1/3) / 2 above chance, then (.7 - 1/3) / 2
    found = [trial(0, 0.9, (0.9 + 1 / 3) / 2), trial(1, 0.7, (0.7 + 1 / 3) / 2)]
    table, where = rows(found, test), {**TRIAL, "generation": 1}
    drop = value(table, "ablation_drop_change/object_gray", **where)
    assert drop == pytest.approx(-0.1, abs=0.003)
    level = value(table, "ablation_drop_change_level/object_gray", **where)
    assert level == pytest.approx(drop, abs=0.003)
    rest = value(table, "ablation_drop_change_distribution/object_gray", **where)
    assert rest == pytest.approx(0.0, abs=0.003)
    relative = value(table, "ablation_drop_relative_change/object_gray", **where)
    assert relative == pytest.approx(0.0, abs=0.006)


def test_means_are_over_seeds_then_chains_and_leave_collapsed_trials_out():
    test = without_subgroups()
    found = outcomes(test, chains=2, generations=2, seeds=2)
    bad = next(o for o in found if (o.loop_seed, o.seed, o.generation) == (1, 1, 1))
    table = rows([replace(o, collapsed=o is bad) for o in found], test)
    mine = table[(table["loop_seed"] == 1) & (table["seed"] == 1) & (table["generation"] == 1)]
    states = {"by_shortcut", "one_class", "at_chance"}
    assert set(mine["metric"]) == {"accuracy", "accuracy_change", "collapsed", *states}

    def drop(chain, seed):
        return value(table, "ablation_drop/box_gray", chain=chain, seed=seed, generation=1)

    expected = ((drop(0, 0) + drop(0, 1)) / 2 + drop(1, 0)) / 2
    assert value(table, "ablation_drop/box_gray", generation=1) == pytest.approx(expected)


def test_an_interval_of_the_drop_covers_new_test_images():
    rng, covered, settings = np.random.default_rng(3), 0, Evaluation(resamples=200, permutations=20)
    test = without_subgroups(n=300)
    for _ in range(100):
        clean = rng.random(300) < 0.85
        gone = np.where(rng.random(300) < 0.7, clean, rng.random(300) < 0.3)  # 0.685
        predictions = [np.where(r, test.labels, (test.labels + 1) % 3) for r in (clean, gone)]
        trial = Outcome(0, 0, "a", 0, predictions[0], False, {"box_gray": predictions[1]})
        row = pick(rows([trial], test, settings), "ablation_drop/box_gray", generation=0)
        covered += row["low"] <= 0.85 - (0.7 * 0.85 + 0.3 * 0.3) <= row["high"]
    assert 89 <= covered <= 99


# --- what is beside it ---------------------------------------------------------------------------


def test_every_key_is_described_and_every_value_in_its_range(table):
    for metric, group in table.groupby("metric"):
        low, high = metrics.describe(metric).range
        numbers = group[["value", "low", "high"]].to_numpy()
        numbers = numbers[~np.isnan(numbers)]
        assert ((numbers >= low - 1e-12) & (numbers <= high + 1e-12)).all(), metric
    assert not table.duplicated(list(KEY)).any()


def test_keys_of_ablations_follow_the_grammar():
    assert metrics.base("ablation_drop_relative_change/box_gray") == "ablation_drop_relative"
    assert metrics.base("ablation_drop_change_level/box_gray") == "ablation_drop"
    assert metrics.base("ablation_undefined/noise_background") == "ablation_undefined"
    assert metrics.describe("ablation_accuracy_change/box_gray").range == (-1.0, 1.0)
    assert metrics.describe("ablation_drop/box_gray").ideal is None
    change = metrics.describe("relative_foreground_sensitivity_change")
    assert (change.ideal, change.range) == (None, (-2.0, 2.0))


@pytest.mark.parametrize("build", [without_subgroups, None])
def test_ablations_add_rows_and_move_none(build):
    test = build() if build else worlds.independent(np.random.default_rng(0))
    found = outcomes(test)
    bare = rows([replace(o, ablated={}) for o in found], test)
    table = rows(found, test)
    added = table["metric"].str.startswith(("ablation_", "relative_foreground"))
    assert added.sum() > 50
    pd.testing.assert_frame_equal(table[~added].reset_index(drop=True), bare)


def test_kinds_that_a_trial_lacks_are_not_read(plain):
    test, found = plain
    some = {kind: found[-1].ablated[kind] for kind in ("box_gray", "noise_foreground")}
    mixed = [*found[:-1], replace(found[-1], ablated=some)]
    assert kinds_of(found) == ALL
    assert kinds_of(mixed) == ("box_gray", "noise_foreground")
    metrics = set(rows(mixed, test)["metric"])
    assert "ablation_drop/box_gray" in metrics
    assert not {"ablation_drop/object_gray", "relative_foreground_sensitivity"} & metrics


def test_the_order_of_trials_and_images_does_not_matter(plain, table):
    test, found = plain
    shuffle = np.random.default_rng(1).permutation(len(test.labels))
    moved = replace(
        test, labels=test.labels[shuffle], units=test.units[shuffle], subgroups=test.subgroups
    )
    turned = [
        replace(
            o,
            predictions=o.predictions[shuffle],
            ablated={kind: p[shuffle] for kind, p in o.ablated.items()},
        )
        for o in reversed(found)
    ]
    pd.testing.assert_frame_equal(rows(turned, moved, FEW), table)
