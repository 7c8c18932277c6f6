"""The sweep's numbers in MLflow: the only file that imports mlflow, and only the driver calls it.

Everything written is derived from what the store has published, with the records' own times, so
that writing again changes nothing. Decides run layout and metric names; must not know how the
numbers were computed. A dead server costs seconds and a warning, never a result.

Layout: one run for the sweep; below it one per scenario, which carries means, bands and floors;
below that one per trained curve (classifier x loop seed x classifier seed). All curves use the
same metric names, so that MLflow's own charts compare architectures over generations.
"""

import hashlib
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ray_selfloop.evaluation import names

KEY_TAG = "selfloop.key"
SWEEP_TAG = "sweep_key"
WRITTEN_TAG = "selfloop.written"
SUPERSEDED_TAG = "selfloop.superseded"
PARENT_TAG = "mlflow.parentRunId"
METRICS_PER_BATCH = 1000  # MLflow's limit
KEY_LENGTH = 250  # MLflow's limit for a metric's name
# mlflow reads these when it is imported; what the user has set stays. Its own defaults would let
# one call to a dead server block for four minutes.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


@dataclass(frozen=True)
class Trial:
    """One trained classifier: the coordinates of its rows in the results table."""

    scenario: str
    loop_seed: int
    generation: int
    classifier: str
    seed: int


@dataclass(frozen=True)
class Artifact:
    """A file for a run. ``folder`` is its place among the run's artifacts ("" = top)."""

    path: Path
    folder: str = ""


@dataclass(frozen=True)
class TrackedSweep:
    """What the driver knows when it writes to MLflow.

    key: identity of the sweep; runs of one experiment with another key are left alone.
    results: the tidy results table.
    params: scenario -> its independent variables (axis name -> value).
    published: trial -> publication time of its record, ms since 1970.
    generators: (scenario, loop_seed, generation) -> publication time of the generator's record, ms.
    failed: trials that ended in an error; their curve's run gets status FAILED.
    artifacts: scenario -> files of the scenario's run; "" -> files of the sweep's run.
    """

    name: str
    key: str
    results: pd.DataFrame
    params: Mapping[str, Mapping[str, str]]
    published: Mapping[Trial, int]
    generators: Mapping[tuple[str, int, int], int] = field(default_factory=dict)
    failed: frozenset[Trial] = frozenset()
    artifacts: Mapping[str, Sequence[Artifact]] = field(default_factory=dict)


@dataclass(frozen=True, order=True)
class Point:
    """One number of one curve; ``step`` is the generation, ``timestamp`` in ms."""

    key: str
    step: int
    value: float
    timestamp: int


@dataclass(frozen=True)
class TrackedRun:
    """One MLflow run as it should be.

    key: finds the run again; unique within the experiment. parent: another run's key, "" if none.
    start, end: ms since 1970, from the records.
    """

    key: str
    name: str
    parent: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    points: tuple[Point, ...]
    artifacts: tuple[Artifact, ...]
    failed: bool
    start: int
    end: int


def default_uri(storage: Path) -> str:
    """The SQLite database of a storage folder."""
    return f"sqlite:///{storage.resolve() / 'mlflow.db'}"


# --- what should be there: pure ------------------------------------------------------------------


def plan(sweep: TrackedSweep) -> list[TrackedRun]:
    """The sweep's runs, parents before children. Values that are not defined are left out.

    ``sweep.results`` holds complete generations: a mean that is written while a seed is missing
    is superseded later (see ``sync``).

    Names: a curve's run has ``meo``, ``meo_low``, ``meo_high``, ``tpr/red``; a scenario's run has
    ``meo/lenet``, ``meo/lenet_low``, ``meo/lenet_high``, ``meo_floor/lenet`` and the generator's
    ``frechet_distance/pixels8``; of kept and queued images ``u/kept``, ``u/queue``. Numbers of one
    class, other readings and changes are in the results table alone.
    """
    rows = _charted(sweep.results)
    runs = [_sweep_run(sweep)]
    for scenario in sweep.params:
        of_scenario = rows[rows["scenario"] == scenario]
        runs.append(_scenario_run(sweep, scenario, of_scenario))
        runs.extend(_curve_runs(sweep, scenario, of_scenario))
    return runs


