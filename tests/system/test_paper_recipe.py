"""The paper's recipe read literally leaves a network at chance: flagged, left out, and said."""

import pandas as pd
import pytest
from conftest import MICRO

from ray_selfloop.planning import prepare
from sweeps import records, results, run_alone

pytestmark = pytest.mark.slow
WORDS = (
    *MICRO,
    "loop.generations=1",
    "loop.classifier_seeds=[0, 1]",
    "classifiers=[lenet, mobilenet_v3_small]",
    "filter.score=none",
    "training.max_steps=100",
    "training_of.lenet.recipe=paper",
    "evaluation.judge.classifier=mobilenet_v3_small",
)
FAIRNESS = ("meo", "di", "md", "tpr")


@pytest.fixture(scope="module")
def collapsed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words of a sweep whose LeNet is trained at 1e-1."""
    words = [*WORDS, f"storage={tmp_path_factory.mktemp('paper')}"]
    run_alone(words)
    return words


def rows_of(words: list[str], classifier: str) -> pd.DataFrame:
    table = results(words)
    return table[table["classifier"] == classifier]


def test_every_trial_at_chance_is_flagged(collapsed: list[str]) -> None:
    for classifier, flag in (("lenet", 1.0), ("mobilenet_v3_small", 0.0)):
        rows = rows_of(collapsed, classifier)
        trials = rows[(rows["metric"] == "collapsed") & rows["seed"].notna()]
        assert len(trials) == 4  # 2 generations x 2 seeds
        assert (trials["value"] == flag).all()
    recipes = {
        record.config["network"]: record.summary["recipe"]
        for record in records(collapsed).values()
        if record.kind == "classifier"
    }
    assert recipes == {"lenet": "paper", "mobilenet_v3_small": "default"}


def test_it_has_its_accuracy_in_the_table_and_no_fairness(collapsed: list[str]) -> None:
    lenet, other = rows_of(collapsed, "lenet"), rows_of(collapsed, "mobilenet_v3_small")
    measured = {name for name in other["metric"] if name.split("/")[0] in FAIRNESS}
    assert measured
    assert not set(lenet["metric"]) & measured
    accuracy = lenet[(lenet["metric"] == "accuracy") & lenet["seed"].notna()]
    assert len(accuracy)
    assert accuracy[accuracy["class"] == "all"]["value"].max() < 0.2
    trials = lenet[(lenet["metric"] == "trials") & lenet["seed"].isna()]
    assert (trials["value"] == 0).all()


def test_the_report_says_so(collapsed: list[str]) -> None:
    page = (prepare(collapsed).folder / "report.html").read_text()
    assert "4 of 8 trials do no better than chance (base: lenet 4 of 4)" in page
    assert "They stay in every mean of accuracy, and are left out of every mean of fairness" in page
    for generation in (0, 1):
        for seed in (0, 1):
            assert f"base, loop seed 0, generation {generation}, lenet, seed {seed}" in page
