"""Real MLflow on SQLite: what is written, once, and what happens without a server."""

import sqlite3
import time
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest

from ray_selfloop import tracking
from ray_selfloop.config.tracking import Tracking
from ray_selfloop.tracking import Artifact, TrackedSweep, Trial

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
            Trial("biased", 0, n, name, seed): (n + 1) * GENERATION_MS + seed
            for n, name, seed in trials
        },
        generators={("biased", 0, n): n * GENERATION_MS for n in range(1, generations)},
        **more,
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """An empty database, made once: its migrations take a second."""
    path = tmp_path_factory.mktemp("mlflow") / "deep" / "mlflow.db"
    assert tracking.prepare(f"sqlite:///{path}") == []
    return path


@pytest.fixture
def uri(template, tmp_path):
    (tmp_path / "mlflow.db").write_bytes(template.read_bytes())
    return tracking.default_uri(tmp_path)


def write(uri: str, tracked: TrackedSweep, tmp_path) -> list[str]:
    return tracking.sync(uri, "tiny", tracking.plan(tracked), (tmp_path / "artifacts").as_uri())


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


def test_writing_again_changes_no_row(uri, tmp_path):
    assert write(uri, sweep(), tmp_path) == []
    before = everything(uri)
    assert len(before["metrics"]) > 0
    assert write(uri, sweep(), tmp_path) == []
    assert everything(uri) == before


def test_a_further_generation_adds_its_rows_and_touches_no_other(uri, tmp_path):
    write(uri, sweep(generations=2), tmp_path)
    before = table_rows(uri, "metrics")
    write(uri, sweep(generations=3), tmp_path)
    after = table_rows(uri, "metrics")
    assert before < after
    assert {_step(uri, row) for row in after - before} == {2}
    assert len(table_rows(uri, "runs")) == 1 + 1 + len(CLASSIFIERS) * 2


def test_a_number_that_was_published_again_later_is_not_written_twice(uri, tmp_path):
    write(uri, sweep(generations=2), tmp_path)
    before = table_rows(uri, "metrics")
    grown = sweep(generations=3)
    later = {trial: ms + 5 for trial, ms in grown.published.items()}
    write(uri, replace(grown, published=later), tmp_path)
    assert {_step(uri, row) for row in table_rows(uri, "metrics") - before} == {2}


def _step(uri: str, row: tuple) -> int:
    with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
        names = [column[1] for column in database.execute("pragma table_info(metrics)")]
    return row[names.index("step")]


def test_growing_step_by_step_ends_with_the_numbers_of_writing_at_once(uri, template, tmp_path):
    write(uri, sweep(generations=1), tmp_path)
    write(uri, sweep(generations=3), tmp_path)
    (tmp_path / "once").mkdir()
    (tmp_path / "once" / "mlflow.db").write_bytes(template.read_bytes())
    once = tracking.default_uri(tmp_path / "once")
    write(once, sweep(generations=3), tmp_path)

    def numbers(uri):
        query = """select name, key, m.value, timestamp, step from metrics m
            join runs r on r.run_uuid = m.run_uuid"""
        with sqlite3.connect(uri.removeprefix("sqlite:///")) as database:
            return sorted(database.execute(query).fetchall())

    assert numbers(uri) == numbers(once)


def test_a_further_seed_replaces_the_means_and_keeps_the_curves(uri, tmp_path):
    write(uri, sweep(seeds=2), tmp_path)
    old = found(uri)
    write(uri, sweep(seeds=3), tmp_path)
    new = found(uri)
    curve = "biased · lenet · loop 0 · seed 1"
    assert new[curve].info.run_id == old[curve].info.run_id
    assert new["biased"].info.run_id != old["biased"].info.run_id
    assert new["biased (superseded)"].info.run_id == old["biased"].info.run_id
    for name, run in new.items():
        if name.startswith("biased ·"):
            assert run.data.tags["mlflow.parentRunId"] == new["biased"].info.run_id
    before = everything(uri)
    write(uri, sweep(seeds=3), tmp_path)
    assert everything(uri) == before


