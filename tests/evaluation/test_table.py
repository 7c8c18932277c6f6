"""The results table: relations between its rows, and its values against other computations."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import worlds
from fairlearn.metrics import MetricFrame
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score
from worlds import FEW, pick, rows

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.predictions import Outcome, TestSet
from ray_selfloop.evaluation.rows import COLUMNS, KEY, NAN, Rows, Where


@pytest.fixture(scope="module")
def crossed():
    rng = np.random.default_rng(0)
    test = worlds.crossed(rng)
    return test, worlds.outcomes(rng, test, chains=2)


@pytest.fixture(scope="module")
def table(crossed):
    return rows(crossed[1], crossed[0])


def test_columns_types_and_unique_keys(table):
    assert tuple(table.columns) == COLUMNS
    assert not table.duplicated(list(KEY)).any()
    assert all(str(table[c].dtype) == "Int64" for c in ("loop_seed", "generation", "seed"))
    assert all(table[c].dtype == np.float64 for c in ("value", "low", "high"))
    assert (table["split"] == "test").all()
    assert not np.isinf(table[["value", "low", "high"]]).any().any()


def test_every_key_is_described_and_every_value_in_its_range(table):
    for metric, values in table.groupby("metric"):
        low, high = metrics.describe(metric).range
        numbers = values[["value", "low", "high"]].to_numpy()
        numbers = numbers[~np.isnan(numbers)]
        assert ((numbers >= low - 1e-12) & (numbers <= high + 1e-12)).all(), metric


def test_intervals_hold_their_value(table):
    known = table.dropna(subset=["low", "high"])
    assert (known["low"] <= known["value"] + 1e-12).all()
    assert (known["high"] >= known["value"] - 1e-12).all()


def test_trial_rows_equal_fairlearn(crossed, table):
    test, outcomes = crossed
    for o in outcomes[:4]:
        frame = MetricFrame(
            metrics=accuracy_score,
            y_true=test.labels,
            y_pred=o.predictions,
            sensitive_features=test.subgroups,
        )
        where = {"chain": o.loop_seed, "seed": o.seed, "generation": o.generation}
        assert pick(table, "accuracy", **where)["value"] == pytest.approx(frame.overall)
        gap = frame.difference(method="between_groups")
        assert pick(table, "md", **where)["value"] == pytest.approx(gap)
        for g, name in enumerate(test.subgroup_names):
            found = pick(table, "tpr", subgroup=name, **where)["value"]
            assert found == pytest.approx(frame.by_group[g])


def test_both_readings_are_stored_and_the_one_that_applies_has_the_plain_name(crossed):
    for pooled, applied in ((True, "pooled"), (False, "per_class")):
        found = rows(crossed[1], replace(crossed[0], pooled=pooled))
        for metric in ("md", "meo", "di", "worst_subgroup", "log_odds_gap"):
            plain = pick(found, metric, generation=1)
            assert plain["value"] == pick(found, f"{metric}_{applied}", generation=1)["value"]
            pick(found, f"{metric}_pooled", generation=1)
            pick(found, f"{metric}_per_class_floor", generation=1)
        gap = pick(found, "gap_rms", generation=1)  # within classes by definition
        assert gap["value"] == pick(found, "gap_rms_per_class", generation=1)["value"]


def test_ordered_sums_are_twice_the_unordered_less_one(crossed, table):
    ordered = rows(crossed[1], crossed[0], FEW.model_copy(update={"ordered": True}))
    for metric in ("meo", "di_per_class"):
        for where in ({"generation": 2}, {"generation": 1, "chain": 0, "seed": 1}):
            twice = pick(ordered, metric, **where)["value"]
            assert twice == pytest.approx(2 * pick(table, metric, **where)["value"] - 1)


def test_means_are_over_seeds_then_over_chains():
    rng = np.random.default_rng(1)
    test = worlds.crossed(rng)
    found = [o for o in worlds.outcomes(rng, test, chains=2) if (o.loop_seed, o.seed) != (1, 1)]
    table = rows(found, test)

    def md(chain, seed):
        return pick(table, "md", chain=chain, seed=seed, generation=1)["value"]

    expected = ((md(0, 0) + md(0, 1)) / 2 + md(1, 0)) / 2
    assert pick(table, "md", generation=1)["value"] == pytest.approx(expected)
    assert pick(table, "trials", generation=1)["value"] == 3


def test_gap_rms_of_a_mean_is_the_root_of_the_mean_variance(table):
    for generation in range(3):
        variance = pick(table, "gap_variance", generation=generation)["value"]
        rms = pick(table, "gap_rms", generation=generation)["value"]
        assert rms == pytest.approx(np.sqrt(max(variance, 0.0)))


def test_changes_are_differences_and_split_exactly_into_two_parts(table):
    for where in ({"generation": 2}, {"generation": 2, "chain": 1, "seed": 0}):
        start = {**where, "generation": 0}
        for metric in ("md", "meo_per_class", "md_per_class", "gap_variance", "accuracy"):
            change = pick(table, f"{metric}_change", **where)["value"]
            now, before = pick(table, metric, **where), pick(table, metric, **start)
            assert change == pytest.approx(now["value"] - before["value"])
            if metric != "accuracy":
                level = pick(table, f"{metric}_change_level", **where)["value"]
                rest = pick(table, f"{metric}_change_distribution", **where)["value"]
                assert level + rest == pytest.approx(change)


def test_without_any_change_the_change_is_zero_and_so_are_interval_floor_and_flips(crossed):
    test, outcomes = crossed
    first = [o for o in outcomes if o.generation == 0]
    same = [replace(o, generation=n) for o in first for n in range(2)]
    table = rows(same, test)
    changed = table[table["metric"].str.contains("_change") & (table["generation"] == 1)]
    assert len(changed) > 50
    for column in ("value", "low", "high"):
        np.testing.assert_allclose(changed[column].dropna(), 0.0, atol=1e-9)
    assert (table[table["metric"].str.startswith("flips_")]["value"] == 0).all()


def test_the_same_rows_whatever_the_order_of_trials_and_test_images(crossed, table):
    test, outcomes = crossed
    shuffle = np.random.default_rng(2).permutation(len(test.labels))
    moved = replace(
        test,
        labels=test.labels[shuffle],
        subgroups=test.subgroups[shuffle],
        units=test.units[shuffle],
    )
    turned = [replace(o, predictions=o.predictions[shuffle]) for o in reversed(outcomes)]
    pd.testing.assert_frame_equal(rows(turned, moved), table)


@pytest.mark.parametrize("world", ["independent", "crossed", "rotated"])
def test_renumbering_subgroups_renames_rows_and_changes_nothing_else(world):
    rng = np.random.default_rng(3)
    if world == "independent":
        test = worlds.independent(rng, n=180)
    else:
        shares = np.stack([np.roll([0.7, 0.2, 0.1], c) for c in range(4)])
        test = replace(worlds.crossed(rng, pooled=world == "crossed"), train_shares=shares)
    outcomes, order = worlds.outcomes(rng, test, seeds=1), np.array([1, 2, 0])
    back = np.argsort(order)
    other = replace(
        test,
        subgroups=order[test.subgroups],
        subgroup_names=tuple(test.subgroup_names[i] for i in back),
        train_shares=test.train_shares[:, back],
    )
    one, two = rows(outcomes, test), rows(outcomes, other)
    by_key = [frame.sort_values(list(KEY)).reset_index(drop=True) for frame in (one, two)]
    pd.testing.assert_frame_equal(*by_key, check_exact=False, atol=1e-12)


def test_other_classifiers_do_not_touch_a_classifiers_rows(crossed, table):
    test, outcomes = crossed
    more = outcomes + worlds.outcomes(np.random.default_rng(9), test, classifiers=("b",))
    found = rows(more, test)
    alone = found[found["classifier"] != "b"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, table)


def test_a_collapsed_trial_enters_means_of_accuracy_and_no_other(crossed):
    test, outcomes = crossed
    useless = Outcome(0, 1, "a", 1, np.zeros(len(test.labels), int), collapsed=True)
    kept = [o for o in outcomes if (o.loop_seed, o.generation, o.seed) != (0, 1, 1)]
    table, without = rows([*kept, useless], test), rows(kept, test)
    mine = table[(table["loop_seed"] == 0) & (table["generation"] == 1) & (table["seed"] == 1)]
    assert set(mine["metric"]) == {
        "accuracy", "accuracy_change", "collapsed", "by_shortcut", "one_class", "at_chance",
    }  # fmt: skip
    own = (
        "accuracy", "accuracy_change", "collapsed", "trials_accuracy", "by_shortcut", "one_class",
        "at_chance",
    )  # fmt: skip
    means = [t[t["seed"].isna() & ~t["metric"].isin(own)] for t in (table, without)]
    both = [m.reset_index(drop=True) for m in means]
    values = [m.drop(columns=["low", "high"]) for m in both]
    pd.testing.assert_frame_equal(*values)
    assert pick(table, "collapsed", generation=1)["value"] == 0.25


def test_accuracy_is_by_intention_to_treat_and_the_counts_say_who_is_in_which_mean(crossed):
    """A loop that ruins a chain's classifiers: dropping them would show a rise."""
    test, outcomes = crossed
    useless = np.zeros(len(test.labels), int)
    ruined = [(o.loop_seed, o.generation) == (0, 2) for o in outcomes]
    found = [
        replace(o, predictions=useless, collapsed=True) if down else o
        for o, down in zip(outcomes, ruined, strict=True)
    ]
    table = rows(found, test)
    each = [(o.predictions == test.labels).mean() for o in found if o.generation == 2]
    assert pick(table, "accuracy", generation=2)["value"] == pytest.approx(np.mean(each))
    before = pick(table, "accuracy", generation=0)["value"]
    change = pick(table, "accuracy_change", generation=2)["value"]
    assert change == pytest.approx(np.mean(each) - before)
    assert change < -0.1
    counts = {"trials": 2, "trials_accuracy": 4, "chains": 1}
    for name, count in counts.items():
        assert pick(table, name, generation=2)["value"] == count
        assert pick(table, name, generation=0)["value"] == (4 if name != "chains" else 2)


