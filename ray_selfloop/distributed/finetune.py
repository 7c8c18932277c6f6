"""A fine-tune on several workers through Ray Train; the fine-tune itself is plain torch.

Ray Train starts the workers and their process group. Every worker reads the same store; the first
one writes. A lost worker starts all again, and they go on from the last checkpoint; an error
of the code is not tried again.
"""

import json
import time
from pathlib import Path
from typing import Any

import ray
from ray import train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from ray_selfloop.distributed.cluster import WORKER_CPUS
from ray_selfloop.distributed.trials import RETRIES
from ray_selfloop.errors import StageError
from ray_selfloop.generators.world import PeerLost, World
from ray_selfloop.graph import Stage
from ray_selfloop.stages import diffusion
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.run import limited
from ray_selfloop.store import Store

SUMMARY, ERROR = "summary.json", "error.txt"


def workers(stage: Stage) -> int:
    """How many workers a stage asks for."""
    return (
        int(stage.config.get("generator", {}).get("workers", 1))
        if (stage.kind == "generator")
        else 1
    )


def run(stage: Stage, root: str, gpus: float) -> None:
    """A generator stage on several workers, ``gpus`` each, in a Ray task that needs nothing."""
    store, started = Store(root), time.monotonic()
    if store.find(stage.key):
        return
    with store.attempt(stage.key) as folder:
        scratch = store.unfinished(stage.key) / "train"
        trainer = TorchTrainer(
            _worker,
            train_loop_config={"stage": stage, "root": root, "folder": str(folder)},
            torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=workers(stage),
                use_gpu=bool(gpus),
                resources_per_worker={"CPU": WORKER_CPUS, **({"GPU": gpus} if gpus else {})},
            ),
            run_config=RunConfig(
                name=stage.key,
                storage_path=str(scratch),
                failure_config=FailureConfig(max_failures=RETRIES),
            ),
        )
        trainer.fit()
        if (folder / ERROR).is_file():
            raise StageError((folder / ERROR).read_text())
        summary = json.loads((folder / SUMMARY).read_text())
        (folder / SUMMARY).unlink()
        store.publish(stage, folder, summary, time.monotonic() - started)


def _worker(config: dict[str, Any]) -> None:
    """One worker. Ray Train starts all again after an error; then there is nothing left to do."""
    folder = Path(config["folder"])
    if (folder / ERROR).is_file():
        return
    try:
        _fine_tune(config["stage"], Inputs(config["stage"], Store(config["root"])), folder)
    except PeerLost:
        raise  # a lost machine is no error of the code: Ray Train starts all of them again
    except Exception as error:
        (folder / ERROR).write_text(f"{type(error).__name__}: {error}")
        raise


def _fine_tune(stage: Stage, inputs: Inputs, folder: Path) -> None:
    context = train.get_context()
    world = World(context.get_world_rank(), context.get_world_size())
    device = str(train.torch.get_device()) if ray.get_gpu_ids() else "cpu"
    with limited(stage.config["threads"]):
        summary = diffusion.fine_tune(stage, inputs, folder, device, world)
    if world.rank == 0:
        (folder / SUMMARY).write_text(json.dumps(summary, allow_nan=False))
