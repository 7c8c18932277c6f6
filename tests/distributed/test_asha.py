"""The search stage on Ray Tune: the same decisions as halving by hand, wherever it runs."""

import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
import torch
from safetensors.torch import save_file

from ray_selfloop.config.sweep import Resources
from ray_selfloop.distributed import search
from ray_selfloop.distributed.cluster import SLOT, Cluster
from ray_selfloop.distributed.driver import Scheduler
from ray_selfloop.distributed.losses import Outcome, outcome_of
from ray_selfloop.distributed.trials import Experiment
from ray_selfloop.errors import WorkerLost
from ray_selfloop.graph import Stage
from ray_selfloop.planning import Plan, prepare
from ray_selfloop.progress import Progress
from ray_selfloop.stages import search as search_stage
from ray_selfloop.stages.kinds import VERSIONS
from ray_selfloop.stages.run import execute
from ray_selfloop.stages.search import (
    HALVED,
    Candidate,
    Rungs,
    Standing,
    attempt,
)
from ray_selfloop.store.records import Store

TRIAL = {SLOT: 1.0}
WAIT = 120  # s, far above what a stage takes
SHORT = (
    "loop.generations=0",
    "filter.score=none",
    "training.max_steps=54",
    "training.check_steps=6",
    "tune.samples=7",
    "tune.learning_rates={low: 1e-4, high: 3e-2}",
)
FEW = ("training.max_steps=12", "tune.samples=2")
PINNED = ("search", 1, [0.00544, 0.00674, 0.0008], 0.799)  # rates tried first; best accuracy


@pytest.fixture(scope="module")
def two_cpus() -> Iterator[None]:
    """A Ray instance of exactly two CPUs and two slots."""
    ray.init("local", num_cpus=2, resources={SLOT: 2}, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def scheduled(plan: Plan, slots: int) -> Progress:
    """Run a plan through Ray to its end."""
    progress = Progress(plan.graph, cached=set(plan.records))
    cluster = Cluster(slots, 0.0, TRIAL, Resources())
    scheduler = Scheduler(progress, str(plan.store.root), cluster, "tuned")
    scheduler.run(lambda _: None, threading.Event())
    scheduler.close()
    return progress


def by_hand(
    stage: Stage, root: str, candidates: Sequence[Candidate], rungs: Rungs
) -> list[Standing]:
    """Successive halving written down from its definition, on learning curves known in full.

    At a rung, a candidate that is below the quantile 1 - 1/factor of those before it ends there.
    """
    ends, before = [], dict[int, list[float]]()
    for candidate in candidates:
        curve: list[Standing] = []
        attempt(search_stage.KIND.work(stage, Store(root)), candidate, curve.append)
        *looks, end = curve
        rung = rungs.first
        while rung <= len(looks):
            reached, others = looks[rung - 1].accuracy, before.setdefault(rung, [])
            worse = bool(others) and reached < np.quantile(others, 1 - 1 / rungs.factor)
            others.append(reached)
            if worse and rung < len(looks):
                end = looks[rung - 1]._replace(outcome=HALVED)
                break
            rung *= rungs.factor
        ends.append(end)
    return ends


def search_of(plan: Plan, network: str) -> Stage:
    return next(
        node.stage
        for node in plan.graph.of_kind("search")
        if node.stage.config["network"] == network
    )


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, dict[str, Any]]:
    """LeNet's search on the digits, in this process and by hand; its plan and its summary."""
    from conftest import MICRO

    words = [*MICRO, *SHORT, "tune.grace=0.1", f"storage={tmp_path_factory.mktemp('hand')}"]
    plan = prepare(words)
    stage = search_of(plan, "lenet")
    execute(plan.dataset(plan.scenarios[0].name), plan.store)
    return plan, dict(execute(stage, plan.store, halving=by_hand).summary)


@pytest.mark.slow
def test_tune_decides_as_halving_by_hand_and_a_failed_search_takes_along_its_own_trials_alone(
    reference: tuple[Plan, dict[str, Any]], micro: list[str], two_cpus: None, tmp_path: Path
) -> None:
    _, expected = reference
    path = tmp_path / "weights.safetensors"
    save_file({"nothing": torch.zeros(3)}, path)  # can be read, and fits no network
    words = [
        *(*micro, *SHORT, "tune.grace=0.1", "classifiers=[lenet, mobilenet_v3_small]"),
        f"training_of.mobilenet_v3_small.pretrained={path}",
    ]
    plan = prepare(words)
    progress = scheduled(plan, 2)
    assert dict(plan.store.get(search_of(plan, "lenet").key).summary) == expected
    outcomes = [row["outcome"] for row in expected["tried"]]
    assert {"budget", HALVED} == set(outcomes)
    best = max(row["held_out_accuracy"] for row in expected["tried"])
    assert expected["held_out_accuracy"] == best
    trial, other = plan.graph.of_kind("classifier")
    history = plan.store.path(plan.store.get(trial.stage.key), "history.json").read_text()
    rate = expected["chosen"]["learning_rate"] * 0.5 * (1 + math.cos(math.pi * 6 / 54))
    assert f'"learning_rate": {rate}' in history

    ((key, error),) = progress.failed.items()
    assert key == search_of(plan, "mobilenet_v3_small").key
    assert "search: a candidate failed: DataError: " in error
    assert "does not fit mobilenet_v3_small" in error
    assert progress.blocked() == [other]
    assert other.stage.config["network"] == "mobilenet_v3_small"
    again = prepare(words)
    assert set(again.records) == set(again.graph.nodes) - {key, other.stage.key}


