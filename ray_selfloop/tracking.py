"""The sweep's numbers in MLflow: the only file that imports mlflow, and only the driver calls it.

Everything written is derived from what the store has published, with the records' own times, so
that writing again changes nothing. Decides run layout and metric names; must not know how the
numbers were computed. Whatever the server does, it costs a bounded time and a warning, never a
result; what a call that failed has left half done is completed by the next ``sync``.

Layout: one run for the sweep; below it one per scenario, which carries means, bands and floors;
below that one per trained curve (classifier x loop seed x classifier seed). All curves use the
same metric names, so that MLflow's own charts compare architectures over generations.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import posixpath
import re
import sqlite3
import threading
import urllib.parse
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ray_selfloop.config.plain import masked, shown
from ray_selfloop.evaluation import metrics

KEY_TAG = "selfloop.key"
SWEEP_TAG = "sweep_key"
WRITTEN_TAG = "selfloop.written"
SUPERSEDED_TAG = "selfloop.superseded"
PARENT_TAG = "mlflow.parentRunId"
SQLITE = "sqlite:///"
ARTIFACTS = "mlflow-artifacts"  # beside an SQLite database: a folder for each experiment
METRICS_PER_BATCH = 900  # MLflow takes 1000 entries, parameters and tags included
KEY_LENGTH = 250  # MLflow's limit for a metric's name
TAG_LENGTH = 5000  # MLflow's limit for a value of a tag or parameter, in its older versions
NAME_LENGTH = 170  # of a scenario in a run's name, which has 250 characters in MLflow's databases
PREPARE_SECONDS = 15.0
SYNC_SECONDS, SYNC_SECONDS_EACH = 20.0, 0.5  # in all, and for each run and file
# What the user has set stays; some are read when mlflow is imported. Its own defaults would let
# one call to a dead server block for four minutes, and a "Retry-After" for as long as it says.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
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
    """The SQLite database of a storage folder; `%` and `?` are what an address gives a meaning."""
    path = str(storage.resolve() / "mlflow.db")
    return f"{SQLITE}{path.replace('%', '%25').replace('?', '%3F')}"


def database(uri: str) -> Path | None:
    """The file of an SQLite database's address; None of a server."""
    if not uri.startswith(SQLITE):
        return None
    return Path(urllib.parse.unquote(uri.removeprefix(SQLITE).partition("?")[0]))


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
    return results[of_all & plain.isin(metrics.METRICS)]


def _sweep_run(sweep: TrackedSweep) -> TrackedRun:
    return TrackedRun(
        key=f"{sweep.key}/sweep",
        name=sweep.name,
        parent="",
        params={},
        tags={"run_kind": "sweep", SWEEP_TAG: sweep.key},
        points=(),
        artifacts=tuple(sweep.artifacts.get("", ())),
        failed=bool(sweep.failed),
        **_span(sweep, [*sweep.published.values(), *sweep.generators.values()]),
    )


def _span(sweep: TrackedSweep, times: Iterable[int]) -> dict[str, int]:
    """Start and end of a run; without a record of its own those of the sweep's first.

    Never 0, which MLflow takes for now: such a run would change with every writing.
    """
    known = [*times] or [min([*sweep.published.values(), *sweep.generators.values()], default=1)]
    return {"start": min(known), "end": max(known)}


def _scenario_run(sweep: TrackedSweep, scenario: str, rows: pd.DataFrame) -> TrackedRun:
    times = _scenario_times(sweep, scenario)
    means = rows[rows["loop_seed"].isna() & rows["seed"].isna()]
    points = [*_points(means, times), *_points(_generator_means(rows, means), times)]
    return TrackedRun(
        key=_scenario_key(sweep, scenario),
        name=told_apart(scenario, NAME_LENGTH),
        parent=f"{sweep.key}/sweep",
        params=_params(sweep, scenario),
        tags=_tags(sweep, scenario, "scenario"),
        points=tuple(points),
        artifacts=tuple(sweep.artifacts.get(scenario, ())),
        failed=any(trial.scenario == scenario for trial in sweep.failed),
        **_span(sweep, times.values()),
    )


