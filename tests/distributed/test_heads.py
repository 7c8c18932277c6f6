"""What a head that somebody has started says about the machines that may come to it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import ray
import yaml

from ray_selfloop.distributed import nodes
from ray_selfloop.errors import ResourceError

pytestmark = pytest.mark.slow
RAY, HOST = Path(sys.executable).parent / "ray", "127.0.0.1"
LIMIT = 60  # s, far above what a head takes to start
FILE = {
    "cluster_name": "made_up",
    "provider": {"type": "external", "module": "ray.autoscaler.node_provider.NodeProvider"},
    "max_workers": 2,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 1}, "node_config": {}},
        "gpu": {"resources": {"CPU": 2, "GPU": 1, "slot": 2}, "node_config": {}},
    },
    **{f"{part}setup_commands": [] for part in ("", "head_", "worker_")},
    **{f"{part}_start_ray_commands": [] for part in ("head", "worker")},
    **{key: [] for key in ("cluster_synced_files", "initialization_commands")},
    **{key: {} for key in ("auth", "docker", "file_mounts")},
}


def free_ports(n: int) -> list[int]:
    """Ports that nothing listens on."""
    probes = [socket.socket() for _ in range(n)]
    for probe in probes:
        probe.bind((HOST, 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def of_session(leader: int) -> list[psutil.Process]:
    """All processes of a head."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader:
                found.append(process)
        except (psutil.Error, ProcessLookupError):  # gone meanwhile
            continue
    return found


@contextmanager
def joined_head(folder: Path, *words: str) -> Iterator[list[psutil.Process]]:
    """A head with autoscaler v2 whose user's home is ``folder``, joined; its processes."""
    port, agent = free_ports(2)
    mine = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    head = subprocess.Popen(
        [
            *(RAY, "start", "--head", "--block", f"--port={port}", f"--node-ip-address={HOST}"),
            *("--num-cpus=1", "--num-gpus=0", "--include-dashboard=false", "--disable-usage-stats"),
            *(f"--dashboard-agent-listen-port={agent}", "--object-store-memory=100000000"),
            f"--temp-dir={folder / 'ray'}",
            *words,
        ],
        env={
            **mine,
            "HOME": str(folder),
            "RAY_AUTH_MODE": "disabled",
            "RAY_enable_autoscaler_v2": "1",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_for(port, head)
        ray.init(address=f"{HOST}:{port}", log_to_driver=False, logging_level="ERROR")
        yield of_session(head.pid)
    finally:
        ray.shutdown()
        for process in of_session(head.pid):
            process.kill()
        head.wait(LIMIT)


def wait_for(port: int, head: "subprocess.Popen[bytes]") -> None:
    """Until a head takes connections."""
    tick = threading.Event()
    for _ in range(10 * LIMIT):
        assert head.poll() is None, "the head did not start"
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        tick.wait(0.1)
    raise AssertionError(f"the head took no connection in {LIMIT} s")


def names(machines: nodes.Machines) -> list[tuple[str, int]]:
    return [(kind.name, kind.most) for kind in machines.types]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with the cluster file that some `ray up` has left there."""
    with tempfile.TemporaryDirectory(prefix="head", ignore_cleanup_errors=True) as short:
        monkeypatch.setenv("HOME", short)  # short: it holds socket paths
        Path(short, "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(FILE))
        yield Path(short)


def test_a_cluster_file_that_the_head_was_not_started_with_is_not_believed(home: Path) -> None:
    with joined_head(home):
        assert nodes.possible() == nodes.present()
        assert names(nodes.possible()) == [("node", 1)]


def test_the_file_that_the_head_was_started_with_says_what_may_come(home: Path) -> None:
    with joined_head(home, "--autoscaling-config=~/ray_bootstrap_config.yaml"):
        there = nodes.possible()
        assert names(there) == [("node", 1), ("gpu", 2)]
        assert (there.at_all, there.open) == (3, False)


def test_with_an_autoscaler_elsewhere_any_machine_may_come(home: Path) -> None:
    """As on Kubernetes, where it runs in a container of its own."""
    with joined_head(home, "--no-monitor") as processes:
        assert names(nodes.possible()) == [("node", 1)]
        assert nodes.possible().open
        (gcs,) = (process for process in processes if process.name() == "gcs_server")
        gcs.send_signal(signal.SIGSTOP)
        with pytest.raises(ResourceError, match=r"head does not answer for 1 s \(RPC error: "):
            nodes.scaled_elsewhere(patience=1)
        gcs.send_signal(signal.SIGCONT)
        assert nodes.scaled_elsewhere()
