"""From published records to what people read: results table, MLflow, report, terminal.

Everything here is derived from the store; it can be made again at any time and computes nothing
that a stage should have computed.
"""

import math
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ray_selfloop import __version__, arms, declaration, earlier, told, tracking
from ray_selfloop.config.plain import dumped, masked
from ray_selfloop.config.sweep import Scenario
from ray_selfloop.evaluation.rows import COLUMNS
from ray_selfloop.graph import Node, Place, Stage, line_of
from ray_selfloop.images import tables
from ray_selfloop.images.imageset import Ids, Images, ImageSource
from ray_selfloop.images.pictures import View, seen, view_of
from ray_selfloop.planning import Plan
from ray_selfloop.progress import Progress
from ray_selfloop.report import page, terminal
from ray_selfloop.report.view import (
    Claim,
    Declared,
    Failure,
    FilterAudit,
    FitNumber,
    GeneratorOutcome,
    Law,
    Network,
    Null,
    Part,
    ReadingRow,
    ReportView,
    Samples,
    ScenarioView,
    StageUse,
    Verdict,
)
from ray_selfloop.running import Run
from ray_selfloop.stages import search
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.measures import ROWS
from ray_selfloop.store.records import Record

RESULTS, REPORT = "results.parquet", "report.html"
MOST_FILES = 3  # names of damaged files in a sentence
SAMPLES_PER_CLASS = 6
SHOWN_SIDE = 128  # pixels at which pictures are decoded for a grid
QUESTION = "Does training on generated data amplify bias across generations?"


class Conclusion:
    """What is said of one run; the results table is written when it is made.

    The report too where there is none of the same results: files of other settings must not stay
    side by side, and a run's own report, which knows what it took, is not replaced by looking on.
    """

    def __init__(self, run: Run, wall_seconds: float = float("nan")) -> None:
        self.run, self.plan = run, run.plan
        self._say(earlier.keep(run.plan, (REPORT, RESULTS)))
        before = self._files()
        self.results = write_results(run.plan)
        self.view = report_view(run, self.results, wall_seconds)
        if self._files() != before or REPORT not in before:
            self.write_report()

    @property
    def report(self) -> str:
        """Where the report is."""
        return self.plan.place(REPORT)

    def write_report(self) -> None:
        """Write the report of this run, over what may be there."""
        self.plan.write(REPORT, lambda path: page.write(self.view, path))

    def _files(self) -> dict[str, bytes]:
        """Name -> digest of the files that are there."""
        with tempfile.TemporaryDirectory(prefix="selfloop-") as scratch:
            there = self.plan.copies((REPORT, RESULTS), Path(scratch))
            return {path.name: sha256(path.read_bytes()).digest() for path in there}

    def track(self) -> list[str]:
        """Write to MLflow what it lacks; trouble with it is printed and returned, never raised."""
        try:
            warnings = self._sync()
        except Exception as error:  # what is drawn for MLflow must cost no result either
            warnings = [tracking.trouble(self.run.tracking_uri, error)]
        self._say(*warnings)
        return warnings

    def _sync(self) -> list[str]:
        with tempfile.TemporaryDirectory(prefix="selfloop-figures-") as scratch:
            files = {
                scenario: [tracking.Artifact(path, "figures") for path in paths]
                for scenario, paths in page.artifacts(self.view, Path(scratch)).items()
            }
            files[""] = [
                tracking.Artifact(path)
                for path in self.plan.copies((REPORT, RESULTS), Path(scratch))
            ]
            tracked = tracked_sweep(self.plan, self.run.progress, self.results, files)
            runs = tracking.plan(tracked)
            return tracking.sync(self.run.tracking_uri, self.plan.sweep.name, runs)

    def _say(self, *sentences: str) -> None:
        for sentence in filter(None, sentences):
            self.run.console.print(sentence, style="yellow", highlight=False, markup=False)

    def summarise(self) -> None:
        """The final tables, the verdicts and the paths, for a person at a terminal."""
        results = self.plan.place(RESULTS)
        paths = terminal.Paths(results, self.report, masked(self.run.tracking_uri))
        terminal.summary(self.run.console, self.view, paths)


def conclude(run: Run, wall_seconds: float) -> None:
    """Write results table, report and MLflow, and print the summary."""
    conclusion = Conclusion(run, wall_seconds)
    conclusion.write_report()
    conclusion.track()
    conclusion.summarise()


# --- the results table ---------------------------------------------------------------------------