def test_curves_share_metric_names_and_a_scenario_names_its_classifiers(uri, tmp_path):
    write(uri, sweep(), tmp_path)
    runs = found(uri)
    curves = [run for name, run in runs.items() if name.startswith("biased ·")]
    assert {tuple(sorted(run.data.metrics)) for run in curves} == {
        ("accuracy", "accuracy_high", "accuracy_low", "tpr/red _ green")
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
    (scenario,) = (r for r in tracking.plan(replace(sweep(), results=rows)) if r.name == "biased")
    assert {"u/lenet", "u/lenet/kept"} <= {point.key for point in scenario.points}


def test_a_sweep_without_a_result_has_its_runs(uri, tmp_path):
    empty = replace(sweep(), results=pd.DataFrame(columns=COLUMNS), published={}, generators={})
    assert write(uri, empty, tmp_path) == []
    assert set(found(uri)) == {"tiny", "biased"}


def test_times_are_the_records_and_a_mean_is_as_late_as_its_last_trial():
    runs = {run.name: run for run in tracking.plan(sweep(generations=2, seeds=2))}
    curve = runs["biased · lenet · loop 0 · seed 1"]
    assert {(p.step, p.timestamp) for p in curve.points} == {(0, 1_000_001), (1, 2_000_001)}
    assert (curve.start, curve.end) == (1_000_001, 2_000_001)
    assert {p.timestamp for p in runs["biased"].points if p.step == 1} == {2_000_001}


def test_a_failed_trial_marks_its_curve_its_scenario_and_the_sweep(uri, tmp_path):
    failed = frozenset({Trial("biased", 0, 1, "lenet", 7)})
    write(uri, sweep(failed=failed), tmp_path)
    status = {name: run.info.status for name, run in found(uri).items()}
    assert {name for name, value in status.items() if value == "FAILED"} == {
        "tiny", "biased", "biased · lenet · loop 0 · seed 7",
    }  # fmt: skip
    write(uri, sweep(), tmp_path)  # the rerun repaired it
    assert found(uri)["biased"].info.status == "FINISHED"


def test_an_artifact_is_logged_when_its_content_changed_and_only_then(uri, tmp_path):
    picture = tmp_path / "overall.png"
    picture.write_bytes(b"first")
    tracked = sweep(artifacts={"biased": [Artifact(picture, "figures")]})
    write(uri, tracked, tmp_path)
    (logged,) = (tmp_path / "artifacts").rglob("overall.png")
    assert logged.parent.name == "figures"
    logged.unlink()
    write(uri, tracked, tmp_path)
    assert not logged.exists()  # the same content is not sent twice
    picture.write_bytes(b"second")
    write(uri, tracked, tmp_path)
    assert logged.read_bytes() == b"second"


def test_more_metrics_than_one_batch_holds(uri, tmp_path):
    tracked = sweep()
    (first, *rest) = tracking.plan(tracked)
    points = tuple(tracking.Point(f"m{i}", 0, float(i), 1) for i in range(2500))
    many = type(first)(**{**first.__dict__, "points": points})
    assert tracking.sync(uri, "tiny", [many, *rest], None) == []
    assert len(found(uri)["tiny"].data.metrics) == 2500


def test_an_unreachable_server_is_a_warning_within_seconds():
    start = time.monotonic()
    (warning,) = tracking.sync("http://127.0.0.1:9", "tiny", tracking.plan(sweep()), None)
    assert time.monotonic() - start < 15
    assert "http://127.0.0.1:9" in warning
    assert "sync-mlflow" in warning


def test_a_database_that_cannot_be_made_is_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    (warning,) = tracking.prepare(f"sqlite:///{tmp_path}/file/mlflow.db")
    assert "could not be written" in warning


def test_every_planned_name_is_one_that_mlflow_takes():
    from mlflow.utils.validation import _validate_metric_name

    for text in ("tpr/red & green", "a" * 400, "frechet_distance/pixels8", "é=1"):
        _validate_metric_name(tracking.metric_name(text) + "_high")


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "mlflow.db"])
def test_a_folder_store_is_refused_with_what_to_write_instead(uri):
    with pytest.raises(ValueError, match="sqlite:///PATH"):
        Tracking(uri=uri)


@pytest.mark.parametrize("uri", [None, "sqlite:////tmp/x.db", "http://127.0.0.1:5000"])
def test_databases_and_servers_are_taken(uri):
    assert Tracking(uri=uri).uri == uri
