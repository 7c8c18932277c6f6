"""A fine-tune on several workers through Ray Train; the fine-tune itself is plain torch.

Ray Train starts the workers and their process group. Every worker reads the same store; the first
one writes. A lost worker ends the attempt: the driver makes another, which goes on from the last
checkpoint.
"""

import json
import tempfile
import time
from typing import Any

import ray
from ray import train
from ray.train import RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer

from ray_selfloop.distributed import losses
from ray_selfloop.distributed.cluster import STAGE_CPUS, hold_memory, workers
from ray_selfloop.errors import MachineLost, StageError, WorkerLost
from ray_selfloop.generators.world import PeerLost, World
from ray_selfloop.graph import Stage
from ray_selfloop.stages import diffusion
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.run import limited
from ray_selfloop.store import Store

DONE, FAILED = "done", "failed"  # notes of an attempt


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
            said = notes.read(FAILED)
            if said is not None:
                raise StageError(said) from None
            kind = MachineLost if losses.one_died(before) else WorkerLost
            raise kind(str(error).strip().splitlines()[-1]) from None
        note = notes.read(DONE)
        assert note is not None, "the first worker has ended, and not by an error"
        done, seconds = json.loads(note), time.monotonic() - started
        store.publish(stage, folder, done["summary"], seconds, done["files"])


def _train(stage: Stage, root: str, attempt: str, gpus: float) -> None:
    """Ray Train keeps nothing that lasts: its workers go on from the store's checkpoint."""
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
            run_config=RunConfig(name=stage.key, storage_path=scratch),
        ).fit()


class Notes:
    """What the workers of one attempt leave for the task that started them."""

    def __init__(self, store: Store, stage: Stage, attempt: str) -> None:
        self._place, self._attempt = store.unfinished(stage.key), attempt

    def read(self, name: str) -> str | None:
        found = self._place.read(f"{self._attempt}-{name}")
        return None if found is None else found.decode()

    def write(self, name: str, text: str) -> None:
        self._place.write(f"{self._attempt}-{name}", text.encode())


def _worker(config: dict[str, Any]) -> None:
    """One worker."""
    stage, store = config["stage"], Store(config["root"])
    notes = Notes(store, stage, config["attempt"])
    hold_memory()
    try:
        _fine_tune(stage, store, config["attempt"], notes)
    except PeerLost:
        raise  # no error of the code
    except Exception as error:
        notes.write(FAILED, f"{type(error).__name__}: {error}")
        raise


def _fine_tune(stage: Stage, store: Store, attempt: str, notes: Notes) -> None:
    context = train.get_context()
    world = World(context.get_world_rank(), context.get_world_size())
    device = str(train.torch.get_device()) if ray.get_gpu_ids() else "cpu"
    folder = store.workplace(stage.key, attempt)
    with limited(stage.config["threads"]):
        summary = diffusion.fine_tune(stage, Inputs(stage, store), folder, device, world)
    if world.rank == 0:
        paths = [path for path in folder.rglob("*") if path.is_file()]
        files = {path.name: store.contribute(stage.key, attempt, path) for path in paths}
        notes.write(DONE, json.dumps({"summary": summary, "files": files}, allow_nan=False))