def _scenario_key(sweep: TrackedSweep, scenario: str) -> str:
    """As the scenario is called; what is long, or could be read as another run's key, by digest."""
    plain = len(scenario) <= NAME_LENGTH and "/" not in scenario and scenario != "sweep"
    return f"{sweep.key}/{scenario if plain else _digest(scenario.encode())}"


def _params(sweep: TrackedSweep, scenario: str) -> dict[str, str]:
    values = {"scenario": scenario, **sweep.params[scenario]}
    return {name: told_apart(value, TAG_LENGTH) for name, value in values.items()}


def _tags(sweep: TrackedSweep, scenario: str, kind: str) -> dict[str, str]:
    name = told_apart(scenario, TAG_LENGTH)
    return {"run_kind": kind, "scenario": name, SWEEP_TAG: sweep.key}


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
    parent, name = _scenario_key(sweep, scenario), told_apart(scenario, NAME_LENGTH)
    return TrackedRun(
        key=f"{parent}/{classifier}/{loop_seed}/{seed}",
        name=f"{name} · {classifier} · loop {loop_seed} · seed {seed}",
        parent=parent,
        params={**_params(sweep, scenario), **params},
        tags=_tags(sweep, scenario, "curve"),
        points=tuple(points),
        artifacts=(),
        failed=failed,
        **_span(sweep, times.values()),
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
    """``text`` as MLflow takes it in a metric's name; what had to be changed ends in its digest."""
    clean, most = re.sub(r"[^A-Za-z0-9_\-. /:]", "_", text), KEY_LENGTH - len("_high")
    if clean != posixpath.normpath(clean) or clean.startswith(("/", "..")):
        clean = clean.replace("/", "_")
    clean = clean if clean == text else f"{clean}_{_digest(text.encode())[:8]}"
    return told_apart(clean, most, "_")


def told_apart(text: str, most: int, mark: str = "… ") -> str:
    """``text``, or where it is longer its beginning and its digest, in ``most`` characters."""
    end = f"{mark}{_digest(text.encode())[:8]}"
    return text if len(text) <= most else f"{text[: most - len(end)]}{end}"


# --- within a bounded time ------------------------------------------------------------------------


def prepare(uri: str) -> list[str]:
    """Create the SQLite database, or see whether the server answers; warnings, never an error.

    Ends within ``PREPARE_SECONDS``. The driver opens it before anything else can.
    """
    return _within(PREPARE_SECONDS, uri, lambda _: _client(uri).search_experiments(max_results=1))


def sync(uri: str, experiment: str, runs: Sequence[TrackedRun]) -> list[str]:
    """Write what MLflow lacks of ``runs`` (as ``plan`` orders them); returns warnings.

    A number is written once per (run, metric, step). Where the store now says another number than
    MLflow has (a seed was added, so the mean moved; a stage was recomputed), MLflow cannot take
    the old one back: the old run is kept, tagged ``selfloop.superseded`` and renamed, and a new
    run takes its place.

    Ends at the first call that fails for good, or within ``budget(runs)`` seconds; the next one
    goes on where it stopped. Never raises for trouble with the server.
    """

    def write(late: threading.Event) -> None:
        writer, location = _Writer(_client(uri), late, runs[0].tags[SWEEP_TAG]), None
        if file := database(uri):
            location = _beside(file, experiment)
            _follow(file)
        writer.open(experiment, location)
        writer.write(runs)

    return _within(budget(runs), uri, write)


def _beside(file: Path, experiment: str) -> str:
    """MLflow's own choice for a database is the working folder, which a job leaves behind."""
    return (file.resolve().parent / ARTIFACTS / experiment).as_uri()


def _follow(file: Path) -> None:
    """MLflow keeps whole paths; after a copy or a move they would lead to where it was before.

    Experiments whose artifacts the user keeps elsewhere are left alone.
    """
    with contextlib.closing(sqlite3.connect(file, timeout=PREPARE_SECONDS)) as opened, opened:
        found = opened.execute("select experiment_id, name, artifact_location from experiments")
        for experiment, name, before in found.fetchall():
            now, place = _beside(file, name), f"/{ARTIFACTS}/{urllib.parse.quote(name)}"
            if before.startswith("file:") and before.endswith(place) and before != now:
                _lead(opened, experiment, before, now)


def _lead(opened: sqlite3.Connection, experiment: int, before: str, now: str) -> None:
    """An experiment's artifacts, and those of its runs, lie below ``now``."""
    opened.execute(
        "update experiments set artifact_location = ? where experiment_id = ?", (now, experiment)
    )
    opened.execute(
        "update runs set artifact_uri = ? || substr(artifact_uri, ?)"
        " where experiment_id = ? and substr(artifact_uri, 1, ?) = ?",
        (now, len(before) + 1, experiment, len(before) + 1, f"{before}/"),
    )


def budget(runs: Sequence[TrackedRun]) -> float:
    """Seconds that ``sync`` may take: several times what a server that is well needs."""
    return SYNC_SECONDS + SYNC_SECONDS_EACH * sum(1 + len(run.artifacts) for run in runs)


def _within(seconds: float, uri: str, work: Callable[[threading.Event], object]) -> list[str]:
    """Do ``work`` in a thread; a warning where it fails, or is left behind after ``seconds``.

    A thread, because no timeout of a call is a limit: a server that sends byte by byte, the
    resolution of a name and a locked file last as long as they like. ``work`` is given an event
    that is set when nobody waits any more.
    """
    try:
        _load()
    except Exception as error:
        return [trouble(uri, error)]
    late = threading.Event()
    errors: list[Exception] = []

    def attempt() -> None:
        try:
            work(late)
        except Exception as error:  # whatever a tracker does wrong must not stop a sweep
            errors.append(error)

    thread = threading.Thread(target=attempt, name="mlflow", daemon=True)
    thread.start()
    thread.join(seconds)
    late.set()
    if thread.is_alive():
        return [_trouble(uri, f"not done after {seconds:.0f} s")]
    return [trouble(uri, error) for error in errors]


def trouble(uri: str, error: Exception) -> str:
    """The warning that an error is, with what to do."""
    return _trouble(uri, _cause(error))


def _cause(error: BaseException) -> str:
    """What lies at the bottom: mlflow, requests and urllib3 each wrap it once more.

    A failed look-up or conversion on the way is how a library decides, and says nothing.
    """
    while deeper := error.__cause__ or error.__context__:
        if isinstance(deeper, LookupError | AttributeError | TypeError | ValueError):
            break
        error = deeper
    return f"{type(error).__name__}: {shown(error, 300)}"


def _trouble(uri: str, cause: str) -> str:
    return (
        f"MLflow at {masked(uri)} lacks numbers of this sweep ({cause}). Training and results are "
        "not affected. When MLflow works again, write what it lacks with: "
        "python -m ray_selfloop sync-mlflow, followed by the sweep's own words"
    )


def _load() -> None:
    """Import mlflow with our defaults; outside the time that its server is given."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow.tracking  # noqa: F401

    for name in ("mlflow", "alembic"):  # a page of migration notes on a new database
        logging.getLogger(name).setLevel(logging.ERROR)


def _client(uri: str) -> Any:
    file = database(uri)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
    from mlflow import clear_active_model
    from mlflow.tracking import MlflowClient

    clear_active_model()  # MLFLOW_ACTIVE_MODEL_ID would tie our numbers to the user's model
    with _nothing_beside(uri), _alone(file):
        client = MlflowClient(uri)
        if file:
            client.search_experiments(max_results=1)
        return client


@contextlib.contextmanager
def _alone(file: Path | None) -> Iterator[None]:
    """One process at a time makes or migrates a database: two at once leave it half migrated."""
    if not file:
        yield
        return
    handle = os.open(file.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # no locks here: as MLflow does it
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _nothing_beside(uri: str) -> Iterator[None]:
    """MLflow makes the folder that an SQLite address names, before it decodes it."""
    named = Path(uri.removeprefix(SQLITE)).parent
    made = [folder for folder in (named, *named.parents) if database(uri) and not folder.exists()]
    yield
    for folder in made:
        with contextlib.suppress(OSError):
            folder.rmdir()


# --- what is there, and what is missing ----------------------------------------------------------


class _Writer:
    """One pass over an experiment: finds what is there, writes the rest.

    Every call may be cut at any point, be repeated by the HTTP layer, and take effect although
    its answer was lost. A batch is safe: MLflow drops a row that it has already. A creation is
    not, so that runs are looked up by key, before writing and once more after a creation.
    """

    def __init__(self, client: Any, late: threading.Event, sweep: str) -> None:
        self.client, self.late, self.sweep = client, late, sweep
        self.experiment = ""
        self.known: dict[str, Any] = {}

    def open(self, name: str, location: str | None) -> None:
        """Find or make the experiment, and find the sweep's runs in it."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                self.client.create_experiment(name, artifact_location=location)
            except MlflowException as error:  # by another writer, or by a call whose answer is lost
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            found = self.client.get_experiment_by_name(name)
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        self.experiment = found.experiment_id
        self._look_up()

    def _look_up(self) -> None:
        """Key -> run. Of runs with one key, made by a repeated call, all but one are deleted."""
        found: dict[str, list[Any]] = defaultdict(list)
        for run in self._existing():
            found[run.data.tags[KEY_TAG]].append(run)
        for key, runs in found.items():
            self.known[key], *copies = sorted(runs, key=_emptiness)
            for copy in copies:
                self.client.delete_run(copy.info.run_id)

    def _existing(self) -> Iterator[Any]:
        query, token = f"tags.`{SWEEP_TAG}` = '{self.sweep}'", None
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
        """All numbers first: trouble with the store of artifacts costs none of them."""
        before = set(self.known)
        identities: dict[str, str] = {}
        for run in runs:
            self._stop_if_late()
            identities[run.key] = self._write_one(run, identities.get(run.parent, ""))
        if set(self.known) - before:
            self._look_up()
        for run in runs:
            self._log_artifacts(run)

    def _stop_if_late(self) -> None:
        if self.late.is_set():
            raise TimeoutError("nobody waits for it any more")

    def _write_one(self, run: TrackedRun, parent: str) -> str:
        """The run's MLflow id, after every number that it lacked is written."""
        there = self.known.get(run.key) or self._create(run, parent)
        missing = self._missing(there, run)
        if missing is None:
            self._supersede(there, run)
            there, missing = self._create(run, parent), list(run.points)
        self._log(there, run, parent, missing)
        status = "FAILED" if run.failed else "FINISHED"
        if there.info.status != status or there.info.end_time != run.end:
            self.client.set_terminated(there.info.run_id, status, end_time=run.end)
        return str(there.info.run_id)

    def _missing(self, there: Any, run: TrackedRun) -> list[Point] | None:
        """The points that MLflow lacks; None where it holds another number in a point's place.

        What the tag says is there, is; what lies beyond a metric's latest step is not. So the
        history, a call per metric, is read only after a writer was cut off or a number has moved.
        """
        written, wanted = _written(there.data.tags), _digests(run)
        latest = {metric.key: metric.step for metric in there.data.to_proto().metrics}
        unsure = [p for p in run.points if written.get(p.step) != wanted[p.step]]
        beyond = [p for p in unsure if p.key not in latest or p.step > latest[p.key]]
        within = [p for p in unsure if p.key in latest and p.step <= latest[p.key]]
        recorded = self._recorded(there.info.run_id, {p.key for p in within})
        if any(recorded.get((p.key, p.step), p.value) != p.value for p in within):
            return None
        return beyond + [p for p in within if (p.key, p.step) not in recorded]

    def _recorded(self, identity: str, keys: Iterable[str]) -> dict[tuple[str, int], float]:
        return {
            (key, point.step): point.value
            for key in sorted(keys)
            for point in self.client.get_metric_history(identity, key)
        }

    def _supersede(self, there: Any, run: TrackedRun) -> None:
        identity = there.info.run_id
        self.client.update_run(identity, name=f"{run.name} (superseded)")
        self.client.set_tag(identity, SUPERSEDED_TAG, "true", synchronous=True)  # last: the run is
        # found and superseded again where this is not reached

    def _create(self, run: TrackedRun, parent: str) -> Any:
        tags = {**run.tags, KEY_TAG: run.key, **({PARENT_TAG: parent} if parent else {})}
        made = self.client.create_run(
            self.experiment, start_time=run.start, tags=tags, run_name=run.name
        )
        self.known[run.key] = made
        return made

    def _log(self, there: Any, run: TrackedRun, parent: str, points: Sequence[Point]) -> None:
        """Parameters, numbers, and with the last of them the tag that says which are there."""
        from mlflow.entities import Metric, Param, RunTag

        tags = {WRITTEN_TAG: _as_tag({**_written(there.data.tags), **_digests(run)})}
        if parent:
            tags[PARENT_TAG] = parent
        params = {k: str(v) for k, v in run.params.items() if k not in there.data.params}
        metrics = [Metric(p.key, p.value, p.timestamp, p.step) for p in sorted(points)]
        identity, last = there.info.run_id, METRICS_PER_BATCH * (len(metrics) // METRICS_PER_BATCH)
        for first in range(0, last, METRICS_PER_BATCH):
            batch = metrics[first : first + METRICS_PER_BATCH]
            self.client.log_batch(identity, metrics=batch, synchronous=True)
        self.client.log_batch(
            identity,
            metrics=metrics[last:],
            params=[Param(key, value) for key, value in sorted(params.items())],
            tags=[RunTag(k, v) for k, v in tags.items() if there.data.tags.get(k) != v],
            synchronous=True,
        )

    def _log_artifacts(self, run: TrackedRun) -> None:
        there = self.known[run.key]
        for artifact in run.artifacts:
            self._stop_if_late()
            name, digest = _artifact_tag(artifact), _digest(artifact.path.read_bytes())
            if there.data.tags.get(name) != digest:
                self._log_artifact(there.info, artifact)
                self.client.set_tag(there.info.run_id, name, digest, synchronous=True)

    def _log_artifact(self, run: Any, artifact: Artifact) -> None:
        path, folder = str(artifact.path), artifact.folder or None
        if not run.artifact_uri.startswith("file:"):
            self.client.log_artifact(run.run_id, path, folder)
            return
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        # The client remembers places by a run's id alone, and a copied run has the same.
        get_artifact_repository(run.artifact_uri).log_artifact(path, folder)


def _emptiness(run: Any) -> tuple[bool, int, str]:
    """Of runs with one key the one with the most in it comes first."""
    return WRITTEN_TAG not in run.data.tags, -len(run.data.metrics), run.info.run_id


def _artifact_tag(artifact: Artifact) -> str:
    return metric_name(f"selfloop.artifact.{artifact.folder}/{artifact.path.name}")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _digests(run: TrackedRun) -> dict[int, str]:
    """Step -> digest of the run's numbers of that step."""
    numbers: dict[int, list[tuple[str, float]]] = defaultdict(list)
    for point in sorted(run.points):
        numbers[point.step].append((point.key, point.value))
    return {step: _digest(repr(of_step).encode())[:8] for step, of_step in numbers.items()}


def _as_tag(digests: Mapping[int, str]) -> str:
    """``0:1a2b3c4d 1:5e6f7a8b``; what is cut off is looked up in the histories instead."""
    return " ".join(f"{step}:{digest}" for step, digest in sorted(digests.items()))[:TAG_LENGTH]


def _written(tags: Mapping[str, str]) -> dict[int, str]:
    """The steps that a run's tag says are written whole, with their digests."""
    found = re.findall(r"(\d+):([0-9a-f]{8})", tags.get(WRITTEN_TAG, ""))
    return {int(step): digest for step, digest in found}
