"""Real MLflow on SQLite: what is written, once, and what is left when calls of it fail."""

import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from mlflow_trouble import Proxy, Rule, always, dump, free_port
from test_layers import FILES, ROOMS, imports, room

from ray_selfloop.config.tracking import Tracking
from ray_selfloop.graph import Place
from ray_selfloop.tracking import layout, places, sync, writer
from ray_selfloop.tracking.layout import Artifact, Point, TrackedRun, TrackedSweep

COLUMNS = [
    "scenario", "loop_seed", "generation", "classifier", "seed", "split", "class", "subgroup",
    "metric", "value", "low", "high",
]  # fmt: skip
CLASSIFIERS = ("lenet", "resnet50")
GENERATION_MS = 1_000_000


def made_up(generations: int, seeds: int) -> pd.DataFrame:
    """A results table of arbitrary numbers; a trial's numbers depend on its coordinates alone."""
    rows = []
    for n, name in product(range(generations), CLASSIFIERS):
        for seed in range(seeds):
            values = np.random.default_rng([n, seed, len(name)]).random(2)
            at = ["biased", 0, n, name, seed, "test"]
            rows.append([*at, "", "", "accuracy", values[0], values[0] - 0.1, values[0] + 0.1])
            rows.append([*at, "", "", "di", np.nan, np.nan, np.nan])
            rows.append([*at, "", "red & green", "tpr", values[1], np.nan, np.nan])
            rows.append([*at, "zero", "", "accuracy", values[1], np.nan, np.nan])
        mean = ["biased", pd.NA, n, name, pd.NA, "test", "", ""]
        value = np.random.default_rng([n, seeds]).random()
        rows.append([*mean, "accuracy", value, value - 0.05, value + 0.05])
        rows.append([*mean, "meo_floor", 0.9, 0.85, 0.95])
        rows.append([*mean, "accuracy_change", 0.0, np.nan, np.nan])
    for n in range(1, generations):
        for split in ("generated", "kept"):
            rows.append(["biased", 0, n, "", pd.NA, split, "", "", "u", 0.1 * n, np.nan, np.nan])
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype({"loop_seed": "Int64", "generation": "Int64", "seed": "Int64"})