def write_results(plan: Plan) -> pd.DataFrame:
    """`results.parquet`: one row per number, in one order; published whole or not at all."""
    parts = [*_fairness(plan), *_generators(plan), *_dynamics(plan)]
    results = pd.concat([pd.DataFrame(columns=list(COLUMNS)), *parts], ignore_index=True)
    order = list(COLUMNS[: COLUMNS.index("value")])
    results = results.sort_values(order, kind="stable", ignore_index=True)
    assert not results.duplicated(order).any(), "rows of the results table are unique"
    written = results.copy(deep=False)  # pandas copies attributes with every operation
    written.attrs[earlier.ABOUT] = earlier.about(plan)
    plan.write(RESULTS, lambda path: written.to_parquet(path, index=False))
    return results


def _rows(plan: Plan, stage: Stage) -> pd.DataFrame:
    record = plan.records[stage.key]
    return tables.read(plan.store.path(record, ROWS)).to_pandas()


def _published(plan: Plan, kind: str) -> Iterator[tuple[Node, Record]]:
    for node in plan.graph.of_kind(kind):
        if node.stage.key in plan.records:
            yield node, plan.records[node.stage.key]


def _fairness(plan: Plan) -> Iterator[pd.DataFrame]:
    for node, _ in _published(plan, "fairness"):
        for place in node.places:
            yield _rows(plan, node.stage).assign(scenario=place.scenario)


def _generators(plan: Plan) -> Iterator[pd.DataFrame]:
    for node, _ in _published(plan, "generator_metrics"):
        for place in node.places:
            rows = _rows(plan, node.stage)
            rows["loop_seed"] = pd.array([place.loop_seed] * len(rows), dtype="Int64")
            yield rows.assign(scenario=place.scenario, classifier=place.classifier)


def _dynamics(plan: Plan) -> Iterator[pd.DataFrame]:
    for node, _ in _published(plan, "dynamics"):
        yield _rows(plan, node.stage)


# --- the report ----------------------------------------------------------------------------------


def report_view(run: Run, results: pd.DataFrame, wall_seconds: float) -> ReportView:
    """Everything that the report and the terminal show."""
    plan, progress = run.plan, run.progress
    last = max((record.published for record in plan.records.values()), default=0.0)
    places = {"storage", "storage_shared", "resources", "tracking"}
    settings = plan.sweep.model_dump(mode="json", exclude=places)
    return ReportView(
        name=plan.sweep.name,
        question=QUESTION,
        results=results,
        scenarios=tuple(_scenario(plan, scenario) for scenario in plan.scenarios),
        verdicts=tuple(_verdicts(plan)),
        fit=tuple(_fit(plan)),
        laws=tuple(_laws(plan)),
        claims=tuple(_claim(entry) for entry in _entries(plan, "claims", "claims")),
        decomposition=tuple(Part(**entry) for entry in _entries(plan, "claims", "decomposition")),
        readings=tuple(ReadingRow(**entry) for entry in _entries(plan, "claims", "readings")),
        fid_absent=_fid_absent(plan),
        failures=tuple(_failures(progress)),
        stages=tuple(_stage_uses(plan, progress)),
        warnings=(*run.warnings, *_statements(plan)),
        config_yaml=dumped(settings),
        finished=_iso(last),
        version=__version__,
        level=plan.sweep.evaluation.level,
        wall_seconds=wall_seconds,
        null=tuple(Null(**entry) for entry in _entries(plan, "claims", "null")),
        declared=_declared(run),
    )


def _declared(run: Run) -> Declared:
    """What was frozen, and when; without a time where nothing of it was written."""
    found, mark = run.declaration, "primary: "
    primary = [s.removeprefix(mark) for s in declaration.sentences(found) if s.startswith(mark)]
    at = "" if found.declared is None else _iso(found.declared)
    others = declaration.others(found, run.plan.sweep.name, run.plan.store.blobs)
    return Declared(found.hash, at, run.declared_before, tuple(primary), others)


