"""The noise floor: classifiers with equal subgroups lie inside it, one that uses the colour not."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import worlds
from scipy.stats import binom

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation.classifier_rows import fairness_rows
from ray_selfloop.evaluation.predictions import Outcome

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "noise_floor.py"
SPEC = importlib.util.spec_from_file_location("noise_floor", SCRIPT)
floor = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(floor)
SMALL = {
    "independent": (floor.test_set(8, 4, 40, crossed=False), 0.5),
    "crossed": (floor.test_set(6, 3, 80, crossed=True), 2.0),
}


@pytest.mark.parametrize("world", SMALL)
def test_equal_subgroups_lie_inside_the_band_as_often_as_it_says(world):
    n = 300
    least, most = binom.ppf([0.0005, 0.9995], n, floor.LEVEL) / n
    for name, share in floor.coverage(*SMALL[world], (30, 10), 200, seed=0).items():
        assert least - 0.01 <= share <= most + 0.01, name  # 200 permutations: 1 % for its own error


@pytest.mark.parametrize("world", SMALL)
def test_a_classifier_that_uses_the_colour_lies_outside(world):
    found = floor.coverage(*SMALL[world], (1, 20), 200, seed=0, colour=1.5)
    for name in ("MD, per class", "1 - MEO, per class", "rank gap (eq. 5)"):
        assert found[name] == 0.0


def test_the_script_measures_what_the_results_table_holds():
    test, logit = SMALL["crossed"]
    correct = floor.correctness(test, logit, np.random.default_rng(0))
    wrong = (test.labels + 1) % test.classes
    predicted = [np.where(x, test.labels, wrong) for x in correct]
    outcomes = [Outcome(0, 0, "a", s, each) for s, each in enumerate(predicted)]
    settings = Evaluation(resamples=20, permutations=50, seed=3)
    table = fairness_rows("", outcomes, test, settings)
    mean = table[table["seed"].isna() & (table["generation"] == 0) & (table["class"] == "")]
    rows = mean.set_index(["metric", "subgroup"])
    null = floor.permuted(correct, test, 50, 3)
    for metric, name in (("md_per_class", "MD, per class"), ("md_pooled", "MD, pooled")):
        draws = floor.QUANTITIES[name](null.hits, null.support).mean(axis=-1)
        expected = [float(end) for end in floor.band(draws, 0.95)]
        found = rows.loc[(f"{metric}_floor", ""), ["value", "low", "high"]]
        assert found.tolist() == pytest.approx(expected)
    ranks = [rows.loc[("ranked_accuracy", f"rank {k}"), "value"] for k in (1, 3)]
    assert ranks[1] - ranks[0] == pytest.approx(rows.loc[("md_per_class", ""), "value"])


def test_the_spurious_digits_classifier_is_outside_and_its_pooled_reading_hides_it():
    """Colours rotated with the class at 0.98: who uses the colour is right where it agrees."""
    test = floor.test_set(10, 3, 100, crossed=True)
    rng = np.random.default_rng(1)
    accuracy = np.where(test.subgroups == test.labels % 3, 0.99, 0.7)
    outcomes = [Outcome(0, 0, "a", s, worlds.predict(rng, test, accuracy)) for s in range(3)]
    shares = np.where(np.arange(3) == np.arange(10)[:, None] % 3, 0.98, 0.01)
    table = fairness_rows(
        "", outcomes, replace(test, train_shares=shares), Evaluation(resamples=50, permutations=200)
    )
    mean = table[table["seed"].isna() & (table["generation"] == 0) & (table["class"] == "")]
    rows = mean[mean["subgroup"] == ""].set_index("metric")
    for metric in ("md", "md_per_class", "md_by_share_rank", "gap_rms"):
        assert rows.loc[metric, "low"] > rows.loc[f"{metric}_floor", "high"]
    assert rows.loc["md_pooled", "value"] < 0.5 * rows.loc["md", "value"]
