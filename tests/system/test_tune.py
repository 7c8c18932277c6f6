"""A sweep that searches for learning rate and weight decay first, as its users run it."""

import json
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
from conftest import MICRO

from ray_selfloop.planning import Plan, prepare
from ray_selfloop.stages.search import KIND, Candidate, Standing, attempt
from sweeps import LIMIT, copied, results, run, start

pytestmark = pytest.mark.slow
TUNED = (
    *MICRO,
    "loop.generations=1",
    "filter.score=none",
    "training.max_steps=260",
    "training.batch_size=32",
    "training.check_steps=20",
    "tune={samples: 8}",
)
NEIGHBOURS = (5e-4, 1e-3, 2e-3)
NOISE = 0.04  # about two standard errors of an accuracy of 0.93 on 144 held-out images


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words of a sweep with a search that has run."""
    words = [*TUNED, f"storage={tmp_path_factory.mktemp('tuned')}"]
    code, output = run(words)
    assert code == 0, output
    return words


def found(plan: Plan) -> dict[str, float]:
    """What the one search of a plan has chosen."""
    (node,) = plan.graph.of_kind("search")
    chosen: dict[str, float] = plan.records[node.stage.key].summary["chosen"]
    return chosen


def test_what_is_found_is_no_worse_than_the_neighbourhood_of_the_default(tuned: list[str]) -> None:
    plan = prepare(tuned)
    (node,) = plan.graph.of_kind("search")
    summary = plan.records[node.stage.key].summary
    accuracies = []
    for rate in NEIGHBOURS:
        told: list[Standing] = []
        candidate = Candidate(0, {"learning_rate": rate, "weight_decay": 0.0})
        attempt(KIND.work(node.stage, plan.store), candidate, told.append)
        accuracies.append(told[-1].accuracy)
    assert summary["held_out_accuracy"] >= max(accuracies) - NOISE
    assert 1e-4 <= summary["chosen"]["learning_rate"] <= 1e-2
    assert len(summary["tried"]) == 8


def test_every_generation_is_trained_with_what_was_found(tuned: list[str]) -> None:
    plan = prepare(tuned)
    trials = plan.graph.of_kind("classifier")
    assert len(trials) == 2
    for node in trials:
        path = plan.store.path(plan.records[node.stage.key], "history.json")
        first = json.loads(path.read_text())[0]["learning_rate"]
        assert 0.95 < first / found(plan)["learning_rate"] < 1  # 20 of 260 steps down the cosine


def test_a_sweep_killed_in_its_search_finds_the_same(tuned: list[str], tmp_path: Path) -> None:
    words = [*copied(tuned, tmp_path), "resources.num_cpus=1"]
    plan = prepare(words)
    for kind in ("search", "classifier"):  # what was found, and what was trained with it
        for node in plan.graph.of_kind(kind):
            shutil.rmtree(plan.store.folder(node.stage.key))
    process = start(words)
    tick = threading.Event()
    while not list(tmp_path.glob("stages/search/*/*")):
        assert process.poll() is None, "the sweep ended too early"
        tick.wait(0.05)
    tick.wait(3)  # into the middle of the search
    os.kill(process.pid, signal.SIGKILL)
    process.wait(LIMIT)
    assert not list(tmp_path.glob("stages/search/*/record.json"))
    code, output = run(words)
    assert code == 0, output
    assert found(prepare(words)) == found(prepare(tuned))
    assert results(words).equals(results(tuned))