def test_a_chain_that_collapsed_at_generation_0_has_changes_of_accuracy_alone(crossed):
    test, outcomes = crossed
    found = rows([replace(o, collapsed=o.generation == 0) for o in outcomes], test)
    changes = found[found["metric"].str.contains("_change|flips|cross_fitted")]
    assert set(changes["metric"]) == {"accuracy_change"}
    assert np.isnan(pick(found, "difficulty")["value"])


def by_hand(test, rates):
    """One trial with exactly these counts of hits, ``(C, G)``, in the first rows of each cell."""
    predictions = (test.labels + 1) % test.classes
    for c in range(test.classes):
        for g in range(test.groups):
            cell = np.flatnonzero((test.labels == c) & (test.subgroups == g))[: rates[c][g]]
            predictions[cell] = c
    return predictions


def test_di_compares_generations_on_the_classes_defined_in_all_of_them():
    rng = np.random.default_rng(0)
    test = worlds.crossed(rng, units=40, classes=2, groups=2, pooled=False)
    start = Outcome(0, 0, "a", 0, by_hand(test, [[10, 20], [16, 20]]))
    later = Outcome(0, 1, "a", 0, by_hand(test, [[0, 20], [20, 20]]))
    table = rows([start, later], test)
    where = {"chain": 0, "seed": 0}
    second = 1 - (abs(16 / 20 - 1) + abs(20 / 16 - 1)) / 2
    assert pick(table, "di", generation=0, **where)["value"] == pytest.approx(second)
    assert pick(table, "di", generation=1, **where)["value"] == pytest.approx(1.0)
    assert pick(table, "di_undefined", generation=1, **where)["value"] == 1
    assert np.isnan(pick(table, "di", cls="c0", generation=1, **where)["value"])
    assert not np.isnan(pick(table, "di", cls="c0", generation=0, **where)["value"])
    assert pick(table, "di_min_max", cls="c0", generation=1, **where)["value"] == 0


