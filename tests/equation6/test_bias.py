"""B, q and u as the fit takes them."""

from dataclasses import replace

import laws
import numpy as np
import pandas as pd
import pytest

from ray_selfloop.config.evaluation import Dynamics, Evaluation
from ray_selfloop.equation6.bias import bias_series, filled_from, not_converged
from ray_selfloop.equation6.steps import over_queue, steps
from ray_selfloop.evaluation.classifier_rows import fairness_rows
from ray_selfloop.evaluation.rows import NAN, Rows, Where

SETTINGS = Evaluation(resamples=100, permutations=100)


def test_b_agrees_with_the_results_table():
    test, found = laws.outcomes(0.9, 0.08, 0, per_cell=30, steps=2, chains=2, seeds=1)
    (series,) = bias_series("s", found, test, SETTINGS)
    table = fairness_rows("s", found, test, SETTINGS)
    means = table[table["seed"].isna() & (table["class"] == "")].set_index(["metric", "generation"])
    for t in range(3):
        assert series.mean[t] == pytest.approx(means.loc[("gap_variance", t), "value"])
        assert series.floor[t] == pytest.approx(means.loc[("gap_variance_floor", t), "high"])


def test_the_pooled_reading_is_selectable():
    test, found = laws.outcomes(0.9, 0.08, 0, per_cell=30, steps=1, chains=1, seeds=1)
    pooled = SETTINGS.model_copy(update={"dynamics": Dynamics(bias="gap_rms_pooled")})
    (series,) = bias_series("s", found, test, pooled)
    table = fairness_rows("s", found, test, SETTINGS)
    row = table[table["seed"].isna() & (table["metric"] == "gap_variance_pooled")]
    assert series.mean[1] == pytest.approx(row[row["generation"] == 1]["value"].item())


def test_collapsed_trials_are_left_out_and_missing_ones_are_nan():
    test, found = laws.outcomes(1.0, 0.08, 0, per_cell=20, steps=1, chains=2)
    cut = [replace(o, collapsed=(o.loop_seed, o.generation) == (1, 1)) for o in found]
    (series,) = bias_series("s", cut, test, SETTINGS)
    np.testing.assert_array_equal(series.seeds, [[2, 2], [2, 0]])
    assert np.isnan(series.squared[0, 1, 1])
    assert series.mean[1] == series.squared[0, 0, 1]


def test_training_variance_is_that_between_seeds_beyond_the_images():
    settings = Evaluation(resamples=200, permutations=20)
    test, alike = laws.outcomes(1.0, 0.1, 0, chains=3, steps=3)
    (series,) = bias_series("s", alike, test, settings)
    assert series.training < 1.5e-6
    _, strong = laws.outcomes(1.0, 0.14, 1, chains=3, steps=3, seeds=1)
    mixed = [o for o in alike if o.seed == 0] + [
        type(o)(o.loop_seed, o.generation, "a", 1, o.predictions) for o in strong
    ]
    (series,) = bias_series("s", mixed, test, settings)
    assert series.training == pytest.approx((0.14**2 - 0.1**2) ** 2 / 2, rel=0.35)


def generator_table():
    found = []
    for split, shift in (("kept", 0.0), ("generated", 0.5)):
        rows = Rows("s", split)
        for g, (q, u) in enumerate([(0.9, 0.1), (0.8, 0.2), (0.6, 0.4)], start=1):
            rows.add("q", [q - shift], Where(0, g))
            rows.add("u", [u, NAN, NAN], Where(0, g))
            rows.add("u", [0.77], Where(0, g), ("c0", ""))  # a class's own: not used
        found.append(rows.frame())
    return pd.concat(found)


CONTENTS = {
    "s": {
        ("a", 0, 0): {},
        ("a", 0, 1): {1: 10.0},
        ("a", 0, 2): {1: 10.0, 2: 30.0},
        ("a", 0, 3): {2: 20.0, 3: 20.0},
        ("a", 1, 1): {1: 10.0},  # another chain, with metrics of its own or none
    }
}


def test_incoming_factors_are_those_of_the_queue_that_the_next_generation_trains_on():
    found = steps(generator_table(), CONTENTS, Dynamics())
    assert sorted(key[3] for key in found) == [0, 1, 2]
    assert found[("s", "", 0, 0)].q == pytest.approx(0.9)
    assert found[("s", "", 0, 1)].q == pytest.approx((0.9 + 3 * 0.8) / 4)
    assert found[("s", "", 0, 2)].u == pytest.approx(0.3)


def test_literal_factors_lag_by_one_and_the_first_step_has_none():
    found = steps(generator_table(), CONTENTS, Dynamics(factor_index="literal"))
    assert np.isnan(found[("s", "", 0, 0)].q)
    assert found[("s", "", 0, 1)].q == pytest.approx(0.9)


def test_the_split_before_the_filter_is_selectable():
    found = steps(generator_table(), CONTENTS, Dynamics(split="generated"))
    assert found[("s", "", 0, 0)].q == pytest.approx(0.4)


def test_a_queue_with_an_unmeasured_generation_has_no_factor():
    assert np.isnan(over_queue({1: 0.5}, {1: 1.0, 2: 1.0}))
    assert over_queue({1: 0.5, 2: 0.7}, {1: 1.0, 2: 1.0}) == pytest.approx(0.6)


def test_contents_belong_to_a_chain():
    own = {"s": {("a", 0, 1): {1: 10.0}, ("a", 1, 1): {1: 10.0}, ("a", 1, 2): {2: 10.0}}}
    second = generator_table().assign(loop_seed=1.0)
    both = pd.concat([generator_table(), second.assign(value=second["value"] / 2)])
    found = steps(both, own, Dynamics())
    assert sorted(key[2:] for key in found) == [(0, 0), (1, 0), (1, 1)]
    assert found[("s", "", 1, 0)].q == pytest.approx(found[("s", "", 0, 0)].q / 2)