def _charted(results: pd.DataFrame) -> pd.DataFrame:
    """Rows that become curves: registered metrics over all classes, with a defined value."""
    plain = results["metric"].str.split("/").str[0].str.removesuffix("_floor")
    of_all = (results["class"] == "") & results["value"].notna()
    return results[of_all & plain.isin(names.METRICS)]


def _sweep_run(sweep: TrackedSweep) -> TrackedRun:
    times = [*sweep.published.values(), *sweep.generators.values()] or [0]
    return TrackedRun(
        key=f"{sweep.key}/sweep",
        name=sweep.name,
        parent="",
        params={},
        tags={"run_kind": "sweep", SWEEP_TAG: sweep.key},
        points=(),
        artifacts=tuple(sweep.artifacts.get("", ())),
        failed=bool(sweep.failed),
        start=min(times),
        end=max(times),
    )


def _scenario_run(sweep: TrackedSweep, scenario: str, rows: pd.DataFrame) -> TrackedRun:
    times = _scenario_times(sweep, scenario)
    means = rows[rows["loop_seed"].isna() & rows["seed"].isna()]
    points = [*_points(means, times), *_points(_generator_means(rows, means), times)]
    return TrackedRun(
        key=f"{sweep.key}/{scenario}",
        name=scenario,
        parent=f"{sweep.key}/sweep",
        params={"scenario": scenario, **sweep.params[scenario]},
        tags={"run_kind": "scenario", "scenario": scenario, SWEEP_TAG: sweep.key},
        points=tuple(points),
        artifacts=tuple(sweep.artifacts.get(scenario, ())),
        failed=any(trial.scenario == scenario for trial in sweep.failed),
        start=min(times.values(), default=0),
        end=max(times.values(), default=0),
    )


def _scenario_times(sweep: TrackedSweep, scenario: str) -> dict[int, int]:
    """Generation -> when the last of its records was published (a mean needs all of them)."""
    times: dict[int, int] = {}
    trials = ((t.scenario, t.generation, ms) for t, ms in sweep.published.items())
    generators = ((name, n, ms) for (name, _, n), ms in sweep.generators.items())
    for name, generation, ms in (*trials, *generators):
        if name == scenario:
            times[generation] = max(ms, times.get(generation, 0))
    return times


