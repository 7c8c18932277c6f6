"""Ray on this machine alone: who may talk to it, where its files lie, how many workers it has."""

import errno
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
import ray
import requests
from ray._raylet import AuthenticationTokenLoader
from ray.exceptions import AuthenticationError

from ray_selfloop.config.sweep import Resources
from ray_selfloop.distributed import local
from ray_selfloop.distributed.cluster import answering, connect
from ray_selfloop.distributed.limits import GB, Limits
from ray_selfloop.errors import ResourceError

LIMIT = 120  # s, far above what a local Ray takes to start
NICE, ASKED = 3, 2  # of the command, and above that of its workers
METRICS = 3  # Prometheus pages of Ray's monitor, dashboard and agent: read by anybody here
CALLS = (
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "/ray.rpc.InternalKVGcsService/InternalKVPut",
    "/ray.rpc.NodeManagerService/GetNodeStats",
    "/ray.rpc.ObjectManagerService/Pull",
    "/ray.rpc.CoreWorkerService/PushTask",
    "/ray.rpc.ReporterService/GetTraceback",
)
"""One call of each of Ray's services over gRPC, of which a port knows its own alone."""
JOBS = "/api/job_agent/jobs/"
COME_IN = """
from ray_selfloop.config.sweep import Resources
from ray_selfloop.distributed.cluster import connect, leave
from ray_selfloop.errors import ResourceError
try:
    print(connect(Resources()).slots)
    leave()
except ResourceError as error:
    print(error)
"""


@dataclass
class Started:
    """A local Ray that was started without a word about authentication."""

    process: subprocess.Popen[str]
    said: dict[str, Any]
    home: Path

    def listening(self) -> list[tuple[str, str, int]]:
        """Process, address and port of everything that it and its processes listen on."""
        whole = psutil.Process(self.process.pid)
        return [
            (process.name(), found.laddr.ip, found.laddr.port)
            for process in (whole, *whole.children(recursive=True))
            for found in process.net_connections(kind="tcp")
            if found.status == psutil.CONN_LISTEN
        ]


def plain() -> dict[str, str]:
    """This process's environment without a word about Ray."""
    return {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}


def _free_ports() -> dict[str, str]:
    """For the metrics pages whose ports are fixed: another Ray of this machine may hold those."""
    with socket.create_server(("", 0)) as one, socket.create_server(("", 0)) as other:
        ports = (found.getsockname()[1] for found in (one, other))
        names = "AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT"
        return {name: str(port) for name, port in zip(names, ports, strict=True)}


