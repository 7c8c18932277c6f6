"""MLflow beside a storage folder of any name: copied, moved, renamed, it stays with its own files;
and names of any length or kind are told apart in it.
"""

import contextlib
import hashlib
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from mlflow_trouble import free_port
from rich.console import Console
from test_sync import COLUMNS, everything, sweep

from ray_selfloop.graph import Place
from ray_selfloop.report import terminal
from ray_selfloop.tracking import layout, places, sync
from ray_selfloop.tracking.layout import Artifact, TrackedSweep

ODD = "a b?%20#;é"
NAMES = (ODD, "a%20b", "a?b", "100%", "%3F", "a:b@c", "[a]")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, made once: its migrations take a second."""
    folder = tmp_path_factory.mktemp("mlflow")
    assert sync.prepare(places.default_uri(folder)) == []
    return folder / "mlflow.db"


@pytest.fixture
def storage(empty: Path, tmp_path: Path) -> Path:
    """A storage folder with MLflow's database in it."""
    folder = tmp_path / "places" / "first"
    folder.mkdir(parents=True)
    shutil.copy(empty, folder)
    return folder


def write(storage: Path, page: str, **more: object) -> None:
    """A sweep of a few runs with a report in MLflow, without a warning."""
    report = storage.parent.parent / "report.html"
    report.write_text(page)
    artifacts = {"": [Artifact(report)], "biased": [Artifact(report, "figures")]}
    runs = layout.plan(sweep(artifacts=artifacts, **more))
    assert sync.sync(places.default_uri(storage), "tiny", runs) == []


def digests(folder: Path) -> dict[str, str]:
    """Every file below a folder and the digest of its content; folders too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else ""
        for path in folder.rglob("*")
    }


def reports(storage: Path) -> list[str]:
    """What the reports in MLflow's artifacts say."""
    found = (storage / "mlflow-artifacts" / "tiny").rglob("report.html")
    return sorted(path.read_text() for path in found)


def listed(storage: Path) -> set[Path]:
    """Where MLflow says that the artifacts of all runs lie."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(places.default_uri(storage))
    runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    return {
        Path(urllib.request.url2pathname(run.info.artifact_uri.removeprefix("file://")), entry.path)
        for run in runs
        for entry in client.list_artifacts(run.info.run_id)
    }


# --- copied, moved, renamed ----------------------------------------------------------------------


@pytest.mark.parametrize("name", [ODD, "second"])
def test_a_copy_writes_to_its_own_artifacts_and_not_to_the_originals(
    storage: Path, name: str
) -> None:
    write(storage, "of the original")
    copy = shutil.copytree(storage, storage.with_name(name))
    before = digests(storage)
    write(copy, "of the copy", generations=3)
    assert digests(storage) == before
    assert reports(copy) == ["of the copy"] * 2
    assert reports(storage) == ["of the original"] * 2


@pytest.mark.parametrize("name", [ODD, "second"])
def test_where_a_storage_was_nothing_is_made_again(storage: Path, name: str) -> None:
    write(storage, "before")
    moved = storage.rename(storage.with_name(name))
    write(moved, "after")
    assert list(moved.parent.iterdir()) == [moved]
    assert reports(moved) == ["after"] * 2


def test_mlflow_finds_what_was_written_before_a_storage_moved(storage: Path) -> None:
    write(storage, "before")
    moved = storage.rename(storage.with_name("moved"))
    write(moved, "before")  # nothing is written again
    found = listed(moved)
    assert len(found) == 2
    assert all(path.exists() and path.is_relative_to(moved) for path in found)


def test_what_is_moved_there_and_back_is_as_before(storage: Path) -> None:
    write(storage, "page")
    uri, before = places.default_uri(storage), everything(places.default_uri(storage))
    moved = storage.rename(storage.with_name("moved"))
    write(moved, "page")
    assert everything(places.default_uri(moved)) != before
    moved.rename(storage)
    write(storage, "page")
    assert everything(uri) == before


def test_an_experiment_whose_artifacts_the_user_keeps_elsewhere_keeps_them(
    storage: Path, tmp_path: Path
) -> None:
    from mlflow.tracking import MlflowClient

    elsewhere = (tmp_path / "elsewhere").as_uri()
    client = MlflowClient(places.default_uri(storage))
    client.create_experiment("tiny", artifact_location=elsewhere)
    write(storage, "page")
    assert client.get_experiment_by_name("tiny").artifact_location == elsewhere
    assert len(list((tmp_path / "elsewhere").rglob("report.html"))) == 2


# --- names of folders ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_storage_of_any_name_has_its_own_database_and_nothing_lies_beside_it(
    empty: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "places" / name / "deep"
    folder.mkdir(parents=True)
    shutil.copy(empty, folder)
    assert sync.prepare(places.default_uri(folder)) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [folder / "mlflow.db"]
    assert [path.name for path in (tmp_path / "places").iterdir()] == [name]


def test_two_names_that_a_decoder_takes_for_one_have_a_database_each(
    empty: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / "places" / name for name in ("a b", "a%20b")]
    for folder in folders:
        folder.mkdir(parents=True)
        shutil.copy(empty, folder)
    before = digests(folders[0])
    write(folders[1], "page")
    assert digests(folders[0]) == before
    assert reports(folders[1]) == ["page"] * 2


def test_a_users_own_address_keeps_its_artifacts_beside_it(empty: Path, tmp_path: Path) -> None:
    own = tmp_path / "places" / "100% mine"
    own.mkdir(parents=True)
    shutil.copy(empty, own)
    uri = f"sqlite:///{tmp_path}/places/100%25%20mine/mlflow.db?timeout=20"
    runs = layout.plan(sweep(artifacts={"": [Artifact(empty)]}))
    assert sync.sync(uri, "tiny", runs) == []
    assert len(list((own / "mlflow-artifacts").rglob("mlflow.db"))) == 1
    assert list((tmp_path / "places").iterdir()) == [own]


@pytest.mark.slow
def test_mlflow_ui_as_the_summary_prints_it_opens_the_moved_numbers_and_files(
    storage: Path, tmp_path: Path
) -> None:
    write(storage, "page")
    moved = storage.rename(storage.with_name(ODD))
    write(moved, "page")
    with served(printed(places.default_uri(moved)), tmp_path) as address:
        experiment = asked(f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name=tiny")
        identity = json.loads(experiment)["experiment"]["experiment_id"]
        found = asked(f"{address}/api/2.0/mlflow/runs/search", {"experiment_ids": [identity]})
        runs = {run["info"]["run_name"]: run["info"]["run_id"] for run in json.loads(found)["runs"]}
        assert len(runs) == 6
        page = f"{address}/get-artifact?path=report.html&run_uuid={runs['tiny']}"
        assert asked(page) == b"page"


def printed(uri: str) -> list[str]:
    """The words of the command that a sweep's summary prints."""
    text = io.StringIO()
    terminal._print_paths(Console(file=text, width=40), terminal.Paths("", "", uri))
    return shlex.split(text.getvalue().removeprefix("curves"))