def sweep(generations: int = 2, seeds: int = 2, **more) -> TrackedSweep:
    trials = product(range(generations), CLASSIFIERS, range(seeds))
    return TrackedSweep(
        name="tiny",
        key="key-of-the-sweep",
        results=made_up(generations, seeds),
        params={"biased": {"dataset.initialization": "biased"}},
        published={
            Place("biased", 0, n, name, seed): (n + 1) * GENERATION_MS + seed
            for n, name, seed in trials
        },
        generators={("biased", 0, n): n * GENERATION_MS for n in range(1, generations)},
        **more,
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """An empty database, made once: its migrations take a second."""
    path = tmp_path_factory.mktemp("mlflow") / "deep" / "mlflow.db"
    assert sync.prepare(f"sqlite:///{path}") == []
    return path


@pytest.fixture
def uri(template, tmp_path):
    (tmp_path / "mlflow.db").write_bytes(template.read_bytes())
    return places.default_uri(tmp_path)


def write(uri: str, tracked: TrackedSweep) -> list[str]:
    return sync.sync(uri, "tiny", layout.plan(tracked))


def table_rows(uri: str, table: str) -> set[tuple]:
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        rows = database.execute(f"select * from {table}").fetchall()
    assert len(rows) == len(set(rows))
    return set(rows)


def everything(uri: str) -> dict[str, set[tuple]]:
    return {t: table_rows(uri, t) for t in ("runs", "metrics", "params", "tags")}


def found(uri: str, query: str = "") -> dict[str, object]:
    """Runs of the experiment by name."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiny").experiment_id
    return {run.info.run_name: run for run in client.search_runs([experiment], query)}


def test_writing_again_changes_no_row(uri):
    assert write(uri, sweep()) == []
    before = everything(uri)
    assert len(before["metrics"]) > 0
    assert write(uri, sweep()) == []
    assert everything(uri) == before


def test_a_further_generation_adds_its_rows_and_touches_no_other(uri):
    write(uri, sweep(generations=2))
    before = table_rows(uri, "metrics")
    write(uri, sweep(generations=3))
    after = table_rows(uri, "metrics")
    assert before < after
    assert {_step(uri, row) for row in after - before} == {2}
    assert len(table_rows(uri, "runs")) == 1 + 1 + len(CLASSIFIERS) * 2


def test_a_number_that_was_published_again_later_is_not_written_twice(uri):
    write(uri, sweep(generations=2))
    before = table_rows(uri, "metrics")
    grown = sweep(generations=3)
    later = {trial: ms + 5 for trial, ms in grown.published.items()}
    write(uri, replace(grown, published=later))
    assert {_step(uri, row) for row in table_rows(uri, "metrics") - before} == {2}


def _step(uri: str, row: tuple) -> int:
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        names = [column[1] for column in database.execute("pragma table_info(metrics)")]
    return row[names.index("step")]


def test_growing_step_by_step_ends_with_the_numbers_of_writing_at_once(uri, template, tmp_path):
    write(uri, sweep(generations=1))
    write(uri, sweep(generations=3))
    (tmp_path / "once").mkdir()
    (tmp_path / "once" / "mlflow.db").write_bytes(template.read_bytes())
    once = places.default_uri(tmp_path / "once")
    write(once, sweep(generations=3))

    def numbers(uri):
        query = """select name, key, m.value, timestamp, step from metrics m
            join runs r on r.run_uuid = m.run_uuid"""
        with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
            return sorted(database.execute(query).fetchall())

    assert numbers(uri) == numbers(once)


def test_a_further_seed_replaces_the_means_and_keeps_the_curves(uri):
    write(uri, sweep(seeds=2))
    old = found(uri)
    write(uri, sweep(seeds=3))
    new = found(uri)
    curve = "biased · lenet · loop 0 · seed 1"
    assert new[curve].info.run_id == old[curve].info.run_id
    assert new["biased"].info.run_id != old["biased"].info.run_id
    assert new["biased (superseded)"].info.run_id == old["biased"].info.run_id
    for name, run in new.items():
        if name.startswith("biased ·"):
            assert run.data.tags["mlflow.parentRunId"] == new["biased"].info.run_id
    before = everything(uri)
    write(uri, sweep(seeds=3))
    assert everything(uri) == before


def test_curves_share_metric_names_and_a_scenario_names_its_classifiers(uri):
    write(uri, sweep())
    runs = found(uri)
    curves = [run for name, run in runs.items() if name.startswith("biased ·")]
    assert {tuple(sorted(run.data.metrics)) for run in curves} == {
        ("accuracy", "accuracy_high", "accuracy_low", layout.metric_name("tpr/red & green"))
    }
    of_scenario = set(runs["biased"].data.metrics)
    assert {"accuracy/lenet", "accuracy/lenet_low", "meo_floor/resnet50_high"} <= of_scenario
    assert {"u", "u/kept"} <= of_scenario
    assert not any("change" in name or "nan" in name for name in of_scenario)
    assert runs["biased"].data.tags["mlflow.parentRunId"] == runs["tiny"].info.run_id
    assert runs["biased · lenet · loop 0 · seed 1"].data.params == {
        "scenario": "biased",
        "dataset.initialization": "biased",
        "classifier": "lenet",
        "loop_seed": "0",
        "seed": "1",
    }


def test_a_chain_of_one_classifier_names_it_in_its_generators_numbers():
    rows = made_up(2, 2)
    rows.loc[rows["metric"] == "u", "classifier"] = "lenet"
    (scenario,) = (r for r in layout.plan(replace(sweep(), results=rows)) if r.name == "biased")
    assert {"u/lenet", "u/lenet/kept"} <= {point.key for point in scenario.points}


def test_a_sweep_without_a_result_has_its_runs(uri):
    empty = replace(sweep(), results=pd.DataFrame(columns=COLUMNS), published={}, generators={})
    assert write(uri, empty) == []
    assert set(found(uri)) == {"tiny", "biased"}


def test_times_are_the_records_and_a_mean_is_as_late_as_its_last_trial():
    runs = {run.name: run for run in layout.plan(sweep(generations=2, seeds=2))}
    curve = runs["biased · lenet · loop 0 · seed 1"]
    assert {(p.step, p.timestamp) for p in curve.points} == {(0, 1_000_001), (1, 2_000_001)}
    assert (curve.start, curve.end) == (1_000_001, 2_000_001)
    assert {p.timestamp for p in runs["biased"].points if p.step == 1} == {2_000_001}


def test_a_failed_trial_marks_its_curve_its_scenario_and_the_sweep(uri):
    failed = frozenset({Place("biased", 0, 1, "lenet", 7)})
    write(uri, sweep(failed=failed))
    status = {name: run.info.status for name, run in found(uri).items()}
    assert {name for name, value in status.items() if value == "FAILED"} == {
        "tiny", "biased", "biased · lenet · loop 0 · seed 7",
    }  # fmt: skip
    write(uri, sweep())  # the rerun repaired it
    assert found(uri)["biased"].info.status == "FINISHED"


def test_a_run_without_a_record_of_its_own_is_written_once(uri):
    failed = frozenset({Place("biased", 0, 0, "lenet", 7)})
    write(uri, sweep(failed=failed))
    before = everything(uri)
    write(uri, sweep(failed=failed))
    assert everything(uri) == before


def test_an_artifact_is_logged_when_its_content_changed_and_only_then(uri, tmp_path):
    picture = tmp_path / "overall.png"
    picture.write_bytes(b"first")
    tracked = sweep(artifacts={"biased": [Artifact(picture, "figures")]})
    write(uri, tracked)
    (logged,) = (tmp_path / "mlflow-artifacts").rglob("overall.png")
    assert logged.parent.name == "figures"
    logged.unlink()
    write(uri, tracked)
    assert not logged.exists()  # the same content is not sent twice
    picture.write_bytes(b"second")
    write(uri, tracked)
    assert logged.read_bytes() == b"second"


def test_artifacts_of_a_database_lie_beside_it_and_not_in_the_working_folder(
    uri, tmp_path, monkeypatch
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "report.html").write_text("page")
    tracked = sweep(artifacts={"": [Artifact(tmp_path / "report.html")]})
    assert sync.sync(uri, "tiny", layout.plan(tracked)) == []
    (logged,) = (tmp_path / "mlflow-artifacts" / "tiny").rglob("report.html")
    assert logged.read_text() == "page"
    assert not list((tmp_path / "elsewhere").iterdir())


def test_more_metrics_than_one_batch_holds(uri):
    tracked = sweep()
    (first, *rest) = layout.plan(tracked)
    points = tuple(layout.Point(f"m{i}", 0, float(i), 1) for i in range(2500))
    many = replace(first, points=points)
    assert sync.sync(uri, "tiny", [many, *rest]) == []
    assert len(found(uri)["tiny"].data.metrics) == 2500


def test_a_database_that_cannot_be_made_is_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    (warning,) = sync.prepare(f"sqlite:///{tmp_path}/file/mlflow.db")
    assert "NotADirectoryError" in warning or "FileExistsError" in warning
    assert "sync-mlflow" in warning


def test_every_planned_name_is_one_that_mlflow_takes():
    from mlflow.utils.validation import _validate_metric_name

    for text in ("tpr/red & green", "a" * 400, "frechet_distance/pixels8", "é=1", "/a", "a//b"):
        _validate_metric_name(layout.metric_name(text) + "_high")


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "mlflow.db"])
def test_a_folder_store_is_refused_with_what_to_write_instead(uri):
    with pytest.raises(ValueError, match="sqlite:///PATH"):
        Tracking(uri=uri)


@pytest.mark.parametrize("uri", [None, "sqlite:////tmp/x.db", "http://127.0.0.1:5000"])
def test_databases_and_servers_are_taken(uri):
    assert Tracking(uri=uri).uri == uri


# --- through a server whose calls fail -----------------------------------------------------------


@pytest.fixture(scope="module")
def server(template) -> Iterator[Proxy]:
    """MLflow's own server application in a thread, on a database of its own, behind a proxy."""
    database = template.with_name("server.db")
    database.write_bytes(template.read_bytes())
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("_MLFLOW_SERVER_FILE_STORE", f"sqlite:///{database}")
        environment.setenv("_MLFLOW_SERVER_ARTIFACT_ROOT", "mlflow-artifacts:/")
        environment.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", str(template.parent / "files"))
        environment.setenv("_MLFLOW_SERVER_SERVE_ARTIFACTS", "true")
        from mlflow.server import app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        application = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=application.serve_forever, daemon=True).start()
        proxy = Proxy(application.server_port)
        yield proxy
        proxy.done.set()
        proxy.close()
        application.shutdown()