@pytest.fixture(scope="module")
def started() -> Iterator[Started]:
    with tempfile.TemporaryDirectory(prefix="loc", ignore_cleanup_errors=True) as short:
        home = Path(short, "home")  # which there is not
        process = subprocess.Popen(
            ["nice", f"-n{NICE}", sys.executable, str(Path(__file__).parent / "local_ray.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**plain(), **_free_ports(), "HOME": str(home), "RAY_TMPDIR": short},
        )
        assert process.stdin
        assert process.stdout
        try:
            yield Started(process, json.loads(process.stdout.readline()), home)
        finally:
            process.stdin.close()
            process.wait(LIMIT)


def test_all_that_listens_is_on_this_machines_own_address(started: Started) -> None:
    found = started.listening()
    assert {"gcs_server", "raylet"} <= {name for name, _, _ in found}
    assert {address for _, address, _ in found} == {"127.0.0.1", "::ffff:127.0.0.1"}
    assert started.said["head"].startswith("127.0.0.1:")
    assert started.said["address"] == "127.0.0.1"  # as workers know their machine


def test_no_port_answers_who_has_no_token(started: Started) -> None:
    until, others = time.monotonic() + LIMIT, []
    while len(others) < METRICS and time.monotonic() < until:  # some of its processes come late
        answers = {port: _answers(port) for _, _, port in started.listening()}
        refused = [said for said in answers.values() if said & {"UNAUTHENTICATED", "401"}]
        others = [said for said in answers.values() if said not in refused]
    assert all(said <= {"UNAUTHENTICATED", "401", "UNIMPLEMENTED"} for said in refused)
    assert others == [{"405"}] * METRICS  # they take no orders


def _answers(port: int) -> set[str]:
    """What a port says to calls without a token, over gRPC or, where it does not speak it, HTTP."""
    said = set()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for name in CALLS:
            try:
                channel.unary_unary(name)(b"", timeout=LIMIT)
                said.add("OK")
            except grpc.RpcError as error:
                said.add(error.code().name)
    if said != {"UNAVAILABLE"}:
        return said
    job = {"entrypoint": "true"}
    answer = requests.post(f"http://127.0.0.1:{port}{JOBS}", json=job, timeout=LIMIT)
    return {str(answer.status_code)}


@pytest.mark.slow
def test_another_sweep_comes_in_with_the_token_alone(started: Started) -> None:
    """On a machine of several addresses it must be told which."""
    asks = "asks for the cluster's token: "
    known = {
        f"{asks}RAY_AUTH_MODE is not set, so none was sent;": {},
        f"{asks}it does not know the one in RAY_AUTH_T": {
            local.MODE: "token",
            local.TOKEN: "0" * 64,
        },
        "1\n": {local.MODE: "token", local.TOKEN: started.said["token"]},
    }
    there = {"RAY_ADDRESS": started.said["head"], "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    asked = {
        said: subprocess.Popen(
            [sys.executable, "-c", COME_IN],
            stdout=subprocess.PIPE,
            text=True,
            env={**plain(), **own, **there},
        )
        for said, own in known.items()
    }
    for said, process in asked.items():
        output, _ = process.communicate(timeout=LIMIT)
        assert output.removeprefix(f"{started.said['head']} ").startswith(said)
        assert output.count("\n") == 1


def test_the_token_lies_in_no_file_and_on_no_command_line(started: Started) -> None:
    token = started.said["token"].encode()
    assert len(token) == 64
    assert not started.home.exists()
    files = [path for path in Path(started.said["session"]).rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if token in path.read_bytes()]
    whole = psutil.Process(started.process.pid)
    commands = [" ".join(p.cmdline()) for p in (whole, *whole.children(recursive=True))]
    assert not [command for command in commands if started.said["token"] in command]


def test_workers_run_as_much_above_the_commands_nice_level_as_was_asked(started: Started) -> None:
    assert started.said["nice"] == NICE + ASKED
    assert psutil.Process(started.process.pid).nice() == NICE
    assert psutil.Process(started.said["pid"]).nice() == NICE + ASKED


# --- the token, by itself ---


@pytest.fixture
def unsaid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """Neither a mode of authentication nor a token is set, and the user has none."""
    for name in (local.MODE, local.TOKEN, local.TOKEN_PATH):
        monkeypatch.setenv(name, "")  # so that whatever is set is put back
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    AuthenticationTokenLoader.instance().reset_cache()
    yield monkeypatch
    AuthenticationTokenLoader.instance().reset_cache()


@pytest.mark.parametrize("mode", [None, "", "token", "TOKEN"])
def test_two_sweeps_have_two_tokens(unsaid: pytest.MonkeyPatch, mode: str | None) -> None:
    tokens = set()
    for _ in range(2):
        if mode is not None:
            unsaid.setenv(local.MODE, mode)
        local.authenticate()
        tokens.add(os.environ.pop(local.TOKEN))
        AuthenticationTokenLoader.instance().reset_cache()
    assert {len(token) for token in tokens} == {64}
    assert len(tokens) == 2


def test_a_mode_that_is_set_wins(unsaid: pytest.MonkeyPatch) -> None:
    unsaid.setenv(local.MODE, "disabled")
    local.authenticate()
    assert os.environ[local.MODE] == "disabled"
    assert local.TOKEN not in os.environ


def test_a_token_that_the_user_has_serves(unsaid: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("a" * 64)
    local.authenticate()
    assert local.TOKEN not in os.environ
    unsaid.setenv(local.TOKEN, "b" * 64)
    local.authenticate()
    assert os.environ[local.TOKEN] == "b" * 64


def test_a_misspelt_mode_is_not_taken_for_disabled(unsaid: pytest.MonkeyPatch) -> None:
    unsaid.setenv(local.MODE, "tokn")
    with pytest.raises(ResourceError, match="RAY_AUTH_MODE=tokn: must be token or disabled"):
        local.authenticate()


def test_a_token_that_cannot_be_read_is_named(unsaid: pytest.MonkeyPatch) -> None:
    unsaid.setenv(local.TOKEN_PATH, "/none")
    with pytest.raises(ResourceError, match="RAY_AUTH_TOKEN_PATH=/none: there is no token to be"):
        local.authenticate()


# --- Ray's temporary folder ---


def silent(sentence: str) -> None:
    raise AssertionError(sentence)


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_rays_folder_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv(name, short)
        assert local.folder(silent) == Path(short, "ray")
        assert not list(Path(short, "ray").iterdir())


def test_where_a_sockets_name_would_be_too_long_another_folder_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        for length in (39, 40):  # bytes, at Ray's longest
            folder = Path(short, "x" * (length - len(short) - 1))
            folder.mkdir()
            monkeypatch.setenv("TMPDIR", str(folder))
            if length == 39:
                assert local.folder(silent) == folder / "ray"
            else:
                _another_serves(folder)
    with socket.socket(socket.AF_UNIX) as probe, pytest.raises(OSError, match="path too long"):
        probe.connect(f"/tmp/{'x' * 35}/{local.SESSION}")


@pytest.mark.parametrize("name", ["o'brien", 'a"b', 'a"$b', "\u00e9", "a\\b"])
def test_where_ray_cannot_write_a_folders_name_another_folder_serves(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        folder = Path(short, name)
        folder.mkdir()
        monkeypatch.setenv("TMPDIR", str(folder))
        _another_serves(folder)
        assert not list(folder.iterdir())


def _another_serves(folder: Path) -> None:
    said: list[str] = []
    assert local.folder(said.append) == Path("/tmp/ray")
    assert said == [
        f"TMPDIR={folder}: Ray's folder must have a short name in ASCII without quotes or "
        "backslashes: /tmp is used"
    ]


def test_other_characters_are_no_hindrance(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        folder = Path(short, "a #;%&$b")
        folder.mkdir()
        monkeypatch.setenv("RAY_TMPDIR", str(folder))
        assert local.folder(silent) == folder / "ray"


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_folder_that_is_not_there_is_not_made(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        missing = Path(short, "no", "such")
        monkeypatch.setenv(name, str(missing))
        with pytest.raises(ResourceError) as refused:
            local.folder(silent)
        assert not list(Path(short).iterdir())
    assert str(refused.value) == (
        f"{name}={missing}: there is no such folder; make it, or name another in RAY_TMPDIR (or "
        "TMPDIR)"
    )


@pytest.mark.parametrize("folder", ["file", "occupied", "/proc"])
def test_a_folder_that_cannot_be_used_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        Path(short, "file").write_text("")
        Path(short, "occupied").mkdir()
        Path(short, "occupied", "ray").write_text("")
        chosen = Path(short, folder)
        monkeypatch.setenv("RAY_TMPDIR", str(chosen))
        with pytest.raises(ResourceError) as refused:
            local.folder(silent)
    said = str(refused.value)
    assert said.startswith(f"Ray's temporary folder {chosen}/ray cannot be used: ")
    assert said.endswith("; name another folder in RAY_TMPDIR (or TMPDIR)")
    assert "\n" not in said


def test_a_full_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stops a file from growing here is a limit of this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setenv("RAY_TMPDIR", short)
        resource.setrlimit(resource.RLIMIT_FSIZE, (local.ENOUGH // 2, before[1]))
        try:
            with pytest.raises(ResourceError, match=f"{short}/ray cannot be used: File too large"):
                local.folder(silent)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- how many ---


@pytest.mark.parametrize(
    ("asked", "cores", "memory", "slots", "said"),
    [
        (None, 8, 64, 8, None),
        (None, 0.5, 2, 1, None),
        (
            None, 8, 4, 2,
            "2 of 8 CPU cores used: 8 CPU cores and 4.0 GB of memory (more: resources.num_cpus)",
        ),
        (4, 8, 64, 4, None),
        (1, 8, 4, 1, None),
        (
            64, 2.5, 64, 2,
            "resources.num_cpus: 64 asked for, 2 used: 2.5 CPU cores and 64.0 GB of memory",
        ),
        (
            6, 8, 4, 6,
            "resources.num_cpus: 6 asked for, there may be memory for 2: 8 CPU cores and 4.0 GB of "
            "memory",
        ),
    ],
)  # fmt: skip
def test_no_more_workers_than_there_is_room_for(
    asked: int | None, cores: float, memory: float, slots: int, said: str | None
) -> None:
    heard: list[str] = []
    assert local.slots(asked, Limits(cores, memory * GB), heard.append) == slots
    assert heard == ([said] if said else [])


# --- RAY_ADDRESS, and what Ray says ---


def test_an_address_of_ipv6_is_asked_without_its_brackets() -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
            address = f"[::1]:{server.getsockname()[1]}"
            assert answering(address) == address
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with pytest.raises(ResourceError, match=r"RAY_ADDRESS=\[::1\]:\d+: nothing answers there \("):
        answering(address)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8265",
        "ray://head:10001",
        "head",
        "head:port",
        "::1:6379",
        ":6379",
        "a b:1",
    ],
)
def test_what_is_no_address_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ResourceError) as refused:
        connect(Resources(), silent)
    assert str(refused.value) == (
        f"RAY_ADDRESS={address}: must be HOST:PORT of a Ray head ([HOST]:PORT for IPv6), auto or "
        "local; a dashboard's address is for `submit`, in RAY_API_SERVER_ADDRESS"
    )


@pytest.mark.parametrize("port", [99999, 0])
def test_a_port_that_cannot_be_is_refused(port: int) -> None:
    with pytest.raises(ResourceError, match="nothing answers there"):
        answering(f"127.0.0.1:{port}")


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception, cause: Exception | None) -> None:
    """A Ray that cannot be joined."""

    def init(**_: object) -> None:
        raise error from cause

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_ADDRESS", "auto")


def test_rays_own_words_are_told_whole_and_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ValueError("To fix this, either:\n  1. do this, or\n  2. that."), None)
    with pytest.raises(ResourceError) as refused:
        connect(Resources(), silent)
    assert str(refused.value) == (
        "Ray at auto cannot be used: To fix this, either: 1. do this, or 2. that."
    )


def test_the_reason_behind_rays_own_words_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ConnectionError("failed"), RuntimeError("no route"))
    with pytest.raises(ResourceError, match="Ray at auto cannot be used: no route"):
        connect(Resources(), silent)


def test_an_error_of_the_system_is_one_line_where_a_person_must_mend_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(monkeypatch, OSError(errno.ENOSPC, "No space left on device"), None)
    with pytest.raises(ResourceError, match="No space left on device"):
        connect(Resources(), silent)
    failing(monkeypatch, OSError(errno.EAGAIN, "too many processes for now"), None)
    with pytest.raises(OSError, match="too many processes for now"):
        connect(Resources(), silent)


def test_a_cluster_that_asks_for_a_token_says_where_it_belongs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    for cause in (AuthenticationError("no token"), RuntimeError("RPC error: InvalidAuthToken: x")):
        failing(monkeypatch, ConnectionError("failed"), cause)
        with pytest.raises(ResourceError, match="auto asks for the cluster's token: RAY_AUTH_MODE"):
            connect(Resources(), silent)


def test_a_second_start_of_ray_in_one_process_has_its_own_settings_but_the_users_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SELFLOOP_A", "SELFLOOP_B"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SELFLOOP_B", "user's")
    for value in ("1", "2"):
        local.tell("SELFLOOP_A", value)
        local.tell("SELFLOOP_B", value)
    assert (os.environ["SELFLOOP_A"], os.environ["SELFLOOP_B"]) == ("2", "user's")
    local.forget()
    assert ("SELFLOOP_A" in os.environ, os.environ["SELFLOOP_B"]) == (False, "user's")