def test_the_square_part_of_a_resample_is_what_mirroring_leaves():
    """B^2 of rates p + e is B^2 + linear + square(e): the square part is B^2 of the error alone."""
    test, found = laws.outcomes(1.0, 0.1, 0, per_cell=40, steps=0, chains=1, seeds=1)
    (series,) = bias_series("s", found, test, SETTINGS)
    linear = series.squared[1:] - series.squared[0] - series.square
    assert abs(np.corrcoef(linear.ravel(), series.square.ravel())[0, 1]) < 0.35
    noise = 0.85 * 0.15 / 40  # of a rate: mean of the square part, less the two estimates of it
    assert series.square.mean() == pytest.approx(0.0, abs=0.1 * noise)
    assert series.square.std() == pytest.approx(noise / np.sqrt(laws.CLASSES), rel=0.35)


@pytest.mark.parametrize(("bias", "metric"), [("one_minus_meo", "meo"), ("md", "md")])
def test_measured_gaps_are_selectable_and_marked(bias, metric):
    test, found = laws.outcomes(0.9, 0.08, 0, per_cell=30, steps=1, chains=1, seeds=1)
    settings = SETTINGS.model_copy(update={"dynamics": Dynamics(bias=bias)})
    (series,) = bias_series("s", found, test, settings)
    table = fairness_rows("s", found, test, SETTINGS)
    rows = table[table["seed"].isna() & (table["metric"] == metric) & (table["class"] == "")]
    value = rows[rows["generation"] == 1]["value"].item()
    expected = 1 - value if metric == "meo" else value
    assert series.mean[1] == pytest.approx(expected**2)
    assert series.inflated


def test_a_series_between_generations_is_that_of_those_generations():
    series = laws.series("s", "a", 0.1 * np.arange(1, 6) * np.ones((2, 1)), 0)
    cut = series.between(2, 4)
    assert cut.generations == 2
    np.testing.assert_array_equal(cut.squared, series.squared[:, :, 2:4])
    np.testing.assert_array_equal(cut.measurable, series.measurable[2:4])


@pytest.mark.parametrize(
    ("doses", "expected"),
    [
        ([[0, 1, 2, 3, 3, 3]], 3),  # a stack of three
        ([[0, 3, 3, 3]], 1),  # replace: only the first step changes the dose
        ([[0, 0, 0]], 0),  # an arm without generated data
        ([[0, 1, 2, 3]], 3),  # accumulates: no step has an unchanged dose
        ([[0, 1, 2, 2], [0, 1, 2.01, 2]], 2),
        ([[0, 2, 2, 2], [0, 1, 1, 2]], 3),  # the chain that fills last
    ],
)
def test_the_queue_is_filled_from_the_generation_after_which_the_dose_stays(doses, expected):
    contents = {
        ("a", k, n): {n: 100.0 * dose} for k, row in enumerate(doses) for n, dose in enumerate(row)
    }
    assert filled_from(contents) == expected


def gate_table(fidelity, judge=0.5, split="generated"):
    rows = Rows("s", split)
    for chain in (0, 1):
        for g, value in enumerate(fidelity, start=1):
            rows.add("label_fidelity", [value], Where(chain, g))
            rows.add("label_fidelity", [0.01], Where(chain, g), ("c0", ""))  # a class's own
            rows.add("judge_accuracy", [judge], Where(chain, g))
    return rows.frame()


def test_the_gate_is_relative_to_the_judge_and_looks_at_generation_1_alone():
    why = not_converged(gate_table([0.30, 0.45, 0.45]), "s", 0.8)
    assert "generated at generation 1: 0.30, 0.60 of the judge's own accuracy" in why
    assert "(0.50); the bound is 0.8" in why
    assert not_converged(gate_table([0.41, 0.45, 0.45]), "s", 0.8) == ""
    assert not_converged(gate_table([0.30, 0.45, 0.45]), "s", 0.5) == ""


@pytest.mark.parametrize("later", [0.44, 0.1, 0.0])
def test_a_generator_that_decays_later_gates_nothing(later):
    assert not_converged(gate_table([0.45, later, later]), "s", 0.8) == ""


def test_arms_without_a_generator_are_not_gated():
    assert not_converged(gate_table([]), "s", 0.8) == ""
    assert not_converged(gate_table([0.1]), "other", 0.8) == ""
    assert not_converged(gate_table([0.1], split="kept"), "s", 0.8) == ""


@pytest.mark.parametrize("quality", ["label_fidelity", "frechet_relative", "cas"])
def test_other_readings_of_q_are_selectable(quality):
    """`cas` has rows for what was generated alone; the others come from the split of u."""
    split = "generated" if quality == "cas" else "kept"
    rows = Rows("s", split)
    for g, value in enumerate([0.5, 0.25, 0.75], start=1):
        rows.add(quality, [value], Where(0, g))
    table = pd.concat([generator_table(), rows.frame()])
    found = steps(table, CONTENTS, Dynamics(quality=quality))
    assert found[("s", "", 0, 0)].q == 0.5
    assert found[("s", "", 0, 2)].q == pytest.approx(0.5)
    assert found[("s", "", 0, 2)].u == pytest.approx(0.3)


def test_a_classifier_with_a_chain_of_its_own_has_its_own_contents():
    table = pd.concat([generator_table().assign(classifier=name) for name in ("a", "b")])
    own = {"s": {("a", 0, 2): {1: 1.0}, ("b", 0, 2): {2: 1.0}}}
    found = steps(table, own, Dynamics())
    assert {key[1]: step.q for key, step in found.items()} == {"a": 0.9, "b": 0.8}