def _iso(seconds: float) -> str:
    """Unix time as ISO 8601, to the second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _claim(entry: Mapping[str, Any]) -> Claim:
    networks = (Network(**_numbers(one)) for one in entry["networks"])
    return Claim(**{**entry, "networks": tuple(networks)})


def _scenario(plan: Plan, scenario: Scenario) -> ScenarioView:
    sweep = arms.adapted(scenario.sweep)
    record = plan.records.get(plan.dataset(scenario.name).key)
    known = record.summary if record else {"class_names": (), "subgroup_names": ()}
    shared = sweep.loop.chain == "shared" and sweep.filter.uses_expert
    shared &= arms.generates(sweep)
    axes = [path.removeprefix("dataset.") for path in scenario.values]
    return ScenarioView(
        name=scenario.name,
        title=f"{told.title(sweep.dataset, axes)}, {scenario.name}",
        axes={path: str(value) for path, value in scenario.values.items()},
        class_names=tuple(known["class_names"]),
        subgroup_names=tuple(known["subgroup_names"]),
        classifiers=sweep.classifiers,
        loop_seeds=sweep.loop.loop_seeds,
        expert=str(sweep.expert.classifier) if shared else "",
        samples=tuple(_samples(plan, scenario)),
        audits=tuple(_audits(plan, scenario)),
        generators=tuple(_outcomes(plan, scenario)),
        group=arms.group(scenario),
        arm=sweep.loop.arm,
        dataset=sweep.dataset.name,
        initialization=told.initialization(sweep.dataset),
        differences=told.differences(sweep.dataset),
        of_the_paper=told.of_the_paper(sweep.dataset),
        pretrained=bool(sweep.training.pretrained),
        clip=next((score.name for score in sweep.filter.scores if score.settings == "clip"), ""),
        base=getattr(sweep.generator, "base", ""),
    )


def _of(plan: Plan, kind: str, scenario: Scenario) -> Iterator[tuple[Place, Stage, Record]]:
    """Published stages of one kind in one scenario, by place."""
    found = [
        (place, node.stage, plan.records[node.stage.key])
        for place, node in plan.graph.placed(kind, scenario.name)
        if node.stage.key in plan.records
    ]
    yield from sorted(found, key=lambda entry: entry[0])


def _samples(plan: Plan, scenario: Scenario) -> Iterator[Samples]:
    """Grid images of the first loop seed: original images, then each generation's kept ones."""
    first = scenario.sweep.loop.loop_seeds[0]
    dataset = _reader(plan.dataset(scenario.name))
    classes = 0
    for place, kept, _ in _of(plan, "kept", scenario):
        if place.loop_seed != first:
            continue
        if place.generation == 1:
            train = Inputs(dataset, plan.store).split("train", "self")
            classes = len(train.class_names)
            images = _grid(train.images, train.labels, classes)
            yield Samples(first, 0, images, classifier=place.classifier)
        inputs = Inputs(_reader(kept), plan.store)
        images = _grid(inputs.images("self"), inputs.array("self", "labels"), classes)
        yield Samples(first, place.generation, images, classifier=place.classifier)


def _reader(stage: Stage) -> Stage:
    """A stage that has ``stage`` as its only input, to read what it published."""
    return Stage("reader", 0, {}, {"self": stage.key})


def _grid(images: ImageSource, labels: Ids, classes: int) -> Images:
    """The first images of each class, ``(classes, k, C, H, W)``; black where there are fewer."""
    images = _small(images)
    grid = np.zeros((classes, SAMPLES_PER_CLASS, *images.shape[1:]), np.uint8)
    for label in range(classes):
        rows = np.flatnonzero(labels == label)[:SAMPLES_PER_CLASS]
        grid[label, : len(rows)] = images[rows]
    return grid


def _small(images: ImageSource) -> ImageSource:
    """Pictures as a grid shows them: all of what classifiers see, but smaller."""
    view = view_of(images)
    if view is None or view.side <= SHOWN_SIDE:
        return images
    frame = math.ceil(SHOWN_SIDE * view.frame / view.side)
    return seen(images, View(SHOWN_SIDE, frame, view.fit))


def _audits(plan: Plan, scenario: Scenario) -> Iterator[FilterAudit]:
    for place, stage, record in _of(plan, "kept", scenario):
        found = record.summary
        names = plan.records[stage.inputs["dataset"]].summary
        before, after = _shares(found, "generated"), _shares(found, "kept")
        yield FilterAudit(
            loop_seed=place.loop_seed,
            generation=place.generation,
            score=stage.config["score"],
            generated=found["generated"],
            kept=found["kept"],
            thresholds={
                name: value
                for name, value in zip(
                    names["class_names"], found["threshold_per_class"], strict=True
                )
                if value is not None
            },
            share_shift=dict(zip(names["subgroup_names"], after - before, strict=True)),
            share_before=dict(zip(names["subgroup_names"], before, strict=True)),
            share_after=dict(zip(names["subgroup_names"], after, strict=True)),
            classifier=place.classifier,
        )


def _shares(audit: Any, which: str) -> Any:
    counts = np.asarray(audit[f"{which}_per_subgroup"], np.float64)
    return counts / max(counts.sum(), 1.0)