@pytest.fixture
def good(server) -> Iterator[Proxy]:
    """The proxy, passing everything until a test says otherwise."""
    server.behave(always("pass"))
    yield server
    server.behave(always("pass"))


@pytest.fixture
def small(tmp_path) -> list[TrackedRun]:
    """Sweep, scenario and one curve, with a file each for the sweep and the scenario."""
    files = {name: tmp_path / f"{name}.txt" for name in ("report", "figure")}
    for name, path in files.items():
        path.write_text(name)
    artifacts = {"": [Artifact(files["report"])], "biased": [Artifact(files["figure"], "figures")]}
    names = {"accuracy", "accuracy_low", "accuracy/lenet", "accuracy/lenet_low"}
    return [
        replace(run, points=tuple(point for point in run.points if point.key in names))
        for run in layout.plan(sweep(generations=2, seeds=1, artifacts=artifacts))[:3]
    ]


@pytest.fixture
def undisturbed(good, small) -> dict:
    assert sync.sync(good.uri, "undisturbed", small) == []
    return dump(good.uri, "undisturbed")


def first_of_each(behaviour: str) -> Rule:
    return lambda call: "pass" if call.repeat else behaviour


@pytest.mark.parametrize(
    "first", [1, *(pytest.param(number, marks=pytest.mark.slow) for number in (2, 3))]
)
def test_cut_off_after_any_call_the_next_sync_leaves_what_an_undisturbed_one_leaves(
    good, small, undisturbed, first
):
    """Every third call here, from ``first`` on."""
    warned = []
    for number in range(first, 100, 3):
        name = f"cut-{number}"
        good.behave(lambda call, number=number: "cut" if call.number == number else "pass")
        warned.append(sync.sync(good.uri, name, small))
        reached = len(good.calls) >= number
        good.behave(always("pass"))
        if not reached:
            break
        assert sync.sync(good.uri, name, small) == []
        assert dump(good.uri, name) == undisturbed
    assert len(warned) > 4
    assert all(warned[:-1])
    assert warned[-1] == []


