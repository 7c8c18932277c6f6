"""A cluster whose machines are processes of this one, with Ray's own autoscaler (v2) over them.

Machines come when a sweep asks for their (made-up) GPUs and go when they are idle; `kill` takes one
away as a spot market does, with everything that runs on it, without a word.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider

BIN = Path(sys.executable).parent
HEAD = "f" * 51 + "00000"
HEAD_TYPE = "ray.head.default"  # the fake provider knows it by this name alone
HOST = "127.0.0.1"
TYPES = {
    HEAD_TYPE: {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
    "gpu": {
        "resources": {"CPU": 2, "GPU": 1, "slot": 2},
        "node_config": {},
        "min_workers": 0,
        "max_workers": 2,
    },
}
QUICKLY = {
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_initial_delay_ms": "0",
}


class Machines(FakeMultiNodeProvider):
    """Ray's own provider of fake machines; the autoscaler loads it from here.

    (Ray's wheel lacks a file that its built-in name needs.)
    """


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


def comes_true(condition: Callable[[], Any], limit: float) -> Any:
    """What ``condition`` gives as soon as that is true; fails after ``limit`` seconds."""
    tick = threading.Event()
    for _ in range(int(limit / 0.1)):
        found = condition()
        if found:
            return found
        tick.wait(0.1)
    raise AssertionError(f"{condition} did not come true in {limit} s")


class FakeCluster:
    """A head without GPU, and up to two machines of 2 cores and one GPU each."""

    def __init__(self, faults: str = "") -> None:
        """faults: a folder whose `sitecustomize` every Python process of the cluster imports."""
        self._faults = faults
        self.folder = Path(tempfile.mkdtemp(prefix="fake"))  # short: it holds socket paths
        port = free_port()
        config = {
            "cluster_name": "fake",
            "max_workers": 2,
            "idle_timeout_minutes": 0.1,
            "provider": {
                "type": "external",
                "module": f"{Path(__file__).stem}.{Machines.__name__}",
                "head_node_id": HEAD,
                "gcs_address": f"{HOST}:{port}",
            },
            "available_node_types": TYPES,
            "head_node_type": HEAD_TYPE,
            **{f"{part}setup_commands": [] for part in ("", "head_", "worker_")},
            **{f"{part}_start_ray_commands": [] for part in ("head", "worker")},
            **{key: [] for key in ("cluster_synced_files", "initialization_commands")},
            **{key: {} for key in ("auth", "docker", "file_mounts")},
        }
        file = self.folder / "ray_bootstrap_config.yaml"  # where `ray up` would leave it
        file.write_text(yaml.safe_dump(config))
        self.address = f"{HOST}:{port}"
        self._head = subprocess.Popen(
            [
                *(BIN / "ray", "start", "--head", "--block", f"--port={port}"),
                *(f"--node-ip-address={HOST}", "--num-cpus=1", "--num-gpus=0"),
                *("--include-dashboard=false", "--disable-usage-stats"),
                *(f"--temp-dir={self.folder / 'ray'}", f"--autoscaling-config={file}"),
                "--object-store-memory=200000000",
            ],
            env={**self.environment, **QUICKLY, "RAY_CLOUD_INSTANCE_ID": HEAD},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        comes_true(self.answers, 60)

    @property
    def environment(self) -> dict[str, str]:
        """Of the head, its machines, and whoever submits to it on the head."""
        mine = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        return {
            **mine,
            "HOME": str(self.folder),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parent), self._faults))),
            "FAULTS": str(self.folder),
            "RAY_AUTH_MODE": "disabled",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
            "RAY_NODE_TYPE_NAME": HEAD_TYPE,
            "SELFLOOP_DEVICE": "cpu",  # the GPUs are made up
        }

    def answers(self) -> bool:
        """Whether the head takes connections."""
        assert self._head.poll() is None, "the head did not start"
        with socket.socket() as probe:
            probe.settimeout(1)
            host, port = self.address.split(":")
            return probe.connect_ex((host, int(port))) == 0

    def processes(self) -> list[psutil.Process]:
        """All processes of the cluster, its machines and its workers."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self._head.pid:
                    found.append(process)
            except (psutil.Error, ProcessLookupError):  # gone meanwhile
                continue
        return found

    def machines(self) -> dict[str, psutil.Process]:
        """The workers' machines: id -> the process that is the machine."""
        found = {}
        for process in self.processes():
            try:
                name = process.environ().get("RAY_CLOUD_INSTANCE_ID", HEAD)
                if process.name() == "raylet" and name != HEAD:
                    found[name] = process
            except psutil.Error:
                continue
        return found

    def working(self, title: str) -> str:
        """The machine with a worker whose process title starts so; "" where there is none."""
        for name, machine in self.machines().items():
            try:
                titles = [" ".join(child.cmdline()) for child in machine.children(recursive=True)]
            except psutil.Error:
                continue
            if any(text.startswith(title) for text in titles):
                return name
        return ""

    def kill(self, name: str) -> None:
        """Take a machine away, with all that runs on it."""
        machine = self.machines()[name]
        for process in (machine, *machine.children(recursive=True)):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    def close(self) -> None:
        """End every process of the cluster."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._head.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)
