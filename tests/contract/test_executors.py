"""One sweep, computed in this process and through Ray: the same records."""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import ray
import torch
from safetensors.torch import save_file

from ray_selfloop.config.sweep import Resources
from ray_selfloop.distributed import nodes
from ray_selfloop.distributed.cluster import SLOT, Cluster, joined
from ray_selfloop.distributed.driver import Scheduler
from ray_selfloop.distributed.losses import Outcome, outcome_of
from ray_selfloop.distributed.stream import stream
from ray_selfloop.distributed.trials import Experiment
from ray_selfloop.graph import Graph, Node
from ray_selfloop.planning import Plan, prepare
from ray_selfloop.progress import Progress
from ray_selfloop.stages.run import execute, run_here
from ray_selfloop.store import blobs, failures
from ray_selfloop.store.records import Store

TRIAL = {SLOT: 1.0}
WAIT = 120  # s, far above what a stage takes


@pytest.fixture(scope="module")
def two_cpus() -> Iterator[Cluster]:
    """A Ray instance of exactly two CPUs and two slots."""
    ray.init("local", num_cpus=2, resources={SLOT: 2}, include_dashboard=False, log_to_driver=False)
    yield joined(Resources(), nodes.present())
    ray.shutdown()


def scheduled(plan: Plan, cluster: Cluster) -> Progress:
    """Run a plan through Ray to its end."""
    progress = Progress(plan.graph)
    scheduler = Scheduler(progress, str(plan.store.root), cluster, plan.sweep.name)
    scheduler.run(lambda _: None, threading.Event())
    scheduler.close()
    return progress


def not_weights(folder: Path) -> Path:
    """Weights of no network of ours: they can be read, and training from them fails in a worker."""
    path = folder / "weights.safetensors"
    save_file({"nothing": torch.zeros(3)}, path)
    return path


def contents(graph: Graph, store: Store) -> dict[str, object]:
    """What every stage published, apart from times and places."""
    records = {node.stage.key: store.get(node.stage.key) for node in graph}
    return {key: (record.summary, record.files) for key, record in records.items()}


@pytest.mark.slow
def test_ray_and_this_process_publish_the_same_bytes(
    published: list[str], tmp_path: Path, two_cpus: Cluster
) -> None:
    here, there = prepare(published), prepare([*published, f"storage={tmp_path / 'ray'}"])
    progress = scheduled(there, two_cpus)
    assert not progress.failed
    assert progress.done == set(there.graph.nodes)
    (samples,) = there.graph.of_kind("samples")
    assert len(there.store.get(samples.stage.key).summary["parts"]) > 1  # rows of the stream
    assert contents(there.graph, there.store) == contents(here.graph, here.store)


def test_an_ensemble_of_experts_filters_by_either_measure(micro: list[str]) -> None:
    words = [
        *micro,
        "loop.generations=1",
        "loop.classifier_seeds=[0, 1]",
        "filter.expert.seeds=[0, 1]",
        "filter.uncertainty.method=ensemble",
        "axes.filter.uncertainty.measure=[bald, variance]",
    ]
    plan = prepare(words)
    kept = plan.graph.of_kind("kept")
    run_here(of(plan.graph, kept), plan.store)
    assert [plan.store.get(node.stage.key).summary["kept"] for node in kept] == [431, 431]


@pytest.mark.slow
def test_failed_trials_take_along_the_chain_of_a_failed_expert_and_nothing_else(
    micro: list[str], two_cpus: Cluster, tmp_path: Path
) -> None:
    words = [
        *micro,
        "loop.generations=1",
        "classifiers=[lenet, mobilenet_v3_small]",
        "axes.filter.expert.classifier=[lenet, mobilenet_v3_small]",
        f"training_of.mobilenet_v3_small.pretrained={not_weights(tmp_path)}",
    ]
    plan = prepare(words)
    progress = scheduled(plan, two_cpus)
    names = {plan.graph.nodes[key].stage.config["network"] for key in progress.failed}
    assert names == {"mobilenet_v3_small"}
    assert all("does not fit mobilenet_v3_small" in error for error in progress.failed.values())
    for key, error in progress.failed.items():
        record = failures.read(blobs.at(plan.store.root), key)
        assert record is not None
        assert (record.error, record.kind) == (error, "classifier")
        assert "Traceback" in record.detail
    ended = {
        place.scenario
        for node in plan.graph.of_kind("generator_metrics")
        if node.stage.key in progress.done
        for place in node.places
    }
    blocked = progress.blocked()
    lost = {place.scenario for node in blocked for place in node.places}
    assert ended == {"classifier=lenet"}
    assert lost == {"classifier=mobilenet_v3_small"}
    assert len(progress.done) == len(plan.graph) - len(progress.failed) - len(blocked)


