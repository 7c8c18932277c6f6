"""The sweep's runs, numbers and names in MLflow as they should be: pure, and without mlflow.

Everything is derived from what the store has published, with the records' own times, so that
writing again changes nothing. Must not know how the numbers were computed.

One run for the sweep; below it one per scenario, which carries means, bands and floors;
below that one per trained curve (classifier x loop seed x classifier seed). All curves use the
same metric names, so that MLflow's own charts compare architectures over generations.
"""

import hashlib
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ray_selfloop.evaluation import metrics
from ray_selfloop.graph import Place

SWEEP_TAG = "sweep_key"
KEY_LENGTH = 250  # MLflow's limit for a metric's name
MOST_PARAMS = 90  # MLflow takes 100 at once, and a run has some of its own
TAG_LENGTH = 5000  # MLflow's limit for a value of a tag or parameter, in its older versions
NAME_LENGTH = 170  # of a scenario in a run's name, which has 250 characters in MLflow's databases


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
    params: scenario -> its settings (dotted key -> value), those of its axes last; of more than
    MLflow takes the first are left out. program: tags of what has computed it.
    published: trial -> publication time of its record, ms since 1970.
    generators: (scenario, loop_seed, generation) -> publication time of the generator's record, ms.
    failed: trials that ended in an error; their curve's run gets status FAILED.
    artifacts: scenario -> files of the scenario's run; "" -> files of the sweep's run.
    """

    name: str
    key: str
    results: pd.DataFrame
    params: Mapping[str, Mapping[str, str]]
    published: Mapping[Place, int]
    generators: Mapping[tuple[str, int, int], int] = field(default_factory=dict)
    failed: frozenset[Place] = frozenset()
    artifacts: Mapping[str, Sequence[Artifact]] = field(default_factory=dict)
    program: Mapping[str, str] = field(default_factory=dict)


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
        tags={"run_kind": "sweep", SWEEP_TAG: sweep.key, **sweep.program},
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
    return f"{sweep.key}/{scenario if plain else digest(scenario.encode())}"


def _params(sweep: TrackedSweep, scenario: str) -> dict[str, str]:
    values = {"scenario": scenario, **dict([*sweep.params[scenario].items()][-MOST_PARAMS:])}
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
    clean = clean if clean == text else f"{clean}_{digest(text.encode())[:8]}"
    return told_apart(clean, most, "_")


def told_apart(text: str, most: int, mark: str = "… ") -> str:
    """``text``, or where it is longer its beginning and its digest, in ``most`` characters."""
    end = f"{mark}{digest(text.encode())[:8]}"
    return text if len(text) <= most else f"{text[: most - len(end)]}{end}"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