@pytest.mark.slow
def test_side_by_side_or_one_after_another_the_searches_find_the_same(
    micro: list[str], two_cpus: None, tmp_path: Path
) -> None:
    found = []
    for slots in (1, 2):
        words = [*micro, *SHORT, "tune.samples=3", "axes.dataset.initialization=[unbiased, biased]"]
        plan = prepare([*words, f"storage={tmp_path / str(slots)}"])
        assert not scheduled(plan, slots).failed
        found.append([plan.store.get(n.stage.key).summary for n in plan.graph.of_kind("search")])
    assert found[0] == found[1]
    assert len(found[0]) == 2


@pytest.mark.slow
def test_of_a_range_that_is_far_too_high_the_low_end_is_chosen(micro: list[str]) -> None:
    high = "tune={learning_rates: {low: 1e-3, high: 1}, weight_decays: null, samples: 9}"
    long = ("training.max_steps=260", "training.batch_size=32", "training.check_steps=20")
    plan = prepare([*micro, *SHORT[:2], *long, high])
    execute(plan.dataset(plan.scenarios[0].name), plan.store)
    chosen = execute(search_of(plan, "lenet"), plan.store, halving=by_hand).summary["chosen"]
    assert chosen["learning_rate"] < 1e-3 ** (1 / 2)  # the lower half, on the log scale
    assert list(chosen) == ["learning_rate"]


@pytest.mark.slow
def test_a_search_runs_beside_an_idle_experiment_on_two_cpus(
    micro: list[str], two_cpus: None
) -> None:
    """An idle experiment keeps the slots of its trials; the search must not need them."""
    words = [*micro, *SHORT, *FEW]
    plain, tuned = prepare([*words, "tune=null"]), prepare(words)
    execute(plain.dataset(plain.scenarios[0].name), plain.store)
    (trial,) = plain.graph.of_kind("classifier")
    root = str(plain.store.root)
    experiment = Experiment("idle beside a search", root, lambda _: TRIAL)
    experiment.board.waiting.put(trial.stage)
    assert experiment.board.outcomes.get(timeout=WAIT) == Outcome(trial.stage.key, "")
    stage = search_of(tuned, "lenet")
    ray.get(ray.remote(num_cpus=0.5)(search.run).remote(stage, root), timeout=WAIT)
    assert tuned.store.get(stage.key).summary["chosen"]
    experiment.close(timeout=WAIT)


def candidates_workers() -> list[psutil.Process]:
    """The workers of this process's Ray in which candidates are tried."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if " ".join(process.cmdline()).startswith("ray::ImplicitFunc.train"):
                found.append(process)
        except psutil.Error:  # gone meanwhile
            continue
    return found


@pytest.mark.slow
def test_a_candidates_killed_worker_is_a_loss_and_no_error_of_the_code(
    micro: list[str], two_cpus: None
) -> None:
    plan = prepare([*micro, *SHORT])
    execute(plan.dataset(plan.scenarios[0].name), plan.store)
    stage, root = search_of(plan, "lenet"), str(plan.store.root)
    search_task = ray.remote(num_cpus=0.5, max_retries=0)(search.run).remote(stage, root)
    tick, rounds = threading.Event(), 0
    while not (workers := candidates_workers()):
        assert rounds < 10 * WAIT
        rounds += 1
        tick.wait(0.1)
    workers[0].kill()
    with pytest.raises(WorkerLost, match="search: ") as error:
        ray.get(search_task, timeout=WAIT)
    outcome = outcome_of(stage.key, error.value)
    assert (outcome.lost, outcome.place) == (True, None)  # on a machine that lives: it counts
    assert outcome.error.startswith("WorkerLost: search: ")
    assert plan.store.find(stage.key) is None


def test_the_result_moves_only_with_its_version(reference: tuple[Plan, dict[str, Any]]) -> None:
    """Other processors differ in the last bits, and training amplifies them."""
    _, summary = reference
    kind, version, rates, accuracy = PINNED
    assert VERSIONS[kind] == version
    assert [row["learning_rate"] for row in summary["tried"]][:3] == rates
    assert summary["held_out_accuracy"] == pytest.approx(accuracy, abs=0.05)
