"""A sweep as a submitted job, on a cluster with token authentication."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest
from conftest import MICRO

from sweeps import LIMIT, records, results

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
WORDS = (*MICRO, "loop.generations=1")


@dataclass(frozen=True)
class Head:
    """A head node: its dashboard's address, its user's home (with the token), its process."""

    address: str
    home: Path
    process: psutil.Process

    def driver(self) -> psutil.Process:
        """The process of the sweep that runs as a job."""
        (found,) = (
            process
            for process in self.process.children(recursive=True)
            if "ray_selfloop.sweep" in process.cmdline()
        )
        return found


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for a condition, as long as ``process`` runs; shows what it said where it fails."""
    tick = threading.Event()
    for _ in range(600):
        if true():
            return
        if process.poll() is not None:
            break
        tick.wait(0.5)
    process.kill()
    raise AssertionError(process.communicate()[0])


def _environment(home: Path, **variables: str) -> dict[str, str]:
    mine = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**mine, "HOME": str(home), "PATH": path, **variables}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A head node started as docs/cluster.md says."""
    home = tmp_path_factory.mktemp("home")
    short = Path(tempfile.gettempdir()) / f"slh-{os.getpid()}"  # socket paths must stay short
    environment = _environment(home, RAY_AUTH_MODE="token")
    subprocess.run([BIN / "ray", "get-auth-token", "--generate"], env=environment, check=True)
    gcs, dashboard = 26000 + os.getpid() % 3000, _free_port()
    command = [
        *(BIN / "ray", "start", "--head", "--block", f"--port={gcs}"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
        f"--dashboard-agent-listen-port={_free_port()}",  # of jobs too: else one head a machine
        *("--num-cpus=2", '--resources={"slot": 2}', f"--temp-dir={short}"),
        "--disable-usage-stats",
    ]
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    _until(lambda: _answers(dashboard), process)
    found = psutil.Process(process.pid)
    yield Head(f"http://127.0.0.1:{dashboard}", home, found)
    everything = [found, *found.children(recursive=True)]
    for one in everything:  # a head that is asked to end takes half a minute
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    _, alive = psutil.wait_procs(everything, timeout=30)
    shutil.rmtree(short, ignore_errors=True)
    assert not alive


def submitting(
    head: Head, command: list[str], words: list[str], **variables: str
) -> subprocess.Popen[str]:
    """Start a command of this environment that submits the sweep of ``words``."""
    variables = {"RAY_API_SERVER_ADDRESS": head.address, "RAY_AUTH_MODE": "token", **variables}
    return subprocess.Popen(
        [*command, *words],
        cwd=REPOSITORY,
        env=_environment(head.home, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and all output."""
    output, _ = process.communicate(timeout=LIMIT)
    return process.returncode, output


RAYS_OWN = [
    *(str(BIN / "ray"), "job", "submit", "--working-dir", "."),
    *("--", "python", "-m", "ray_selfloop.sweep"),
]
OURS = [sys.executable, "-m", "ray_selfloop", "submit"]


def test_a_job_gives_the_table_of_a_laptop(
    head: Head, undisturbed: list[str], tmp_path: Path
) -> None:
    words = [*WORDS, f"storage={tmp_path / 'cluster'}"]
    code, output = ended(submitting(head, RAYS_OWN, words))
    assert code == 0, output
    pd.testing.assert_frame_equal(results(words), results(undisturbed))


def test_a_job_whose_driver_is_killed_goes_on_and_gives_that_table(
    head: Head, undisturbed: list[str], tmp_path: Path
) -> None:
    words = [*WORDS, f"storage={tmp_path / 'cluster'}"]
    first = submitting(head, OURS, words)
    _until(lambda: len(records(words)) > 3, first)
    before = records(words)
    code, output = ended(submitting(head, OURS, words))
    assert (code, output.count("\n")) == (2, 1), output
    assert output.startswith("error: sweep micro runs already, as job micro-")
    head.driver().kill()
    code, output = ended(first)
    assert code == 0, output
    assert "-1 died: FAILED, killed by signal 9\nsubmitting it again in 5 s (1 of 3)\n" in output
    assert output.endswith("-2: SUCCEEDED, exit code 0\n")
    pd.testing.assert_frame_equal(results(words), results(undisturbed))
    after = records(words)
    assert {key: after[key].attempt for key in before} == {k: r.attempt for k, r in before.items()}


def test_a_job_with_relative_storage_is_refused(head: Head) -> None:
    code, output = ended(submitting(head, RAYS_OWN, [*WORDS, "storage=results"]))
    assert code != 0
    assert "error: storage: results is relative" in output
    assert "exit code 2" in output


def test_a_job_that_a_cluster_cannot_run_is_submitted_once(head: Head) -> None:
    code, output = ended(submitting(head, OURS, [*WORDS, "storage=/proc/selfloop"]))
    assert code == 2, output
    assert "error: storage: /proc/selfloop cannot be written: No such file or directory" in output
    assert "-1: FAILED, exit code 2\n" in output
    assert "again" not in output


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}, "it does not know the one in "),
        ({"RAY_AUTH_MODE": "disabled"}, "RAY_AUTH_MODE is disabled, so none was sent; export "),
    ],
)
def test_a_wrong_token_and_none_are_said_in_one_line(
    head: Head, tmp_path: Path, variables: dict[str, str], said: str
) -> None:
    words = [*WORDS, f"storage={tmp_path / 'never'}"]
    code, output = ended(submitting(head, OURS, words, **variables))
    assert code == 2, output
    assert output.startswith(f"error: {head.address} asks for the cluster's token: {said}")
    assert output.count("\n") == 1
    assert not (tmp_path / "never").exists()


def test_rays_own_command_without_the_token_is_refused(head: Head, tmp_path: Path) -> None:
    words = [*WORDS, f"storage={tmp_path / 'never'}"]
    code, output = ended(submitting(head, RAYS_OWN, words, RAY_AUTH_MODE="disabled"))
    assert code != 0
    assert "401" in output or "Unauthorized" in output or "authentication" in output.lower()
    assert not (tmp_path / "never").exists()
