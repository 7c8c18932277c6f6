"""Intervals of the results table hold their truth: benchmarks/interval_coverage.py, in short."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import worlds

from ray_selfloop.evaluation import fairness, metrics
from ray_selfloop.evaluation.predictions import TestSet
from ray_selfloop.evaluation.readings import Plan, subgroup_readings
from ray_selfloop.evaluation.tallies import resampled
from ray_selfloop.inference.images import reverse_percentile

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "interval_coverage.py"
SPEC = importlib.util.spec_from_file_location("interval_coverage", SCRIPT)
long = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(long)
GAPS = ("md", "meo", "di_min_max", "log_odds_gap", "log_odds_gap_mean")


def test_intervals_cover_at_five_to_fifteen_images_a_cell(monkeypatch):
    """A plain bootstrap of one trial covered 55 to 85 % of these."""
    monkeypatch.setattr(long, "TRUTHS", 2000)
    found = long.coverage(long.DESIGNS["6 x 3, 5-15 a cell"], 16, 80)
    plain = [f"{gap}_per_class" for gap in GAPS] + ["ranked_accuracy|rank 1", "accuracy"]
    for name in plain + [long.changed(name) for name in plain]:
        for place in (name, f"trial: {name}"):
            share, error = found[place]
            assert share + 2 * max(error, 0.03) > 0.9, place
    mean = np.mean([found[f"trial: {name}"][0] for name in plain])
    assert mean > 0.88
    for metric in ("worst_subgroup_per_class", "gap_variance_per_class", "di_per_class"):
        assert np.isnan(found[f"trial: {metric}"][0]), metric
        assert not np.isnan(found[metric][0]), metric  # several chains


def test_the_rule_for_small_cells_stands_beside_the_metric():
    rng = np.random.default_rng(0)
    test = worlds.crossed(rng, units=4 * 12)
    table = worlds.rows(worlds.outcomes(rng, test), test)
    where = {"chain": 0, "seed": 0, "generation": 1}
    for metric, printed in (("gap_variance", False), ("gap_rms", False), ("md", True)):
        for keys in (where, {"generation": 1}):  # one chain
            assert np.isnan(worlds.pick(table, metric, **keys)["low"]) != printed
    assert metrics.describe("gap_variance_per_class_change").least == metrics.FEWEST
    assert metrics.describe("md").least == 0
    large = worlds.crossed(rng, units=4 * metrics.FEWEST)
    table = worlds.rows(worlds.outcomes(rng, large), large)
    assert not np.isnan(worlds.pick(table, "gap_variance", **where)["low"])


@pytest.mark.parametrize(
    ("half", "least"),
    [
        (0.03, 0.8),
        pytest.param(0.1, 0.88, marks=pytest.mark.slow),
        pytest.param(0.2, 0.82, marks=pytest.mark.slow),
    ],
)
def test_intervals_of_a_mean_disparity_over_classes_cover_it_at_cifar_counts(half, least):
    """Nominal 95 %; resampling the observed rates alone covers 54 % at the smallest gap."""
    rng, classes, groups = np.random.default_rng(5), 20, 5
    p = 0.6 + rng.permuted(np.tile(np.linspace(-half, half, groups), (classes, 1)), axis=1)
    cells = np.arange(classes * groups).repeat(100)
    test = TestSet(
        cells // groups, cells % groups, np.arange(len(cells)),
        worlds.names("c", classes), worlds.names("g", groups), np.ones((classes, groups)),
        pooled=False, crossed=False,
    )  # fmt: skip
    correct = rng.random((120, len(cells))) < p.ravel()[cells]
    tally = resampled(correct, test, 150, 0)
    alone = np.arange(120)
    plan = Plan(test, False, alone, np.ones((120, classes), np.bool_), alone)
    found = {r.metric: r.corrected for r in subgroup_readings(tally, plan, bootstrap=True)}
    for metric, gap in (("md", fairness.md), ("meo", lambda x: fairness.meo(x, False))):
        truth = gap(p).mean()
        values = found[f"{metric}_per_class"]
        low, high = reverse_percentile(values, 0.95)
        assert least <= ((low <= truth) & (truth <= high)).mean() <= 0.99
        plain = gap(fairness.ratio(tally.hits, tally.support)).mean(axis=-1)
        np.testing.assert_allclose(values[0], plain[0])  # the estimate itself does not move
        low, high = reverse_percentile(plain, 0.95)
        if half == 0.03:
            assert ((low <= truth) & (truth <= high)).mean() < 0.65