def test_every_first_answer_is_lost_and_nothing_is_there_twice(good, small, undisturbed):
    good.behave(first_of_each("lose"))
    assert sync.sync(good.uri, "lost", small) == []
    assert sum("runs/create" in path for path in good.calls) == 2 * len(small)
    good.behave(always("pass"))
    assert dump(good.uri, "lost") == undisturbed


def test_a_batch_of_which_a_part_arrived_is_completed(good, small, undisturbed):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(good.uri)
    experiment = client.create_experiment("part")
    for run in small:  # every other number of the batch, of a stage that was published earlier
        tags = {**run.tags, writer.KEY_TAG: run.key}
        made = client.create_run(experiment, start_time=run.start, tags=tags, run_name=run.name)
        for p in sorted(run.points)[1::2]:
            client.log_metric(made.info.run_id, p.key, p.value, p.timestamp - 1, p.step)
    assert sync.sync(good.uri, "part", small) == []
    found = dump(good.uri, "part")
    assert found.keys() == undisturbed.keys()
    for key, run in undisturbed.items():
        assert [p[:3] for p in found[key]["points"]] == [p[:3] for p in run["points"]]
        assert {**found[key], "points": run["points"]} == run


def test_of_two_runs_with_one_key_the_fuller_stays_and_its_children_point_to_it(
    good, small, undisturbed
):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(good.uri)
    experiment = client.create_experiment("twice")
    for run in small:
        client.create_run(experiment, tags={**run.tags, writer.KEY_TAG: run.key})
    sync.sync(good.uri, "twice", small)
    (scenario,) = client.search_runs([experiment], "tags.run_kind = 'scenario'")
    kept = scenario.info.run_id
    for run in small:
        client.create_run(experiment, tags={**run.tags, writer.KEY_TAG: run.key})
    assert sync.sync(good.uri, "twice", small) == []
    (scenario,) = client.search_runs([experiment], "tags.run_kind = 'scenario'")
    assert scenario.info.run_id == kept
    found = dump(good.uri, "twice")
    assert {key: run["points"] for key, run in found.items()} == {
        key: run["points"] for key, run in undisturbed.items()
    }
    assert {key: run["tags"].get(writer.PARENT_TAG) for key, run in found.items()} == {
        run.key: run.parent or None for run in small
    }


