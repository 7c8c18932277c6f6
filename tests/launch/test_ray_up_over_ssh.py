"""`ray up` over ssh onto this machine, with the shipped start commands.

The machine stands in for the head, ssh's settings for what its container would set. Not run: the
commands that begin with `ray stop`, which would end every Ray on the machine; Docker; workers.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from filled import changed

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
NEEDED = ("ssh", "sshd", "ssh-keygen", "rsync")
LIMIT = 120  # s, far above what any wait here takes
NAME = "selfloop-over-ssh"


@dataclass(frozen=True)
class Head:
    """A head that `ray up` has set up: its user's home, the ports of dashboard and MLflow."""

    home: Path
    laptop: Path
    dashboard: int
    mlflow: int

    def status(self, port: int, path: str, token: str | None = None) -> int:
        """The HTTP status of an address on the head."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(what: str, seen: Any) -> None:
    """Until ``seen()`` is true."""
    end = time.monotonic() + LIMIT
    while not seen():
        assert time.monotonic() < end, f"waited {LIMIT} s for {what}"
        time.sleep(0.1)


def listening(port: int) -> set[str]:
    """The addresses on which something listens."""
    found = psutil.net_connections("tcp")
    return {one.laddr.ip for one in found if one.status == "LISTEN" and one.laddr.port == port}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A head, set up by `ray up` through an ssh server of its own."""
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid() or listening(22):
        pytest.skip("port 22, the only one that `ray up` uses, is not to be had")
    home, laptop = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("laptop")
    found = Head(home, laptop, free_port(), free_port())
    server = _ssh_server(found)
    try:
        wait_for("the ssh server", lambda: listening(22))
        _ray_up(found)
        yield found
    finally:
        _end_all_of(home)
        server.kill()
        server.wait()
        shutil.rmtree(_short(home), ignore_errors=True)


def _ssh_server(head: Head) -> subprocess.Popen[bytes]:
    """sshd on loopback; its sessions get the head's home and its container's variables."""
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", head.laptop / name]
        subprocess.run(command, check=True)
    docker = changed()["docker"]
    options = [*docker["run_options"], *docker["head_run_options"]]
    variables = [option[6:] for option in options if option.startswith("--env=")]
    (head.home / ".bashrc").write_text(f"export PATH={BIN}:$PATH\n")  # as Ray's image has it
    (head.home / "mlflow").mkdir()
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd's own wish
    settings = {
        "ListenAddress": "127.0.0.1",
        "HostKey": head.laptop / "host",
        "AuthorizedKeysFile": head.laptop / "user.pub",
        "StrictModes": "no",
        "PidFile": "none",
        "SetEnv": " ".join([f"HOME={head.home}", *variables]),
    }
    given = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    return subprocess.Popen([shutil.which("sshd") or "", "-D", "-f", "/dev/null", *given])


def _short(home: Path) -> Path:
    """A folder for Ray: paths of its sockets must stay short."""
    return Path("/tmp") / f"slu-{home.stat().st_ino}"


def _ray_up(head: Head) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {"HOME": str(head.laptop), "RAY_USAGE_STATS_ENABLED": "0"}
    subprocess.run([BIN / "ray", "get-auth-token", "--generate"], env=environment, check=True)
    (head.laptop / ".ray" / "auth_token").chmod(0o600)
    file = head.laptop / "cluster.yaml"
    file.write_text(yaml.safe_dump(_on_this_machine(head)))
    command = [BIN / "ray", "up", "-y", "--no-config-cache", file]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300
    )
    assert done.returncode == 0, done.stdout.decode()[-3000:]


def _on_this_machine(head: Head) -> dict[str, Any]:
    """The filled file with another provider, this test's ports, and nothing that stops Ray."""
    shipped = changed()
    assert shipped["head_start_ray_commands"][0] == "ray stop"
    free = {
        "--port=6379": f"--port={free_port()} --dashboard-port={head.dashboard} --num-cpus=1 "
        f"--ray-client-server-port={free_port()} --temp-dir={_short(head.home)}",
        "--port 5000": f"--port {head.mlflow}",
    }
    commands = shipped["head_start_ray_commands"][1:]
    for found, put in free.items():
        assert any(found in command for command in commands)
        commands = [command.replace(found, put) for command in commands]
    [(there, here)] = shipped["file_mounts"].items()
    kept = ("max_workers", "idle_timeout_minutes", "upscaling_speed", "setup_commands")
    return {
        **{key: shipped[key] for key in (*kept, "head_setup_commands", "initialization_commands")},
        "cluster_name": NAME,
        "provider": {"type": "local", "head_ip": "127.0.0.1", "worker_ips": []},
        "auth": {"ssh_user": "root", "ssh_private_key": str(head.laptop / "user")},
        "file_mounts": {there.replace("/home/ray", str(head.home)): here},
        "head_start_ray_commands": commands,
        "worker_start_ray_commands": shipped["worker_start_ray_commands"][1:],
    }


def _end_all_of(home: Path) -> None:
    """Kill every process whose home is the head's: what the ssh sessions have started."""
    mine = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HOME") == str(home):
                mine.append(process)
                process.kill()
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    psutil.wait_procs(mine, timeout=LIMIT)


def test_ray_up_starts_a_head_that_asks_for_the_token_it_was_given(head: Head) -> None:
    made, arrived = (folder / ".ray" / "auth_token" for folder in (head.laptop, head.home))
    token = made.read_text()
    assert arrived.read_text() == token
    assert arrived.stat().st_mode & 0o777 == 0o600
    assert head.status(head.dashboard, "/api/jobs/") == 401
    assert head.status(head.dashboard, "/api/jobs/", token="0" * 64) == 403
    assert head.status(head.dashboard, "/api/jobs/", token=token) == 200
    assert token not in (head.home / "ray_bootstrap_config.yaml").read_text()


def test_dashboard_and_mlflow_outlive_the_session_and_answer_on_loopback_alone(head: Head) -> None:
    wait_for("MLflow", lambda: listening(head.mlflow))
    assert head.status(head.mlflow, "/health") == 200
    for port in (head.dashboard, head.mlflow):
        assert listening(port) == {"127.0.0.1"}
    assert (head.home / "mlflow" / "mlflow.db").is_file()