def _generator_means(rows: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """The generator's numbers averaged over chains, where the table has no mean row of its own.

    In a chain that belongs to one classifier they carry its name.
    """
    what = ["metric", "classifier", "split"]
    own = rows[rows["loop_seed"].notna() & rows["seed"].isna()]
    own = own[~pd.MultiIndex.from_frame(own[what]).isin(pd.MultiIndex.from_frame(means[what]))]
    columns = ["generation", "classifier", "subgroup", "metric", "split"]
    averaged = own.groupby(columns, as_index=False)[["value", "low", "high"]].mean()
    one_chain = own.groupby(columns)["loop_seed"].nunique().max() == 1
    if not one_chain:  # an average of intervals is no interval of the average
        averaged[["low", "high"]] = float("nan")
    return averaged


def _curve_runs(sweep: TrackedSweep, scenario: str, rows: pd.DataFrame) -> Iterator[TrackedRun]:
    curves: dict[tuple[str, int, int], dict[int, int]] = defaultdict(dict)
    for trial, ms in sweep.published.items():
        if trial.scenario == scenario:
            curves[trial.classifier, trial.loop_seed, trial.seed][trial.generation] = ms
    failed = {(t.classifier, t.loop_seed, t.seed) for t in sweep.failed if t.scenario == scenario}
    for curve in failed:  # a curve whose first trial failed has a run, without a point
        curves.setdefault(curve, {})
    of_trials = {
        curve: part for curve, part in rows.groupby(["classifier", "loop_seed", "seed"], sort=False)
    }
    for curve, times in sorted(curves.items()):
        part = of_trials.get(curve, rows.iloc[:0])
        points = _points(part.assign(classifier=""), times)
        yield _curve_run(sweep, scenario, curve, times, points, curve in failed)


def _curve_run(
    sweep: TrackedSweep,
    scenario: str,
    curve: tuple[str, int, int],
    times: Mapping[int, int],
    points: Iterable[Point],
    failed: bool,
) -> TrackedRun:
    classifier, loop_seed, seed = curve
    params = {"classifier": classifier, "loop_seed": str(loop_seed), "seed": str(seed)}
    return TrackedRun(
        key=f"{sweep.key}/{scenario}/{classifier}/{loop_seed}/{seed}",
        name=f"{scenario} · {classifier} · loop {loop_seed} · seed {seed}",
        parent=f"{sweep.key}/{scenario}",
        params={"scenario": scenario, **sweep.params[scenario], **params},
        tags={"run_kind": "curve", "scenario": scenario, SWEEP_TAG: sweep.key},
        points=tuple(points),
        artifacts=(),
        failed=failed,
        start=min(times.values(), default=0),
        end=max(times.values(), default=0),
    )


def _points(rows: pd.DataFrame, times: Mapping[int, int]) -> Iterator[Point]:
    """The value and, where there is one, the interval of each row, as points of curves."""
    for row in rows[rows["generation"].isin(list(times))].to_dict("records"):
        split = "" if row["split"] in ("test", "generated") else row["split"]
        parts = (row["metric"], row["classifier"], split, row["subgroup"])
        key = metric_name("/".join(part for part in parts if part))
        generation = int(row["generation"])
        for suffix, number in (("", row["value"]), ("_low", row["low"]), ("_high", row["high"])):
            if number == number:  # not NaN
                yield Point(key + suffix, generation, float(number), times[generation])


def metric_name(text: str) -> str:
    """``text`` with every character that MLflow refuses in a metric's name replaced by ``_``."""
    return re.sub(r"[^A-Za-z0-9_\-. /:]", "_", text)[: KEY_LENGTH - len("_high")]


# --- what is there, and what is missing ----------------------------------------------------------


def prepare(uri: str) -> list[str]:
    """Create or upgrade the SQLite database before a worker starts; warnings, never an error.

    Several processes that open a fresh database at once leave it half migrated.
    """
    try:
        _client(uri).search_experiments(max_results=1)
    except Exception as error:  # whatever a tracker does wrong must not stop a sweep
        return [_trouble(uri, error)]
    return []


def sync(
    uri: str, experiment: str, runs: Sequence[TrackedRun], artifact_location: str | None
) -> list[str]:
    """Write what MLflow lacks of ``runs`` (as ``plan`` orders them); returns warnings.

    A number is written once per (run, metric, step). Where the store now says another number than
    MLflow has (a seed was added, so the mean moved; a stage was recomputed), MLflow cannot take
    the old one back: the old run is kept, tagged ``selfloop.superseded`` and renamed, and a new
    run takes its place. ``artifact_location``: folder URI for a new experiment; None = MLflow's.
    Never raises for trouble with the server.
    """
    try:
        _Writer(uri, experiment, artifact_location, runs[0].tags[SWEEP_TAG]).write(runs)
    except Exception as error:  # as in prepare
        return [_trouble(uri, error)]
    return []


def _trouble(uri: str, error: Exception) -> str:
    what = " ".join(str(error).split())[:200]
    return f"MLflow at {uri} could not be written ({type(error).__name__}: {what}); see sync-mlflow"


def _client(uri: str) -> Any:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):  # a page of migration notes on a new database
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient(uri)