def _outcomes(plan: Plan, scenario: Scenario) -> Iterator[GeneratorOutcome]:
    for place, stage, _ in _of(plan, "samples", scenario):
        key = stage.inputs.get("generator", "")
        trained = plan.records[key].summary["outcome"] if key in plan.records else "not trained"
        yield GeneratorOutcome(
            place.loop_seed, place.generation, trained, classifier=place.classifier
        )


def _statements(plan: Plan) -> list[str]:
    """What a reader must know of the data behind the numbers, each sentence once."""
    said = dict.fromkeys(_filling(scenario) for scenario in plan.scenarios)
    for node, record in _published(plan, "search"):
        network = node.stage.config["network"]
        said[f"Searched at generation 0: {search.sentence(network, record.summary)}."] = None
    for node, record in _published(plan, "classifier"):
        said[record.summary["training_set"]["statement"]] = None
        if node.awaited and record.summary["collapsed"]:
            said[f"{node.places[0]} is collapsed, and the filter or the judge reads it."] = None
    said |= dict.fromkeys(_stopped_early(plan))
    for scenario in plan.scenarios:
        said |= dict.fromkeys(
            (_damage(plan, scenario), _resampled(plan, scenario), _skewed(plan, scenario))
        )
    return [sentence for sentence in said if sentence]


def _stopped_early(plan: Plan) -> Iterator[str]:
    """Of each group of arms: how often patience, not the budget, ended a training."""
    members: dict[str, list[Scenario]] = defaultdict(list)
    for scenario in plan.scenarios:
        members[arms.group(scenario)].append(scenario)
    for group, scenarios in members.items():
        trials: dict[str, Mapping[str, Any]] = {}  # key -> summary; arms share generation 0
        steps = []
        for scenario in scenarios:
            own = {s.key: r.summary for _, s, r in _of(plan, "classifier", scenario)}
            if own:
                mean = np.mean([summary["steps"] for summary in own.values()])
                steps.append(f"{scenario.sweep.loop.arm} {mean:.0f}")
            trials |= own
        stopped = sum(summary["outcome"] == "early_stopped" for summary in trials.values())
        if stopped:
            yield (
                f"{group}: early stopping ended {stopped} of {len(trials)} trainings before their "
                f"budget; mean optimiser steps: {', '.join(steps)}."
            )


def _damage(plan: Plan, scenario: Scenario) -> str:
    """Which damaged files are not among the data, or may be; empty where all are sound."""
    record = plan.records.get(plan.dataset(scenario.name).key)
    summary = record.summary if record else {}
    if not summary.get("official", True):
        return (
            f"{scenario.name}: the files are not the official MNIST: they are damaged, or another "
            "set in its form."
        )
    names = summary.get("left_out", [])
    more = f" and {len(names) - MOST_FILES:,} more" if len(names) > MOST_FILES else ""
    said = (
        f"{scenario.name}: {len(names):,} damaged files are left out of the data: "
        f"{', '.join(names[:MOST_FILES])}{more} (all: `left_out` in the dataset's record)."
    )
    return said if names else ""


def _resampled(plan: Plan, scenario: Scenario) -> str:
    """What `queue.tilt` and arm `subgroup_matched` could not do; empty where that is nothing."""
    repeated = _total(plan, "kept", scenario, "repeated")
    missing = _total(plan, "kept", scenario, "missing")
    parts = [f"{repeated} kept images were repeated"] if repeated else []
    if missing:
        parts.append(
            f"{missing} were missing because no image of their subgroup was kept in their class "
            "(other subgroups stand in for them)"
        )
    return f"{scenario.name}: for the asked subgroup shares {', '.join(parts)}." if parts else ""


def _skewed(plan: Plan, scenario: Scenario) -> str:
    """Where arm `real_skewed` is not what it should be; empty where that is nowhere."""
    repeated = _total(plan, "samples", scenario, "repeated")
    unread = _total(plan, "samples", scenario, "unread_classes")
    parts = [f"{repeated} real images were repeated"] if repeated else []
    if unread:
        parts.append(
            f"the shares of {unread} classes (of all generations and chains) could not be read "
            "from generated images, and are the original ones"
        )
    return f"{scenario.name}: {', '.join(parts)}." if parts else ""


def _total(plan: Plan, kind: str, scenario: Scenario, name: str) -> int:
    """A count in the summaries of one kind, over all generations and chains of a scenario."""
    return sum(record.summary.get(name, 0) for _, _, record in _of(plan, kind, scenario))


