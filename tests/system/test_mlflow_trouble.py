"""An MLflow server that is down, slow, refusing or killed: no sweep notices, and `sync-mlflow`
afterwards leaves exactly what an undisturbed run leaves.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow_trouble import Call, Proxy, Rule, always, dump, free_port

from ray_selfloop import __main__
from ray_selfloop.planning import prepare
from ray_selfloop.tracking import sync
from sweeps import LIMIT, copied, records, results, run

pytestmark = pytest.mark.slow
BUDGET = sync.SYNC_SECONDS + sync.SYNC_SECONDS_EACH * 9  # three runs, six files
NOISE = 10.0  # s between two runs of the same command on a busy machine
TABLES = ("experiments", "runs", "metrics", "latest_metrics", "params", "tags")


class Server:
    """`mlflow server` on one port and one database, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.start()

    def start(self) -> None:
        store = f"sqlite:///{self.folder / 'mlflow.db'}"
        self.process = subprocess.Popen(
            [
                *(Path(sys.executable).parent / "mlflow", "server", "--host", "127.0.0.1"),
                *("--port", str(self.port), "--workers", "1", "--backend-store-uri", store),
                *("--artifacts-destination", self.folder / "files"),
            ],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        tick = threading.Event()
        while not self._answers():
            assert self.process.poll() is None, "the server did not start"
            tick.wait(0.2)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as page:
                return bool(page.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LIMIT)

    def content(self) -> dict[str, Any]:
        """Every row of its database and every file of its artifacts, with its time."""
        with sqlite3.connect(self.folder / "mlflow.db") as database:
            rows = {t: sorted(database.execute(f"select * from {t}"), key=repr) for t in TABLES}
        files = {str(p): p.stat().st_mtime_ns for p in (self.folder / "files").rglob("*")}
        return {**rows, "files": files}


@dataclass(frozen=True)
class Ended:
    code: int
    output: str
    seconds: float


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    yield made
    made.kill()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    made = Proxy(server.port)
    yield made
    made.done.set()


@dataclass(frozen=True)
class Well:
    """A sweep with the server well: its words, what MLflow holds of it, and how long it took.

    usual: s of three runs at once that compute nothing.
    """

    words: list[str]
    held: dict[str, Any]
    usual: float


@pytest.fixture(scope="module")
def well(undisturbed: list[str], server: Server, tmp_path_factory: pytest.TempPathFactory) -> Well:
    folder, uri = tmp_path_factory.mktemp("well"), f"http://127.0.0.1:{server.port}"
    names = [f"micro-well{i}" for i in range(3)]
    commands = [renamed(undisturbed, folder, name, f"tracking.uri={uri}") for name in names]
    ended = together(commands)
    assert all(one.code == 0 for one in ended), ended
    return Well(commands[0], held(uri, names[0]), max(one.seconds for one in ended))


def timed(words: list[str]) -> Ended:
    start = time.monotonic()
    code, output = run(words)
    return Ended(code, " ".join(output.split()), time.monotonic() - start)


def together(commands: list[list[str]]) -> list[Ended]:
    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(timed, commands))


def renamed(words: list[str], to: Path, name: str, address: str) -> list[str]:
    """The sweep under another name on a copy of its storage: nothing is left to compute."""
    return [*copied(words, to / name), f"name={name}", address]


def held(uri: str, name: str) -> dict[str, Any]:
    """What MLflow holds of a sweep, without its name and those of its files that tell its own:
    the report (which tells seconds too) and the settings."""
    found = dump(uri, name)
    of_sweep = found[f"{name}/sweep"]
    own = ("report.html", "config.yaml")
    for name_of in own:
        del of_sweep["tags"][f"selfloop.artifact./{name_of}"]
    of_sweep["artifacts"] = [file for file in of_sweep["artifacts"] if file[0] not in own]
    return dict(json.loads(json.dumps(found).replace(name, "NAME")))


def synced(words: list[str]) -> None:
    assert __main__.main(["sync-mlflow", *words]) == 0


def each_third(behaviour: str) -> Rule:
    return lambda call: behaviour if call.number % 3 == 0 else "pass"