def test_growing_a_sweep_reads_no_history(good):
    sync.sync(good.uri, "growing", layout.plan(sweep(generations=2)))
    good.behave(always("pass"))
    grown = layout.plan(sweep(generations=3))
    assert sync.sync(good.uri, "growing", grown) == []
    used = Counter(path.split("?")[0].removeprefix("/api/2.0/mlflow/") for path in good.calls)
    assert used == {
        "experiments/get-by-name": 1,
        "runs/search": 1,
        "runs/log-batch": len(grown) - 1,  # the sweep's own run has no number
        "runs/update": len(grown),
    }


def test_an_artifact_store_that_refuses_costs_no_number(good, small, undisturbed):
    good.behave(lambda call: "403" if "mlflow-artifacts" in call.path else "pass")
    (warning,) = sync.sync(good.uri, "refused", small)
    assert "403" in warning
    good.behave(always("pass"))
    found = dump(good.uri, "refused")
    for key, run in undisturbed.items():
        assert found[key]["points"] == run["points"]
        assert found[key]["info"] == run["info"]


@pytest.mark.parametrize(
    ("behaviour", "cause"),
    [
        ("closed", "ConnectionRefusedError: [Errno 111] Connection refused"),
        ("hang", "TimeoutError: timed out"),
        ("lose", "RemoteDisconnected('Remote end closed connection without response')"),
        ("403", "403 != 200. Response body: 'Invalid Host header - possible DNS rebinding"),
        ("500", "ResponseError: too many 500 error responses"),
    ],
)
def test_a_warning_names_server_cause_and_remedy(good, small, monkeypatch, behaviour, cause):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    good.behave(always(behaviour))
    uri = f"http://127.0.0.1:{free_port()}" if behaviour == "closed" else good.uri
    start = time.monotonic()
    warnings = [*sync.prepare(uri), *sync.sync(uri, "none", small)]
    assert time.monotonic() - start < 10
    assert len(warnings) == 2
    for warning in warnings:
        assert f"MLflow at {uri} " in warning
        assert cause in warning
        assert "python -m ray_selfloop sync-mlflow" in warning


@pytest.mark.parametrize("password", ["secret", "secret/", "secret" * 60])
def test_a_password_in_the_address_is_not_in_the_warning(monkeypatch, password):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (refused,) = sync.prepare(f"http://me:{password}@127.0.0.1:{free_port()}")
    (impossible,) = sync.prepare(f"http://me:{password}@127.0.0.1:99999")
    assert "Invalid url: http://me:***@127.0.0.1:99999/" in impossible
    for warning in (refused, impossible):
        assert "http://me:***@127.0.0.1" in warning
        assert "secret" not in warning


def test_the_users_environment_redirects_nothing(good, small, undisturbed, monkeypatch, tmp_path):
    for name, value in {
        "MLFLOW_RUN_ID": "0" * 32,
        "MLFLOW_EXPERIMENT_NAME": "mine",
        "MLFLOW_EXPERIMENT_ID": "0",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mine.db",
        "MLFLOW_ACTIVE_MODEL_ID": "m-" + "0" * 32,
        "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
        "MLFLOW_RUN_CONTEXT": '{"mine": "1"}',
    }.items():
        monkeypatch.setenv(name, value)
    assert sync.sync(good.uri, "environment", small) == []
    good.behave(lambda call: "403" if "log-batch" in call.path else "pass")
    assert sync.sync(good.uri, "not in the background", small)
    good.behave(always("pass"))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_ENABLE_ASYNC_LOGGING"):
        monkeypatch.delenv(name)
    assert dump(good.uri, "environment") == undisturbed
    assert not (tmp_path / "mine.db").exists()


def test_nothing_that_a_ray_worker_loads_can_write():
    """Workers load `distributed` and what lies below it; imports go down."""
    own = "ray_selfloop.tracking."
    users = {room(path) for path in FILES if any(n.startswith(own) for n in imports(path))}
    assert users > {"tracking"}
    assert users.isdisjoint(ROOMS[: ROOMS.index("distributed") + 1])
    assert ROOMS.index("distributed") < ROOMS.index("tracking")


def test_the_budget_grows_with_runs_and_files(small):
    assert sync.budget(small) == 20 + 0.5 * (3 + 2)
    point = Point("m", 0, 1.0, 1)
    assert sync.budget([replace(run, points=(point,) * 99) for run in small]) == 22.5