def test_di_is_missing_where_no_class_or_no_pooled_rate_defines_it():
    test = worlds.crossed(np.random.default_rng(0), units=40, classes=2, groups=2)
    table = rows([Outcome(0, 0, "a", 0, by_hand(test, [[0, 9], [0, 9]]))], test)
    for metric in ("di", "di_per_class", "di_pooled"):
        row = pick(table, metric, chain=0, seed=0, generation=0)
        assert all(np.isnan(row[end]) for end in ("value", "low", "high"))
        assert np.isnan(pick(table, metric, generation=0)["value"])


def test_a_missing_subgroup_stays_in_the_table_with_support_zero():
    rng = np.random.default_rng(4)
    test = worlds.independent(rng, groups=2)
    wider = replace(
        test,
        subgroup_names=("g0", "g1", "g2"),
        train_shares=np.column_stack([test.train_shares, np.zeros(test.classes)]),
    )
    outcomes = worlds.outcomes(rng, test, seeds=1)
    table, narrow = rows(outcomes, wider), rows(outcomes, test)
    assert pick(table, "support", classifier="", subgroup="g2")["value"] == 0
    where = {"chain": 0, "seed": 0, "generation": 1}
    assert np.isnan(pick(table, "tpr", subgroup="g2", **where)["value"])
    for metric in ("md", "meo", "di", "gap_rms", "worst_subgroup", "accuracy_reweighted"):
        for keys in (where, {"generation": 1}):
            one, other = pick(table, metric, **keys), pick(narrow, metric, **keys)
            for end in ("value", "low", "high"):
                assert one[end] == pytest.approx(other[end])