class _Writer:
    """One pass over an experiment: finds what is there, writes the rest."""

    def __init__(self, uri: str, experiment: str, location: str | None, sweep: str) -> None:
        self.client = _client(uri)
        found = self.client.get_experiment_by_name(experiment)
        if found is not None and found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        self.experiment = (
            found.experiment_id
            if found is not None
            else self.client.create_experiment(experiment, artifact_location=location)
        )
        self.known = {run.data.tags[KEY_TAG]: run for run in self._existing(sweep)}

    def _existing(self, sweep: str) -> Iterator[Any]:
        query, token = f"tags.`{SWEEP_TAG}` = '{sweep}'", None
        while True:
            page = self.client.search_runs(
                [self.experiment], query, max_results=1000, page_token=token
            )
            yield from (
                run
                for run in page
                if KEY_TAG in run.data.tags and SUPERSEDED_TAG not in run.data.tags
            )
            token = page.token
            if not token:
                return

    def write(self, runs: Sequence[TrackedRun]) -> None:
        identities: dict[str, str] = {}
        for run in runs:
            identities[run.key] = self._write_one(run, identities.get(run.parent, ""))

    def _write_one(self, run: TrackedRun, parent: str) -> str:
        """The run's MLflow id, after everything that it lacked is written."""
        there = self.known.get(run.key)
        missing = list(run.points)
        if there is not None and there.data.tags.get(WRITTEN_TAG) == _digest_of_points(run):
            missing = []
        elif there is not None:
            recorded = self._recorded(there)
            if any(recorded.get((p.key, p.step), p.value) != p.value for p in run.points):
                self._supersede(there)
                there = None
            else:
                missing = [p for p in run.points if (p.key, p.step) not in recorded]
        if there is None:
            there = self._create(run, parent)
        self._log(there.info.run_id, missing)
        self._finish(there, run, parent)
        return str(there.info.run_id)

    def _recorded(self, there: Any) -> dict[tuple[str, int], float]:
        return {
            (key, point.step): point.value
            for key in there.data.metrics
            for point in self.client.get_metric_history(there.info.run_id, key)
        }

    def _supersede(self, there: Any) -> None:
        identity = there.info.run_id
        self.client.set_tag(identity, SUPERSEDED_TAG, "true")
        self.client.update_run(identity, name=f"{there.info.run_name} (superseded)")

    def _create(self, run: TrackedRun, parent: str) -> Any:
        from mlflow.entities import Param

        tags = {**run.tags, KEY_TAG: run.key, **({PARENT_TAG: parent} if parent else {})}
        made = self.client.create_run(
            self.experiment, start_time=run.start, tags=tags, run_name=run.name
        )
        params = [Param(key, str(value)) for key, value in sorted(run.params.items())]
        for first in range(0, len(params), 100):  # MLflow's limit
            self.client.log_batch(made.info.run_id, params=params[first : first + 100])
        return made

    def _log(self, identity: str, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(p.key, p.value, p.timestamp, p.step) for p in sorted(points)]
        for first in range(0, len(metrics), METRICS_PER_BATCH):
            batch = metrics[first : first + METRICS_PER_BATCH]
            self.client.log_batch(identity, metrics=batch)

    def _finish(self, there: Any, run: TrackedRun, parent: str) -> None:
        """Artifacts, then the tags that say all is written, then the status."""
        identity, tags = there.info.run_id, there.data.tags
        for artifact in run.artifacts:
            name, digest = _artifact_tag(artifact), _digest(artifact.path.read_bytes())
            if tags.get(name) != digest:
                self.client.log_artifact(identity, str(artifact.path), artifact.folder or None)
                self.client.set_tag(identity, name, digest)
        wanted = {WRITTEN_TAG: _digest_of_points(run), **({PARENT_TAG: parent} if parent else {})}
        for name, value in wanted.items():
            if tags.get(name) != value:
                self.client.set_tag(identity, name, value)
        status = "FAILED" if run.failed else "FINISHED"
        if there.info.status != status or there.info.end_time != run.end:
            self.client.set_terminated(identity, status, end_time=run.end)


def _artifact_tag(artifact: Artifact) -> str:
    return metric_name(f"selfloop.artifact.{artifact.folder}/{artifact.path.name}")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _digest_of_points(run: TrackedRun) -> str:
    return _digest(repr(sorted((p.key, p.step, p.value) for p in run.points)).encode())
