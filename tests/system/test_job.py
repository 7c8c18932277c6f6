"""A sweep as a submitted job, on a cluster with token authentication."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from conftest import MICRO

from sweeps import LIMIT, results, run

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _environment(home: Path, mode: str) -> dict[str, str]:
    mine = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**mine, "HOME": str(home), "RAY_AUTH_MODE": mode, "PATH": path}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A head node started as the README says; its dashboard's address and its user's home."""
    home = tmp_path_factory.mktemp("home")
    short = Path(tempfile.gettempdir()) / f"slh-{os.getpid()}"  # socket paths must stay short
    environment = _environment(home, "token")
    subprocess.run([BIN / "ray", "get-auth-token", "--generate"], env=environment, check=True)
    gcs, dashboard = 26000 + os.getpid() % 3000, _free_port()
    command = [
        *(BIN / "ray", "start", "--head", "--block", f"--port={gcs}"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
        *("--num-cpus=2", '--resources={"slot": 2}', f"--temp-dir={short}"),
        "--disable-usage-stats",
    ]
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    tick = threading.Event()
    for _ in range(120):
        if _answers(dashboard) or process.poll() is not None:
            break
        tick.wait(0.5)
    assert process.poll() is None, "the head did not start"
    yield f"http://127.0.0.1:{dashboard}", home
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        shutil.rmtree(short, ignore_errors=True)


def submit(head: tuple[str, Path], words: list[str], mode: str) -> tuple[int, str]:
    """``ray job submit ... -- python -m ray_selfloop.sweep WORDS``: exit code and output."""
    address, home = head
    done = subprocess.run(
        [
            *(BIN / "ray", "job", "submit", "--address", address, "--working-dir", "."),
            *("--", "python", "-m", "ray_selfloop.sweep", *words),
        ],
        cwd=REPOSITORY,
        env=_environment(home, mode),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_job_gives_the_table_of_a_laptop(head: tuple[str, Path], tmp_path: Path) -> None:
    here = [*MICRO, "loop.generations=1", f"storage={tmp_path / 'laptop'}"]
    there = [*MICRO, "loop.generations=1", f"storage={tmp_path / 'cluster'}"]
    code, output = run(here)
    assert code == 0, output
    code, output = submit(head, there, "token")
    assert code == 0, output
    pd.testing.assert_frame_equal(results(there), results(here))


def test_a_job_with_relative_storage_is_refused(head: tuple[str, Path]) -> None:
    code, output = submit(head, [*MICRO, "storage=results"], "token")
    assert code != 0
    assert "error: storage: results is relative" in output
    assert "exit code 2" in output


def test_a_job_without_the_token_is_refused(head: tuple[str, Path], tmp_path: Path) -> None:
    code, output = submit(head, [*MICRO, f"storage={tmp_path / 'never'}"], "disabled")
    assert code != 0
    assert "401" in output or "Unauthorized" in output or "authentication" in output.lower()
    assert not (tmp_path / "never").exists()