def test_rotated_colours_are_also_read_by_share_rank():
    rng = np.random.default_rng(5)
    shares = np.stack([np.roll([0.7, 0.2, 0.1], c) for c in range(4)])
    test = replace(worlds.crossed(rng, pooled=False), train_shares=shares)
    minority = test.subgroups == (test.labels + 2) % 3
    predictions = np.where(minority, (test.labels + 1) % 4, test.labels)
    table = rows([Outcome(0, 0, "a", 0, predictions)], test)
    where = {"chain": 0, "seed": 0, "generation": 0}
    found = {
        name: pick(table, "tpr_by_share_rank", subgroup=name, **where)["value"]
        for name in ("majority", "share 2", "minority")
    }
    assert found == {"majority": 1.0, "share 2": 1.0, "minority": 0.0}
    assert pick(table, "md_by_share_rank", **where)["value"] == 1.0
    assert pick(table, "md_pooled", **where)["value"] < 0.51  # which hides it
    assert pick(table, "accuracy_reweighted", **where)["value"] == pytest.approx(0.9)


def test_flips_and_mcnemar_count_pairs():
    test = worlds.crossed(np.random.default_rng(0), units=40, classes=2, groups=2)
    before, after = by_hand(test, [[10, 20], [16, 20]]), by_hand(test, [[3, 20], [20, 20]])
    table = rows([Outcome(0, 0, "a", 0, before), Outcome(0, 1, "a", 0, after)], test)
    where = {"chain": 0, "seed": 0, "generation": 1, "subgroup": "g0"}
    assert pick(table, "flips_lost", **where)["value"] == pytest.approx(7 / 40)
    assert pick(table, "flips_gained", **where)["value"] == pytest.approx(4 / 40)
    assert pick(table, "mcnemar_p", **where)["value"] == pytest.approx(binomtest(7, 11).pvalue)
    overall = table[(table["metric"] == "mcnemar_p") & (table["subgroup"] == "")]
    assert overall.empty  # a digit shown twice is not two independent pairs


def test_equal_subgroups_lie_within_their_floor_and_unequal_ones_above():
    rng, inside, total = np.random.default_rng(6), 0, 0
    test = worlds.independent(rng, n=600)
    equal = worlds.outcomes(rng, test, chains=1, generations=30, seeds=1, gap=0.0)
    settings = Evaluation(resamples=20, permutations=300)
    table = rows(equal, test, settings)
    for generation in range(30):
        where = {"chain": 0, "seed": 0, "generation": generation}
        for metric in ("md", "meo_per_class", "gap_variance", "log_odds_gap"):
            value, floor = pick(table, metric, **where), pick(table, f"{metric}_floor", **where)
            inside, total = inside + (floor["low"] <= value["value"] <= floor["high"]), total + 1
    assert inside / total > 0.88
    unequal = rows(worlds.outcomes(rng, test, gap=0.3, seeds=2), test, settings)
    for metric in ("md", "gap_rms"):
        floor = pick(unequal, f"{metric}_floor", generation=0)
        assert pick(unequal, metric, generation=0)["low"] > floor["high"]


def test_the_floor_of_a_seed_mean_is_narrower_than_a_seeds_own(table):
    def width(**keys):
        row = pick(table, "gap_variance_floor", generation=1, **keys)
        return row["high"] - row["low"]

    assert width() < min(width(chain=k, seed=s) for k in (0, 1) for s in (0, 1))


def test_a_dataset_without_subgroups_has_accuracy_and_no_fairness():
    rng = np.random.default_rng(8)
    labels = rng.integers(3, size=90)
    test = TestSet(
        labels, np.full(90, -1), np.arange(90), worlds.names("c", 3), (), np.zeros((3, 0)),
        pooled=False, crossed=False,
    )  # fmt: skip
    outcomes = [Outcome(0, n, "a", 0, worlds.predict(rng, test, 0.8)) for n in range(2)]
    table = rows(outcomes, test)
    counts = {"collapsed", "trials", "trials_accuracy", "chains"}
    states = {"by_shortcut", "one_class", "at_chance"}
    assert set(table["metric"]) == {"accuracy", "accuracy_change", *counts, *states}
    hits = (outcomes[1].predictions == labels).mean()
    assert pick(table, "accuracy", generation=1)["value"] == pytest.approx(hits)


