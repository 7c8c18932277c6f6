"""Everything that the report and the terminal show of a run, read from its records."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from ray_selfloop import __version__, arms, declaration, told
from ray_selfloop.conclusion import grids
from ray_selfloop.conclusion.amplifications import amplifications
from ray_selfloop.conclusion.endings import counted
from ray_selfloop.conclusion.published import of_scenario, published
from ray_selfloop.conclusion.sentences import statements
from ray_selfloop.config.plain import dumped
from ray_selfloop.config.sweep import Scenario
from ray_selfloop.evaluation import metrics, states
from ray_selfloop.graph import Node
from ray_selfloop.measurements import KINDS as MEASURED
from ray_selfloop.planning import Plan
from ray_selfloop.progress import Progress
from ray_selfloop.report.view import (
    AxisEffect,
    Claim,
    Declared,
    Failure,
    FilterAudit,
    FitNumber,
    GeneratorOutcome,
    Law,
    Look,
    Network,
    Null,
    Part,
    Positive,
    ReadingRow,
    ReportView,
    RestPoint,
    ScenarioView,
    StageUse,
    Verdict,
)
from ray_selfloop.running import Run
from ray_selfloop.stages import axes, claims, equation6, kept, reference, samples
from ray_selfloop.stages.kind import Kind
from ray_selfloop.stages.kinds import line_of
from ray_selfloop.store import memory

R = TypeVar("R")
INTENDED = (metrics.ACCURACY.name, metrics.with_suffix(metrics.ACCURACY.name, "change"))
"""Means over all trials, in whatever state."""
QUESTION = "Does training on generated data amplify bias across generations?"


def report_view(run: Run, results: pd.DataFrame, wall_seconds: float) -> ReportView:
    """Everything that the report and the terminal show."""
    plan, progress = run.plan, run.progress
    last = max((record.published for record in plan.records.values()), default=0.0)
    places = {"storage", "storage_shared", "resources", "tracking"}
    settings = plan.sweep.model_dump(mode="json", exclude=places)
    of_trials = states.of_results(results)
    return ReportView(
        name=plan.sweep.name,
        question=QUESTION,
        results=states.of_one_state(results, of_trials[~of_trials["collapsed"]], INTENDED),
        states=counted(of_trials),
        scenarios=tuple(_scenario(plan, scenario) for scenario in plan.scenarios),
        verdicts=tuple(Verdict(**_numbers(found)) for found in amplifications(plan)),
        fit=_rows(plan, equation6.KIND, "fit", FitNumber),
        laws=_rows(plan, equation6.KIND, "laws", Law),
        rests=_rows(plan, equation6.KIND, "rests", RestPoint),
        claims=_rows(plan, claims.KIND, "claims", _claim),
        decomposition=_rows(plan, claims.KIND, "decomposition", Part),
        readings=_rows(plan, claims.KIND, "readings", ReadingRow),
        fid_absent=_fid_absent(plan),
        failures=tuple(_failures(progress)),
        stages=tuple(_stage_uses(plan, progress)),
        warnings=(*run.warnings, *statements(plan)),
        config_yaml=dumped(settings),
        finished=_iso(last),
        version=__version__,
        level=plan.sweep.evaluation.level,
        wall_seconds=wall_seconds,
        null=_rows(plan, claims.KIND, "null", Null),
        axes=_rows(plan, axes.KIND, "effects", AxisEffect),
        positive=_rows(plan, claims.KIND, "positive", Positive),
        declared=_declared(run),
        chain_hours=_chain_hours(plan),
        driver_memory=math.nan if math.isnan(wall_seconds) else float(memory.peak() or math.nan),
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


def _claim(
    networks: list[dict[str, Any]], looks: Sequence[dict[str, Any]] = (), **entry: Any
) -> Claim:
    return Claim(
        **entry,
        networks=tuple(Network(**_numbers(one)) for one in networks),
        looks=tuple(Look(**_numbers(one)) for one in looks),
    )


def _chain_hours(plan: Plan) -> float:
    """Core-hours of one chain, the mean of those so far; NaN before any."""
    hours: dict[int, float] = defaultdict(float)
    for node in plan.graph:
        seeds = {place.loop_seed for place in node.places}
        if len(seeds) == 1 and node.stage.key in plan.records and node.stage.kind not in MEASURED:
            hours[seeds.pop()] += plan.records[node.stage.key].seconds / 3600
    return sum(hours.values()) / len(hours) if hours else float("nan")


def _scenario(plan: Plan, scenario: Scenario) -> ScenarioView:
    sweep = arms.adapted(scenario.sweep)
    record = plan.records.get(plan.dataset(scenario.name).key)
    known = record.summary if record else {"class_names": (), "subgroup_names": ()}
    shared = sweep.loop.chain == "shared" and sweep.filter.uses_expert
    shared &= arms.generates(sweep)
    told_of = [path.removeprefix("dataset.") for path in scenario.values]
    return ScenarioView(
        name=scenario.name,
        title=f"{told.title(sweep.dataset, told_of)}, {scenario.name}",
        axes={path: str(value) for path, value in scenario.values.items()},
        class_names=tuple(known["class_names"]),
        subgroup_names=tuple(known["subgroup_names"]),
        classifiers=sweep.classifiers,
        loop_seeds=sweep.loop.loop_seeds,
        expert=str(sweep.expert.classifier) if shared else "",
        samples=tuple(grids.samples(plan, scenario)),
        audits=tuple(_audits(plan, scenario)),
        generators=tuple(_outcomes(plan, scenario)),
        group=arms.group(scenario),
        arm=sweep.loop.arm,
        dataset=sweep.dataset.name,
        initialization=sweep.dataset.start,
        differences=told.differences(sweep.dataset),
        of_the_paper=told.of_the_paper(sweep.dataset),
        pretrained=bool(sweep.training.pretrained),
        own_clip=any(score.trained for score in sweep.filter.scores),
        base=getattr(sweep.generator, "base", ""),
    )


def _audits(plan: Plan, scenario: Scenario) -> Iterator[FilterAudit]:
    for place, stage, record in of_scenario(plan, kept.KIND, scenario):
        found = record.summary
        names = plan.records[stage.inputs["dataset"]].summary
        before, after = _shares(found, "generated"), _shares(found, "kept")
        yield FilterAudit(
            loop_seed=place.loop_seed,
            generation=place.generation,
            score=kept.KIND.read(stage.config).filter.score,
            generated=found["generated"],
            kept=found["kept"],
            thresholds={
                name: value
                for name, value in zip(
                    names["class_names"], found["threshold_per_class"], strict=True
                )
                if value is not None
            },
            share_before=dict(zip(names["subgroup_names"], before, strict=True)),
            share_after=dict(zip(names["subgroup_names"], after, strict=True)),
            classifier=place.classifier,
        )


def _shares(audit: Any, which: str) -> Any:
    counts = np.asarray(audit[f"{which}_per_subgroup"], np.float64)
    return counts / max(counts.sum(), 1.0)


def _outcomes(plan: Plan, scenario: Scenario) -> Iterator[GeneratorOutcome]:
    for place, stage, _ in of_scenario(plan, samples.KIND, scenario):
        key = stage.inputs.get("generator", "")
        trained = plan.records[key].summary["outcome"] if key in plan.records else "not trained"
        yield GeneratorOutcome(
            place.loop_seed, place.generation, trained, classifier=place.classifier
        )


def _rows(plan: Plan, kind: Kind[Any], what: str, row: Callable[..., R]) -> tuple[R, ...]:
    """A list in the summary of the one stage of a kind, with NaN where a number is null."""
    found = (entry for _, record in published(plan, kind) for entry in record.summary.get(what, ()))
    return tuple(row(**_numbers(entry)) for entry in found)


def _fid_absent(plan: Plan) -> str:
    """Why the sweep has no FID; empty where it has one, or no generated data."""
    found = (record.summary.get("fid_absent", "") for _, record in published(plan, reference.KIND))
    return next((reason for reason in found if reason), "")


def _numbers(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A record's entry with NaN where it says null; what is not a number keeps its null."""
    plain = ("better_than_persistence",)
    return {name: value if name in plain else _number(value) for name, value in entry.items()}


