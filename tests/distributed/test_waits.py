"""What a sweep waits for: said after a while, borne for a while, and given way to."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group

from ray_selfloop.distributed import waits
from ray_selfloop.distributed.cluster import SLOT, Cluster
from ray_selfloop.distributed.driver import Scheduler
from ray_selfloop.distributed.waits import Elsewhere, Outages, Stalls
from ray_selfloop.errors import StorageOutage
from ray_selfloop.graph import Graph
from ray_selfloop.planning import prepare
from ray_selfloop.progress import Progress

LIMIT = 60.0  # s, far above what Ray takes to say what waits


@pytest.fixture(scope="module")
def one_gpu() -> Iterator[None]:
    """One machine with a made-up GPU."""
    resources = {"resources": {SLOT: 2}, "num_cpus": 2, "num_gpus": 1}
    ray.init("local", include_dashboard=False, log_to_driver=False, **resources)
    yield
    ray.shutdown()


@ray.remote(num_cpus=0)
def until(gate: list[ray.ObjectRef]) -> None:
    ray.get(gate)


@ray.remote(num_cpus=0)
class Gate:
    """Held until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def wait(self) -> None:
        self.open.wait()

    def let_through(self) -> None:
        self.open.set()


def comes_true(condition: Callable[[], Any]) -> bool:
    tick, end = threading.Event(), time.monotonic() + LIMIT
    while time.monotonic() < end:
        if condition():
            return True
        tick.wait(0.1)
    return False


@pytest.mark.slow
def test_a_stage_that_waits_for_a_gpu_is_noticed_and_a_trial_is_not(
    one_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "LOOK", 0.2)
    monkeypatch.setattr(waits, "AGAIN", 0.0)
    stalls = Stalls(patience=0.5)
    gate = Gate.options(max_concurrency=3).remote()
    held = until.options(num_gpus=1).remote([gate.wait.remote()])
    assert comes_true(lambda: not ray.available_resources().get("GPU"))
    trial = placement_group([{SLOT: 1, "GPU": 0.5}])
    assert comes_true(lambda: "0.5 GPU" in stalls.sentence())
    assert not stalls.starved()
    whole = until.options(num_gpus=1).remote([gate.wait.remote()])
    assert comes_true(stalls.starved)
    ray.get(gate.let_through.remote())
    assert comes_true(lambda: not stalls.starved())
    remove_placement_group(trial)
    ray.get([held, whole])


class Starved(Stalls):
    """Something in the cluster has long waited for a GPU."""

    def starved(self) -> bool:
        return True


def test_only_our_own_trials_are_held_back_and_only_for_a_stage_of_ours(micro: list[str]) -> None:
    plan = prepare([*micro, "resources.gpus_per_trial=0.5", "resources.gpus_per_generator=1"])
    cluster = Cluster(2, 1.0, {SLOT: 1.0}, plan.sweep.resources)
    scheduler = Scheduler(Progress(plan.graph), str(plan.store.root), cluster, "micro")
    scheduler._stalls = Starved()
    trial, generator, dataset = (
        next(iter(plan.graph.of_kind(kind))).stage
        for kind in ("classifier", "generator", "dataset")
    )
    running = ([], [trial], [generator], [trial, dataset], [trial, generator])
    assert [scheduler._starved(stages) for stages in running] == [False] * 4 + [True]
    scheduler.close()


def test_an_outage_of_the_storage_is_said_once_and_borne_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outages, error = Outages(), StorageOutage("s3://bucket does not answer")
    assert (outages.wait(), outages.sentence()) == (False, "")
    outages.note(error)
    assert outages.wait()
    assert outages.sentence() == "waiting for the storage: s3://bucket does not answer"
    outages.note(error)
    assert outages.sentence() == ""
    monkeypatch.setattr(waits, "BORNE", -1.0)
    with pytest.raises(StorageOutage, match="does not answer"):
        outages.note(error)
    outages.over()
    outages.note(error)  # another one
    assert outages.sentence() != ""


def test_what_another_driver_computes_is_looked_at_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waits, "LOOK", 0.3)
    elsewhere = Elsewhere()
    assert elsewhere.look_now("classifier-a")
    elsewhere.note("classifier-a", "process 1 on head")
    assert not elsewhere.due()
    assert not elsewhere.look_now("classifier-a")
    said = elsewhere.sentence(Progress(Graph()))
    assert said.startswith("waiting for another driver of the same storage: process 1 on head")
    assert comes_true(elsewhere.due)
    elsewhere.new_round()
    assert elsewhere.look_now("classifier-a")
    elsewhere.forget("classifier-a")
    assert not elsewhere.due()