@pytest.mark.parametrize("build", [worlds.independent, worlds.crossed])
def test_every_gap_has_a_floor_per_class_by_share_rank_and_in_both_parts_of_a_change(build):
    rng = np.random.default_rng(10)
    shares = np.stack([np.roll([0.7, 0.2, 0.1], c) for c in range(4)])
    test = replace(build(rng, pooled=False), train_shares=shares)
    table = rows(worlds.outcomes(rng, test, generations=2), test)
    for keys in ({"generation": 1}, {"generation": 1, "chain": 0, "seed": 1}):
        for metric in ("md", "meo", "log_odds_gap"):
            for cls in ("c0", "c3"):
                value = pick(table, f"{metric}_floor", cls=cls, **keys)
                assert value["low"] <= value["value"] <= value["high"]
            pick(table, f"{metric}_by_share_rank_floor", **keys)
        parts = [
            pick(table, f"md_change_{part}_floor", **keys)["value"]
            for part in ("level", "distribution")
        ]
        assert sum(parts) == pytest.approx(pick(table, "md_change_floor", **keys)["value"])


def test_cell_rates_have_wilsons_interval_and_one_of_exactly_one_has_a_width():
    test = worlds.crossed(np.random.default_rng(0), units=40, classes=2, groups=2)
    both = [Outcome(0, 0, "a", s, by_hand(test, [[20, 20], [16, 20]])) for s in (0, 1)]
    table, where = rows(both, test), {"chain": 0, "seed": 0, "generation": 0}
    for cls, subgroup, hits in (("c0", "g0", 20), ("c1", "g0", 16)):
        row = pick(table, "tpr", cls=cls, subgroup=subgroup, **where)
        low, high = binomtest(hits, 20).proportion_ci(0.95, method="wilson")
        assert (row["low"], row["high"]) == pytest.approx((low, high))
    mean = pick(table, "tpr", cls="c0", subgroup="g0", generation=0)
    low, _ = binomtest(20, 20).proportion_ci(0.95, method="wilson")
    assert (mean["low"], mean["high"]) == pytest.approx((low, 1.0))
    pooled = pick(table, "tpr", subgroup="g1", **where)
    assert pooled["low"] == pytest.approx(binomtest(40, 40).proportion_ci(0.95, "wilson").low)


def test_slopes_of_cross_fitted_ranks_are_those_of_least_squares():
    rng = np.random.default_rng(11)
    test = worlds.independent(rng, n=400, pooled=False)
    outcomes = worlds.outcomes(rng, test, chains=2, generations=5, seeds=2)
    table, metric = rows(outcomes, test), "ranked_cross_fitted"

    def runs(subgroup):
        return [
            [
                pick(table, metric, subgroup=subgroup, chain=k, seed=s, generation=t)["value"]
                for t in range(5)
            ]
            for k in range(2)
            for s in range(2)
        ]

    found = {}
    for subgroup in ("rank 1", "rank 2", "rank 3"):
        row = pick(table, f"{metric}_slope", subgroup=subgroup)
        slopes = [np.polyfit(range(5), run, 1)[0] for run in runs(subgroup)]
        assert row["value"] == pytest.approx(np.mean(slopes))
        assert row["low"] <= row["value"] <= row["high"]
        found[subgroup] = row["value"]
    gap = pick(table, f"{metric}_slope", subgroup=metrics.GAP)
    assert gap["value"] == pytest.approx(found["rank 3"] - found["rank 1"])


def test_a_run_without_all_generations_has_no_slope():
    rng = np.random.default_rng(12)
    test = worlds.independent(rng)
    outcomes = worlds.outcomes(rng, test, chains=2, generations=6, seeds=1)

    def slopes(table):
        mine = (table["metric"] == "ranked_cross_fitted_slope") & (table["subgroup"] == "rank 1")
        return table[mine]["value"].tolist()

    def slope(collapsed):
        gone = [(o.loop_seed, o.generation) in collapsed for o in outcomes]
        found = [replace(o, collapsed=down) for o, down in zip(outcomes, gone, strict=True)]
        return slopes(rows(found, test))

    alone = rows([o for o in outcomes if o.loop_seed == 0], test)
    assert slope({(1, 5)}) == pytest.approx(slopes(alone))
    assert slope({(0, 3), (1, 5)}) == []


def test_two_rows_with_one_key_are_an_error():
    found = Rows("s", "test")
    for value in (0.1, 0.2):
        found.add("md", [value, NAN, NAN], Where(generation=1))
    with pytest.raises(ValueError, match=r"same key.*md"):
        found.frame()


def test_an_unknown_metric_key_is_an_error_and_a_change_has_no_ideal():
    with pytest.raises(KeyError, match="fairness"):
        metrics.describe("fairness")
    assert metrics.describe("md_per_class_change_level").ideal is None
    assert metrics.describe("di_min_max_floor").range == (0.0, 1.0)
    assert metrics.base("precision/lenet") == "precision"