@contextlib.contextmanager
def served(words: list[str], folder: Path) -> Iterator[str]:
    """The server of a command that a user would type, in a folder of its own."""
    port = free_port()
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / words[0]), *words[1:], "--port", str(port)],
        cwd=folder,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address, tick = f"http://127.0.0.1:{port}", threading.Event()
    try:
        while not _answers(address):
            assert process.poll() is None, "the server did not start"
            tick.wait(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(address: str) -> bool:
    try:
        return asked(f"{address}/health") == b"OK"
    except OSError:
        return False


def asked(address: str, body: object = None) -> bytes:
    """What the server answers; ``body``: of a POST."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, content, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: bytes = answer.read()
    return found


def test_an_mlflow_that_cannot_be_loaded_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    (warning,) = sync.prepare(places.default_uri(tmp_path))
    assert "ModuleNotFoundError" in warning
    assert sync.sync(places.default_uri(tmp_path), "tiny", layout.plan(sweep()))


# --- names of scenarios and subgroups ------------------------------------------------------------


def named(*scenarios: str) -> TrackedSweep:
    """The tiny sweep with its scenario under other names."""
    tiny = sweep()
    parts = [tiny.results.assign(scenario=name) for name in scenarios]
    return replace(
        tiny,
        results=pd.concat(parts, ignore_index=True)[COLUMNS],
        params={name: {"dataset.initialization": name} for name in scenarios},
        published={
            Place(name, t.loop_seed, t.generation, t.classifier, t.seed): ms
            for name in scenarios
            for t, ms in tiny.published.items()
        },
        generators={
            (name, 0, n): ms for name in scenarios for (_, _, n), ms in tiny.generators.items()
        },
    )


LONG = "superclasses=" + "aquatic mammals, " * 2000


@pytest.mark.parametrize(
    "names",
    [
        (f"{LONG}1", f"{LONG}2"),
        ("base=/data", "base=/data/lenet/0/0", "base=%2Fdata"),
        ("sweep", "sweep/lenet"),
        ("drop=0.1", "drop=0,1", "drop=é", "drop=e"),
    ],
)
def test_scenarios_of_any_name_are_told_apart(storage: Path, names: tuple[str, ...]) -> None:
    tracked, uri = named(*names), places.default_uri(storage)
    runs = layout.plan(tracked)
    assert len({run.key for run in runs}) == len(runs)
    assert len({run.name for run in runs}) == len(runs)
    assert max(len(run.name) for run in runs) <= 250 - len(" (superseded)")
    assert sync.sync(uri, "tiny", runs) == []
    before = everything(uri)
    assert len(before["runs"]) == len(runs)
    assert sync.sync(uri, "tiny", runs) == []
    assert everything(uri) == before


def test_keys_of_runs_that_are_in_databases_already_stay() -> None:
    assert {run.key for run in layout.plan(named("drop=0.1,cut=per_class"))} >= {
        "key-of-the-sweep/sweep",
        "key-of-the-sweep/drop=0.1,cut=per_class",
        "key-of-the-sweep/drop=0.1,cut=per_class/lenet/0/1",
    }


def test_subgroups_that_mlflow_would_call_alike_have_a_curve_each(storage: Path) -> None:
    tracked = named("biased")
    rows = tracked.results[tracked.results["subgroup"] != ""]
    others = ("red + green", "../red", "r" * 300, "r" * 301)
    more = [rows.assign(subgroup=name, value=rows["value"] / 2) for name in others]
    tracked = replace(tracked, results=pd.concat([tracked.results, *more], ignore_index=True))
    uri, runs = places.default_uri(storage), layout.plan(tracked)
    for run in runs:
        points = [(point.key, point.step) for point in run.points]
        assert len(set(points)) == len(points)
    assert sync.sync(uri, "tiny", runs) == []
    before = everything(uri)
    assert sync.sync(uri, "tiny", runs) == []
    assert everything(uri) == before


def test_a_name_that_mlflow_takes_stays_as_it_is() -> None:
    for text in ("tpr/red", "accuracy/lenet/kept", "frechet_distance/pixels8", "tpr/dark blue"):
        assert layout.metric_name(text) == text