@pytest.mark.slow
def test_the_stream_runs_beside_an_idle_experiment_on_two_cpus(
    micro: list[str], two_cpus: Cluster
) -> None:
    plan = prepare([*micro, "loop.generations=1", "compute.sample_batch=100"])
    (samples,) = plan.graph.of_kind("samples")
    trials = [node.stage for node in plan.graph.of_kind("classifier") if not _later(node.stage)]
    for node in plan.graph:
        if node.stage.key in _needed(plan.graph, samples.stage.key) - {trials[0].key}:
            execute(node.stage, plan.store)
    experiment = Experiment("idle", str(plan.store.root), lambda _: TRIAL)
    experiment.board.waiting.put(trials[0])
    assert experiment.board.outcomes.get(timeout=WAIT) == Outcome(trials[0].key, "")
    record = stream(samples.stage, str(plan.store.root), workers=1, gpus=0.0)
    assert record.summary["count"] == 480
    assert experiment.failure is None
    experiment.close(timeout=WAIT)


@pytest.mark.slow
def test_an_error_in_a_streams_worker_fails_it_at_once(micro: list[str], two_cpus: Cluster) -> None:
    plan = prepare([*micro, "loop.generations=1", "filter.score=none"])
    (samples,) = plan.graph.of_kind("samples")
    for node in plan.graph:
        if node.stage.key in _needed(plan.graph, samples.stage.key):
            record = execute(node.stage, plan.store)
            if node.stage.kind == "generator":
                for name, (size, _) in record.files.items():
                    plan.store.path(record, name).write_bytes(bytes(size))
    progress = scheduled(plan, two_cpus)
    error = progress.failed[samples.stage.key]
    assert error.startswith("StageError: ")
    assert "UDF" not in error
    assert "lost" not in error
    record = failures.read(blobs.at(plan.store.root), samples.stage.key)
    assert record is not None
    assert "stream.py" in record.detail  # the worker's traceback
    assert progress.took[samples.stage.key] < WAIT


@pytest.mark.slow
def test_a_lost_process_of_a_stream_ends_the_attempt_and_is_a_loss(
    micro: list[str], two_cpus: Cluster
) -> None:
    plan = prepare([*micro, "loop.generations=1", "filter.score=none", "compute.sample_batch=2"])
    (samples,) = plan.graph.of_kind("samples")
    for node in plan.graph:
        if node.stage.key in _needed(plan.graph, samples.stage.key):
            execute(node.stage, plan.store)
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(stream, samples.stage, str(plan.store.root), 1, 0.0)
        _kill_one("ray::MapBatches")
        error = running.exception(WAIT)
    assert outcome_of("key", error).lost, error
    assert plan.store.find(samples.stage.key) is None
    assert stream(samples.stage, str(plan.store.root), 1, 0.0).summary["count"] > 0


def _kill_one(name: str) -> None:
    """Kill the first process of this test's Ray that computes under a name."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has ended
                if name in " ".join(process.cmdline()):
                    process.kill()
                    return
        time.sleep(0.01)


def _later(stage: object) -> bool:
    return any(name.startswith("kept") for name in stage.inputs)  # type: ignore[attr-defined]


def _needed(graph: Graph, key: str) -> set[str]:
    """Keys of everything that a stage depends on."""
    inputs = set(graph.nodes[key].stage.inputs.values())
    return inputs.union(*(_needed(graph, name) for name in inputs))


def of(graph: Graph, nodes: Sequence[Node]) -> Graph:
    """These nodes and all that they depend on."""
    keys = {node.stage.key for node in nodes}.union(*(_needed(graph, n.stage.key) for n in nodes))
    part = Graph()
    part.nodes = {key: node for key, node in graph.nodes.items() if key in keys}
    return part