def _filling(scenario: Scenario) -> str:
    """Which steps change the dose as well as the generation; empty where none does."""
    regime, capacity = scenario.sweep.loop.regime, scenario.sweep.queue.capacity
    last = scenario.sweep.loop.generations if arms.generates(scenario.sweep) else 0
    mixed = scenario.sweep.queue.mixing.ratio != "all"
    if last == 0 or mixed or regime not in ("stack", "accumulate"):
        return ""
    until = min(capacity, last) if regime == "stack" else last
    return (
        f"{scenario.name}: the queue grows up to generation {until}; until then each generation "
        "trains on more generated images than the one before, so that dose and generation are "
        "confounded in these steps."
    )


def _verdicts(plan: Plan) -> Iterator[Verdict]:
    yield from (Verdict(**entry) for entry in _entries(plan, "dynamics", "verdicts"))


def _fit(plan: Plan) -> Iterator[FitNumber]:
    yield from (FitNumber(**entry) for entry in _entries(plan, "dynamics", "fit"))


def _laws(plan: Plan) -> Iterator[Law]:
    for entry in _entries(plan, "dynamics", "laws"):
        found = ", ".join(f"{name} = {value:.3g}" for name, value in entry["parameters"].items())
        yield Law(**{**entry, "parameters": found})


def _entries(plan: Plan, kind: str, what: str) -> Iterator[dict[str, Any]]:
    """A list in the summary of the one stage of a kind, with NaN where a number is null."""
    for _, record in _published(plan, kind):
        yield from (_numbers(entry) for entry in record.summary[what])


def _fid_absent(plan: Plan) -> str:
    """Why the sweep has no FID; empty where it has one, or no generated data."""
    found = (record.summary.get("fid_absent", "") for _, record in _published(plan, "reference"))
    return next((reason for reason in found if reason), "")


def _numbers(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A record's entry with NaN where it says null; what is not a number keeps its null."""
    plain = ("better_than_persistence",)
    return {
        name: float("nan") if value is None and name not in plain else value
        for name, value in entry.items()
    }


def _failures(progress: Progress) -> Iterator[Failure]:
    """Failed stages, and those that could not run because of them."""
    errors = dict(progress.failed)
    for node in progress.blocked():
        errors[node.stage.key] = "not run: a stage that it needs has failed"
    for node in progress.graph:
        if node.stage.key in errors:
            yield _failure(node, errors[node.stage.key])


def _failure(node: Node, error: str) -> Failure:
    place = node.places[0]
    return Failure(
        place.scenario,
        place.loop_seed,
        place.generation,
        node.stage.kind,
        place.classifier,
        place.seed if place.seed >= 0 else None,
        error,
    )


def _stage_uses(plan: Plan, progress: Progress) -> Iterator[StageUse]:
    nodes: dict[str, list[Node]] = defaultdict(list)
    for node in plan.graph:
        nodes[line_of(node)].append(node)
    for line, members in nodes.items():
        keys = [node.stage.key for node in members]
        seconds = [plan.records[key].seconds for key in keys if key in plan.records]
        yield StageUse(
            stage=line,
            computed=sum(key in progress.done for key in keys),
            cached=sum(key in progress.cached for key in keys),
            failed=sum(key in progress.failed for key in keys),
            core_seconds=sum(seconds),
            longest=max(seconds, default=0.0),
        )


# --- MLflow --------------------------------------------------------------------------------------


def tracked_sweep(
    plan: Plan,
    progress: Progress,
    results: pd.DataFrame,
    files: Mapping[str, list[tracking.Artifact]],
) -> tracking.TrackedSweep:
    """What MLflow is to hold."""
    return tracking.TrackedSweep(
        name=plan.sweep.name,
        key=plan.sweep.name,
        results=results,
        params={
            scenario.name: {path: str(value) for path, value in scenario.values.items()}
            for scenario in plan.scenarios
        },
        published={_trial(p): ms for p, ms in _times(plan, "classifier") if p.seed >= 0},
        generators={
            (place.scenario, place.loop_seed, place.generation): ms
            for place, ms in _times(plan, "generator_metrics")
        },
        failed=frozenset(
            _trial(place)
            for key in progress.failed
            for place in plan.graph.nodes[key].places
            if place.seed >= 0
        ),
        artifacts=files,
    )


def _times(plan: Plan, kind: str) -> Iterator[tuple[Place, int]]:
    for node, record in _published(plan, kind):
        for place in node.places:
            yield place, round(record.published * 1000)


def _trial(place: Place) -> tracking.Trial:
    return tracking.Trial(
        place.scenario, place.loop_seed, place.generation, place.classifier, place.seed
    )
