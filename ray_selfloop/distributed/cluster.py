"""Connecting to Ray, and how much of it a sweep may use.

A sweep counts in slots: one slot is one CPU core's worth of work. Trials ask Ray for no CPU but for
one `slot`, because an idle Tune experiment keeps what its finished trials had asked for; the driver
hands out slots, and never more than there are.
"""

import os
import signal
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray

from ray_selfloop.config.sweep import Resources
from ray_selfloop.errors import ResourceError

SLOT = "slot"
WORKER_CPUS = 0.5  # of one worker of a fine-tune
GENERATING = ("latents", "generator", "samples")
WITH_NETWORKS = (
    "scorer", "probe", "reference", "kept", "generator_metrics", "search", "classifier",
)  # fmt: skip
HEAD = "node:__internal_head__"  # a resource that every cluster's head has
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}


@dataclass(frozen=True)
class Cluster:
    """What the sweep may use.

    slots: stages of one core that may run at once.
    trial: the Ray resources of one trial. gpus_per_generator: GPUs of generator and stream.
    sampling_workers: pairs of drawing and scoring workers of one stream.
    """

    slots: int
    trial: Mapping[str, float]
    gpus_per_generator: float
    sampling_workers: int = 1

    def gpus(self, kind: str) -> float:
        """GPUs of one stage of a kind: generators', or as many as a trial's for other networks."""
        if kind in GENERATING:
            return self.gpus_per_generator
        return self.trial.get("gpu", 0.0) if kind in WITH_NETWORKS else 0.0


def connect(resources: Resources, workers: int = 1) -> Cluster:
    """Start Ray on this machine, or join the cluster that RAY_ADDRESS names.

    workers: of one fine-tune. Raises ResourceError when the sweep asks for more than there is.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if os.environ.get("RAY_ADDRESS"):
        _start(address=_answering(os.environ["RAY_ADDRESS"]))
        return _joined(resources, workers)
    slots = resources.num_cpus or len(os.sched_getaffinity(0))
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every worker compiles everything anew
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _start(
        address="local",
        num_cpus=slots + 1,  # one more than slots: a stream's pools and its driver's tasks
        resources={SLOT: slots},
        include_dashboard=False,
    )
    return _cluster(slots, {"cpu": 0, SLOT: 1}, resources, workers)


def _start(**arguments: Any) -> None:
    """``ray.init`` that leaves the caller's signal handlers in place: Ray sets its own."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **arguments)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ResourceError(f"Ray at {arguments['address']} cannot be used: {reason}") from error
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _answering(address: str) -> str:
    """The address, if something listens there: Ray itself would retry for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "://" not in address:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            raise ResourceError(
                f"RAY_ADDRESS={address}: nothing answers there ({error})"
            ) from error
    return address


def leave() -> None:
    """End Ray where ``connect`` started it, or leave the cluster that it joined."""
    ray.shutdown()


def _joined(resources: Resources, workers: int) -> Cluster:
    have = ray.cluster_resources()
    cores = int(have.get("CPU", 0))
    if have.get(SLOT, 0):
        slots, trial = min(cores, int(have[SLOT])), {"cpu": 0.0, SLOT: 1.0}
    elif len([node for node in ray.nodes() if node["Alive"]]) == 1:
        slots, trial = cores, {"cpu": 0.0, HEAD: 1e-3}
    else:
        raise ResourceError(
            "the cluster has several nodes but no `slot` resource: start each node with "
            "--resources='{\"slot\": N}', N its CPU cores"
        )
    if (resources.num_cpus or 1) > slots:
        raise ResourceError(
            f"resources.num_cpus: {resources.num_cpus} asked for, the cluster has {slots}"
        )
    return _cluster(resources.num_cpus or slots, trial, resources, workers)


def _cluster(slots: int, trial: Mapping[str, float], resources: Resources, workers: int) -> Cluster:
    there = ray.cluster_resources().get("GPU", 0.0)
    check_gpus(resources, there)
    check_workers(workers, resources.gpus_per_generator, there)
    if slots < 1:
        raise ResourceError("the cluster has no CPU core to run on")
    gpu = {"gpu": resources.gpus_per_trial} if resources.gpus_per_trial else {}
    return Cluster(
        slots, {**trial, **gpu}, resources.gpus_per_generator, resources.sampling_workers
    )


def check_gpus(resources: Resources, there: float) -> None:
    """Raise ResourceError where one stage asks for more than ``there`` GPUs."""
    for name in ("gpus_per_trial", "gpus_per_generator"):
        asked = getattr(resources, name)
        if asked > there:
            raise ResourceError(
                f"resources.{name}: {asked:g} GPU asked for, the cluster has {there:g}"
            )
    if resources.sampling_workers * resources.gpus_per_generator > there:
        raise ResourceError(
            f"resources.sampling_workers: {resources.sampling_workers} pairs of "
            f"{resources.gpus_per_generator:g} GPU each asked for, the cluster has {there:g}"
        )


def check_workers(workers: int, gpus: float, there: float) -> None:
    """Raise ResourceError where the workers of one fine-tune would wait for each other for ever."""
    if workers == 1:
        return
    cores = ray.cluster_resources().get("CPU", 0.0)
    most = int(cores / WORKER_CPUS)
    if gpus:
        most = min(most, int(there / gpus + 1e-9))
    if workers > most:
        raise ResourceError(
            f"generator.workers: {workers} of {WORKER_CPUS:g} CPU and {gpus:g} GPU each asked for, "
            f"the cluster has {cores:g} CPU and {there:g} GPU: at most {most}"
        )


def device() -> str:
    """What Ray gave this worker: `cuda` where it has a GPU, else `cpu`."""
    return "cuda" if ray.get_gpu_ids() else "cpu"
