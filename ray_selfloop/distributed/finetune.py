"""A fine-tune on several workers through Ray Train; the fine-tune itself is plain torch.

Ray Train starts the workers and their process group. Every worker reads the same store; the first
one writes. A lost worker ends the attempt: the driver makes another, which goes on from the last
checkpoint.
"""

import json
import os
import tempfile
import time
from typing import Any

import ray
from ray import train
from ray.train import FailureConfig, PreemptionError, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer

from ray_selfloop.distributed import losses
from ray_selfloop.distributed.cluster import STAGE_CPUS, workers
from ray_selfloop.distributed.worker import hold_memory
from ray_selfloop.distributed.worker_errors import Notes
from ray_selfloop.errors import MachineLost, WorkerLost, last_line
from ray_selfloop.generators.diffusion.workers import World
from ray_selfloop.graph import Stage
from ray_selfloop.stages import generator, lessons
from ray_selfloop.stages.run import computing
from ray_selfloop.store.records import Store

DONE = "done"  # a note of the first worker
MONTH = 30 * 24 * 3600  # s
ONCE = FailureConfig(max_failures=0, max_preemption_failures=0, controller_failure_limit=0)
START = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"  # else a minute's wait for machines is a failure


def run(stage: Stage, root: str, gpus: float) -> None:
    """A generator stage on several workers, ``gpus`` each, in a Ray task that needs nothing."""
    store, started = Store(root), time.monotonic()
    if store.find(stage.key):
        return
    with store.attempt(stage.key) as folder:
        notes, before = Notes(store, stage, folder.name), losses.alive()
        try:
            _train(stage, root, folder.name, gpus)
        except TrainingFailedError as error:
            notes.check()
            preempted = isinstance(error, PreemptionError)
            kind = MachineLost if preempted or losses.one_died(before) else WorkerLost
            raise kind(last_line(error)) from None
        note = notes.read(DONE)
        if note is None:  # cleared by another driver, which has published the stage
            raise WorkerLost("the first worker's note is gone")
        done, seconds = json.loads(note), time.monotonic() - started
        store.publish(stage, folder, done["summary"], seconds, done["files"])


def _train(stage: Stage, root: str, attempt: str, gpus: float) -> None:
    """Ray Train keeps nothing that lasts: its workers go on from the store's checkpoint."""
    os.environ[START] = str(MONTH)
    with tempfile.TemporaryDirectory(prefix="selfloop-train-") as scratch:
        TorchTrainer(
            _worker,
            train_loop_config={"stage": stage, "root": root, "attempt": attempt},
            torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=workers(stage),
                use_gpu=bool(gpus),
                resources_per_worker={"CPU": STAGE_CPUS, **({"GPU": gpus} if gpus else {})},
            ),
            run_config=RunConfig(name=stage.key, storage_path=scratch, failure_config=ONCE),
        ).fit()


def _worker(config: dict[str, Any]) -> None:
    stage, store = config["stage"], Store(config["root"])
    notes = Notes(store, stage, config["attempt"])
    with notes.errors():
        hold_memory()
        _fine_tune(stage, store, config["attempt"], notes)


def _fine_tune(stage: Stage, store: Store, attempt: str, notes: Notes) -> None:
    context = train.get_context()
    world = World(context.get_world_rank(), context.get_world_size())
    device = str(train.torch.get_device()) if ray.get_gpu_ids() else "cpu"
    folder = store.workplace(stage.key, attempt)
    work = generator.KIND.work(stage, store, device, folder)
    with computing(work.settings, device):
        summary = lessons.run(work, world)
    if world.rank == 0:
        paths = [path for path in folder.rglob("*") if path.is_file()]
        files = {path.name: store.contribute(stage.key, attempt, path) for path in paths}
        notes.write(DONE, json.dumps({"summary": summary, "files": files}, allow_nan=False))