def _number(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _number(one) for name, one in value.items()}
    return float("nan") if value is None else value


def _failures(progress: Progress) -> Iterator[Failure]:
    """Failed stages, and those that could not run because of them."""
    errors = dict(progress.failed)
    for node in progress.blocked():
        errors[node.stage.key] = "not run: a stage that it needs has failed"
    for node in progress.graph:
        if node.stage.key in errors:
            scenario, loop_seed, n, classifier, seed = node.places[0]
            where = (scenario, loop_seed, n, node.stage.kind, classifier)
            yield Failure(*where, seed if seed >= 0 else None, errors[node.stage.key])


def _stage_uses(plan: Plan, progress: Progress) -> Iterator[StageUse]:
    nodes: dict[str, list[Node]] = defaultdict(list)
    for node in plan.graph:
        nodes[line_of(node)].append(node)
    for line, members in nodes.items():
        keys = [node.stage.key for node in members]
        seconds = [plan.records[key].seconds for key in keys if key in plan.records]
        peaks = [plan.records[key].memory for key in keys if key in plan.records]
        yield StageUse(
            stage=line,
            computed=sum(key in progress.done for key in keys),
            cached=sum(key in progress.cached for key in keys),
            failed=sum(key in progress.failed for key in keys),
            core_seconds=sum(seconds),
            longest=max(seconds, default=0.0),
            memory=max((m for m in peaks if not math.isnan(m)), default=math.nan),
        )
