"""B, q and u as the fit takes them."""

from dataclasses import replace

import laws
import numpy as np
import pandas as pd
import pytest

from ray_selfloop.config.evaluation import Dynamics, Evaluation
from ray_selfloop.dynamics.factors import bias_series, over_queue, steps
from ray_selfloop.evaluation.rows import NAN, Rows, Where
from ray_selfloop.evaluation.table import fairness_rows

SETTINGS = Evaluation(resamples=100, permutations=100)


def test_b_agrees_with_the_results_table():
    test, found = laws.outcomes(0.9, 0.08, 0, per_cell=30, steps=2, chains=2)
    (series,) = bias_series("s", found, test, SETTINGS)
    table = fairness_rows("s", found, test, SETTINGS)
    means = table[table["seed"].isna() & (table["class"] == "")].set_index(["metric", "generation"])
    for t in range(3):
        assert series.mean[t] == pytest.approx(means.loc[("gap_variance", t), "value"])
        assert series.floor[t] == pytest.approx(means.loc[("gap_variance_floor", t), "high"])


def test_the_pooled_reading_is_selectable():
    test, found = laws.outcomes(0.9, 0.08, 0, per_cell=30, steps=1, chains=1)
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
    assert series.training < 2e-7
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


CONTENTS = {"s": {0: {}, 1: {1: 10.0}, 2: {1: 10.0, 2: 30.0}, 3: {2: 20.0, 3: 20.0}}}


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
