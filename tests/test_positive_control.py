"""A tool that says 'no bias' must show that it sees bias where there is some.

A real network, trained on digits whose colour tells the class, against the noise floor.
"""

from pathlib import Path

import pandas as pd
import pytest

from ray_selfloop import measurements
from ray_selfloop.planning import prepare
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.measures import ROWS
from ray_selfloop.stages.run import execute, run_here

pytestmark = pytest.mark.slow
METRICS = ("md_per_class", "meo_per_class", "gap_rms")


def measured(folder: Path, *words: str) -> pd.DataFrame:
    """Means of generation 0 by metric, of LeNet with two seeds."""
    plan = prepare(
        [
            "axes={}",
            "classifiers=[lenet]",
            "loop.generations=0",
            "filter.score=none",
            *words,
            f"storage={folder}",
        ]
    )
    run_here(plan.graph, plan.store)
    plan.look_up()
    (scenario,) = plan.scenarios
    trials = plan.published("classifier", scenario.name)
    stage = measurements.add_fairness(scenario, trials, plan.dataset(scenario.name), plan.graph)
    record = execute(stage, plan.store)
    rows = pd.read_parquet(Inputs(stage, plan.store).store.path(record, ROWS))
    mean = rows["seed"].isna() & (rows["class"] == "") & (rows["subgroup"] == "")
    return rows[mean & rows["generation"].notna()].set_index("metric")


@pytest.fixture(scope="module")
def spurious(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    ratios = "dataset.ratios=[0.98, 0.01, 0.01]"
    return measured(tmp_path_factory.mktemp("s"), "dataset.initialization=spurious", ratios)


@pytest.fixture(scope="module")
def unbiased(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return measured(tmp_path_factory.mktemp("u"), "dataset.initialization=unbiased")


def outside(rows: pd.DataFrame, metric: str) -> bool:
    """Whether the measured value lies beyond the band of equal subgroups."""
    value, floor = rows.loc[metric, "value"], rows.loc[f"{metric}_floor"]
    return bool(value < floor["low"] if metric.startswith("meo") else value > floor["high"])


@pytest.mark.parametrize("metric", METRICS)
def test_a_network_that_uses_the_colour_is_outside_the_floor(
    spurious: pd.DataFrame, metric: str
) -> None:
    assert outside(spurious, metric)


def test_it_is_far_more_biased_than_one_whose_colours_are_even(
    spurious: pd.DataFrame, unbiased: pd.DataFrame
) -> None:
    assert spurious.loc["md_per_class", "value"] > 2 * unbiased.loc["md_per_class", "value"]