NEVER_IN_TIME = {"hang": always("hang"), "drip": always("drip"), "slow": always("slow")}
FAILING = {"403": always("403"), "500": always("500"), "lose": each_third("lose")}


@pytest.mark.parametrize("rules", [NEVER_IN_TIME, FAILING], ids=["never-in-time", "failing"])
def test_trouble_costs_its_budget_and_no_result_and_sync_mlflow_mends_it(
    server: Server, well: Well, tmp_path: Path, rules: dict[str, Rule]
) -> None:
    proxies = {name: Proxy(server.port) for name in rules}
    commands = {}
    for name, proxy in proxies.items():
        proxy.behave(rules[name])
        commands[name] = renamed(well.words, tmp_path, f"micro-{name}", f"tracking.uri={proxy.uri}")
    for name, ended in zip(rules, together(list(commands.values())), strict=True):
        print(f"{name}: {ended.seconds:.1f} s, with the server well {well.usual:.1f} s")
        assert ended.code == 0, ended.output
        assert ended.seconds < well.usual + BUDGET + NOISE
        pd.testing.assert_frame_equal(results(commands[name]), results(well.words))
        if name != "lose":  # there every repeated call succeeds
            assert f"MLflow at {proxies[name].uri} lacks" in ended.output
            assert "python -m ray_selfloop sync-mlflow" in ended.output
    for name, proxy in proxies.items():
        proxy.done.set()
        proxy.behave(always("pass"))
        synced(commands[name])
        assert held(proxy.uri, f"micro-{name}") == well.held
    before = server.content()
    for command in commands.values():
        synced(command)
    assert server.content() == before


def test_training_beside_a_dead_server_takes_its_usual_time_and_tells_nobody_the_password(
    undisturbed: list[str], well: Well, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.close()
    name = "micro-dead"
    uri = f"tracking.uri={proxy.uri.replace('//', '//me:secret@')}"
    words = [*undisturbed, f"name={name}", f"storage={tmp_path}", uri]
    dead = timed(words)
    assert dead.code == 0, dead.output
    assert "ConnectionRefusedError" in dead.output
    assert "secret" not in dead.output
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"report.html", "results.parquet", "record.json"} <= {path.name for path in files}
    assert not [path for path in files if b"secret" in path.read_bytes()]
    pd.testing.assert_frame_equal(results(words), results(undisturbed))
    mine, theirs = records(words), records(undisturbed)
    assert {key: r.files for key, r in mine.items()} == {key: r.files for key, r in theirs.items()}
    storage = prepare(undisturbed, writes=False).store.root
    usual = json.loads(storage.with_name("seconds.json").read_text())
    for what, seconds, found in (("well", usual, theirs), ("dead", dead.seconds, mine)):
        stages = sum(record.seconds for record in found.values())
        print(f"server {what}: {seconds:.1f} s, {stages:.1f} s of it in stages")
    assert dead.seconds < 1.5 * usual + sync.PREPARE_SECONDS + BUDGET
    proxy.open()
    synced(words)
    assert without_times(held(proxy.uri, name)) == without_times(well.held)


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    """A sweep that was computed again was published at other times."""
    return {
        key: {
            **run,
            "info": run["info"][:2],
            "points": [[name, step, value] for name, step, value, _ in run["points"]],
        }
        for key, run in found.items()
    }


def test_a_server_killed_in_a_batch_and_started_again_is_completed(
    server: Server, well: Well, proxy: Proxy, tmp_path: Path
) -> None:
    name = "micro-killed"
    command = renamed(well.words, tmp_path, name, f"tracking.uri={proxy.uri}")

    def rule(call: Call) -> str:
        if "log-batch" in call.path and server.process.poll() is None:
            threading.Thread(target=server.kill).start()
        return "pass"

    proxy.behave(rule)
    ended = timed(command)
    assert ended.code == 0, ended.output
    assert "python -m ray_selfloop sync-mlflow" in ended.output
    pd.testing.assert_frame_equal(results(command), results(well.words))
    server.start()
    proxy.behave(always("pass"))
    subprocess.run(
        [sys.executable, "-m", "ray_selfloop", "sync-mlflow", *command], check=True, timeout=LIMIT
    )
    assert held(proxy.uri, name) == well.held
    before = server.content()
    synced(command)
    assert server.content() == before
