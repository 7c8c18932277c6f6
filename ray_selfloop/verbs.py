"""What the verbs do: what each looks up or computes, and what it says or writes.

Of these `run` alone computes. Their names, flags and help: `cli.py`.
"""

import contextlib
import gc
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray_selfloop import arms, command
from ray_selfloop.config.arms import CONTROL
from ray_selfloop.config.plain import masked
from ray_selfloop.config.sweep import Scenario
from ray_selfloop.config.words import arguments
from ray_selfloop.distributed import starting
from ray_selfloop.distributed.jobs import job as jobs
from ray_selfloop.errors import (
    DONE,
    FAILED,
    INTERRUPTED,
    TRY_AGAIN,
    StorageError,
)
from ray_selfloop.graph import Node
from ray_selfloop.planning import Plan, learned, prepare
from ray_selfloop.stages import claims, classifier, generator, kinds
from ray_selfloop.stages.kinds import line_of
from ray_selfloop.store import failures

if TYPE_CHECKING:
    from ray_selfloop.claims.noise import Scatter
    from ray_selfloop.claims.power import Costs as Shares
    from ray_selfloop.conclusion.conclude import Conclusion
    from ray_selfloop.declaration import Declaration
    from ray_selfloop.distributed.jobs.job import Options
    from ray_selfloop.estimates import Costs
    from ray_selfloop.running import Run


def run(words: Sequence[str], again: Sequence[str]) -> int:
    """Compute what is missing of a sweep, and conclude; the exit code. again: to go on with."""
    started = time.monotonic()
    plan = prepare(words, look=0)
    missing = len(plan.graph) - len(plan.records)
    said = starting.sentence(missing, plan.sweep.resources)
    print(f"sweep {plan.sweep.name}: {said}", flush=True)
    from ray_selfloop import deciding
    from ray_selfloop.running import Run  # after that line: loads scipy

    interrupted = _on_signals()
    with contextlib.ExitStack() as started_ray:
        further: Plan | None = plan
        while further is not None:
            started_ray.close()
            run = started_ray.enter_context(Run(further))
            run.execute(interrupted)
            if interrupted.is_set():
                published = len(run.progress.published)
                print(
                    f"\ninterrupted; {published} of {len(run.plan.graph)} stages are published. "
                    f"Resume with: {command.shown(again)}",
                    file=sys.stderr,
                )
                return INTERRUPTED
            further = deciding.further(run, words, run.say)
        run.leave()
        from ray_selfloop.conclusion.conclude import conclude  # takes seconds to load

        conclude(run, time.monotonic() - started)
        if used := run.used():
            print(used)
        if run.progress.failed:
            return FAILED
        return TRY_AGAIN if run.plan.corrupt else DONE


def _on_signals() -> threading.Event:
    """Set by the first SIGINT or SIGTERM; the second one is a KeyboardInterrupt."""
    interrupted = threading.Event()

    def handle(number: int, frame: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        print("\nstopping: nothing new is started; once more to stop at once", file=sys.stderr)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return interrupted


@contextlib.contextmanager
def _nothing_to_collect() -> Iterator[None]:
    """Stages hold no cycles; looking for some takes a third of planning 60,000."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@_nothing_to_collect()
def plan(words: Sequence[str], calibrate: bool = False) -> None:
    """Stages by kind and what the missing ones take; what is declared; what could be found.

    calibrate: whether reference costs are scaled by the speed of this machine.
    """
    from ray_selfloop.estimates import slower

    found = prepare(words, writes=False)
    costs = learned(found)
    costs.slower = slower() if calibrate else 1.0
    print(f"sweep {found.sweep.name}: {len(found.scenarios)} scenarios, {len(found.graph)} stages")
    print(*found.warnings, sep="\n", end="\n" if found.warnings else "")
    print(f"{'stage':32}{'all':>6}{'published':>11}{'missing':>9}{'core-seconds':>14}")
    for line, every, published, missing, spent in table(found, costs):
        cost = "not known" if spent is None else f"{spent:,.0f}"
        print(f"{line:32}{every:6}{published:11}{missing:9}{cost:>14}")
    print(*_predicted(found, costs, calibrate), sep="\n")
    from ray_selfloop.distributed import placement  # after validation: may load torch
    from ray_selfloop.running import Run

    trials = (node.stage for node in found.graph.of_kind(classifier.KIND.name))
    said, run = placement.sentences(trials, found.sweep.resources), Run(found)
    shares = _shares(found, costs)
    run.find_measurements()
    print(*said, *_declared(run), *_detectable(found, run.declaration, shares), sep="\n")


def table(found: Plan, costs: "Costs") -> Iterator[tuple[str, int, int, int, float | None]]:
    """Stages by kind: all, published, missing, and core-seconds of the missing ones, if known."""
    from ray_selfloop.estimates import UNKNOWN

    for line, nodes in _lines(found).items():
        missing = [node for node in nodes if node.stage.key not in found.records]
        known = UNKNOWN not in map(costs.source, missing)
        spent = sum(map(costs.core_seconds, missing)) if known else None
        yield line, len(nodes), len(nodes) - len(missing), len(missing), spent


def _predicted(found: Plan, costs: "Costs", calibrated: bool) -> Iterator[str]:
    """What the missing stages take, together and by the clock, and by what that is known."""
    from ray_selfloop import estimates
    from ray_selfloop.distributed.limits import limits
    from ray_selfloop.report.numbers import seconds

    missing = [node for node in found.graph if node.stage.key not in found.records]
    if not missing:
        yield "no stage of the loop is missing"
        return
    machine, asked = limits(), found.sweep.resources.num_cpus
    cores = min(asked or machine.workers, machine.whole_cores)
    slots = max(1, cores // found.sweep.compute.threads)
    told = estimates.predicted(missing, costs, slots)
    spent, about = told.core_seconds, told.about
    yield (
        f"missing stages take {about} {spent:,.0f} core-seconds ({spent / 3600:.3g} core-hours): "
        f"{about} {seconds(told.clock)} on {cores} CPU cores of this machine"
    )
    yield f"  predicted by {told.told}"
    if {estimates.REFERENCE, estimates.OTHER} & told.sources.keys():
        scaled = f"times {costs.slower:.2f} for this one, as measured just now"
        remedy = "plan --calibrate scales them to this one"
        yield f"  reference costs are another machine's; {scaled if calibrated else remedy}"


def status(words: Sequence[str]) -> None:
    """Stages published and missing."""
    found = prepare(words, writes=False)
    for line, nodes in _lines(found).items():
        done = sum(node.stage.key in found.records for node in nodes)
        print(f"{line:32}{done:5} of {len(nodes)} published")
    missing = (key for key in found.graph.nodes if key not in found.records)
    for key, failure in failures.of(found.store.blobs, missing).items():
        print(f"failed: {line_of(found.graph.nodes[key])}, {key}: {failure.error}")


def results(words: Sequence[str]) -> None:
    """Print the final tables of what is published."""
    _concluded(words).summarise()


def report(words: Sequence[str]) -> None:
    """Write the results table and the report page again; say where the page is."""
    conclusion = _concluded(words)
    conclusion.write_report()
    print(conclusion.report)


def sync_mlflow(words: Sequence[str]) -> int:
    """Write to MLflow what it lacks of what is published; TRY_AGAIN where that fails."""
    return TRY_AGAIN if _concluded(words).track() else DONE


def submit(words: Sequence[str], options: "Options") -> int:
    """Run the sweep as a job of a cluster, follow it, submit it again where its process dies."""
    job = jobs.described(*arguments(words))
    from ray_selfloop.distributed.jobs import follow  # after validation: loads ray

    return follow.submit(job, options, follow.PACE, masked(jobs.command(words, "--follow")))


def _concluded(words: Sequence[str]) -> "Conclusion":
    """Everything published of a sweep, measured; raises StorageError where that is nothing."""
    found = prepare(words)
    if not found.records:
        raise StorageError(
            f"storage: {found.store.address} holds nothing of sweep {found.sweep.name} yet; run it "
            "first, with python -m ray_selfloop.sweep"
        )
    from ray_selfloop.conclusion.conclude import Conclusion
    from ray_selfloop.running import Run

    run = Run(found)
    run.measure_here()
    return Conclusion(run)


def _declared(run: "Run") -> Iterator[str]:
    """What is judged, and whether it is frozen."""
    from ray_selfloop import declaration

    yield "declared:"
    yield from (f"  {sentence}" for sentence in declaration.sentences(run.declaration))
    when = run.declaration.declared
    if when is not None:
        day = time.strftime("%Y-%m-%d %H:%M", time.gmtime(when))
        late = ", after generation 1 had begun to train: declared after the data"
        yield f"  frozen {day} UTC{'' if run.declared_before else late}"
    elif _has_begun(run.plan):
        yield "  not frozen, and generation 1 has been trained: declared after the data"
    else:
        yield "  will be frozen when the sweep starts, before anything is trained"


def _has_begun(found: Plan) -> bool:
    """Whether a classifier of generation 1 or later is published."""
    trials = (found.published(classifier.KIND.name, scenario.name) for scenario in found.scenarios)
    return any(place.generation for places in trials for place in places)


def _detectable(found: Plan, declared: "Declaration", shares: "Shares") -> Iterator[str]:
    """What could be found in each group of scenarios that differ in the arm alone."""
    groups: dict[str, list[Scenario]] = defaultdict(list)
    for scenario in found.scenarios:
        groups[arms.group(scenario)].append(scenario)
    most = found.sweep.evaluation.claims.most_primary
    together = len(declared.content["primary"]) or min(len(groups), most)
    same: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, scenarios in groups.items():
        same[tuple(_sentences(found, scenarios, together, shares))].append(name)
    for sentences, names in same.items():
        yield "; ".join(names)
        yield from (f"  {sentence}" for sentence in sentences)


def _sentences(
    found: Plan, scenarios: Sequence[Scenario], together: int, shares: "Shares"
) -> Iterator[str]:
    from ray_selfloop.claims import power  # after validation: loads scipy
    from ray_selfloop.stages.claims import described

    sweep = scenarios[0].sweep
    settings, loop = sweep.evaluation, sweep.loop
    controlled = CONTROL in [arms.of(scenario.sweep) for scenario in scenarios]
    if not controlled:
        yield f"without the arm {CONTROL.name} (loop.arm) no claim is tested at all; with it:"
    size, accuracy = power.known_size(sweep.dataset), _accuracy(found, scenarios)
    if size is None:
        yield "minimum detectable effect: not known, the test set's size is not known yet"
        return
    if accuracy is None:
        default = settings.claims.other_accuracy
        accuracy = settings.claims.accuracy.get(sweep.dataset.name, default)
    networks = len(described(scenarios[0]).classifiers)
    design = power.Design(len(loop.loop_seeds), len(loop.classifier_seeds), max(networks, 1))
    scatter = _scatter(found, arms.group(scenarios[0]))
    looks = sweep.decide.looks if sweep.decide else ()
    setting = power.Setting(size, accuracy, design, together, scatter, controlled, looks)
    yield from power.sentences(setting, settings, shares)


def _scatter(found: Plan, group: str) -> "tuple[Scatter, ...]":
    """Measured between chains and seeds of a group; empty where no claims are published."""
    from ray_selfloop.claims.noise import Scatter

    keys = [node.stage.key for node in found.graph.of_kind(claims.KIND.name)]
    rows: list[dict[str, Any]] = [
        {name: float("nan") if value is None else value for name, value in row.items()}
        for key in keys
        if key in found.records
        for row in found.records[key].summary["scatter"]
    ]
    return tuple(Scatter(**row) for row in rows if row["scenario_group"] == group)


def _shares(found: Plan, costs: "Costs") -> "Shares":
    """What a sweep's parts cost in core-hours; in trainings where the cost of one is not known."""
    from ray_selfloop.claims.power import Costs as Shares
    from ray_selfloop.estimates import UNKNOWN

    spent: dict[str, float] = defaultdict(float)
    known = all(costs.source(node) != UNKNOWN for node in found.graph)
    equals = (classifier.KIND.name, generator.KIND.name)  # where a cost is wanting
    for node in found.graph:
        alike = float(node.stage.kind in equals)
        spent[_part(node)] += costs.core_seconds(node) / 3600 if known else alike
    loops = [scenario.sweep.loop for scenario in found.scenarios]
    m = len({seed for loop in loops for seed in loop.loop_seeds})
    s = len({seed for loop in loops for seed in loop.classifier_seeds})
    return Shares(spent["fixed"], spent["chain"] / m, spent["trials"] / m / s, known)


def _part(node: Node) -> str:
    """Which part of the costs a stage belongs to."""
    several = len({place.loop_seed for place in node.places}) > 1
    if several or kinds.of(node.stage).of_data:
        return "fixed"
    return "trials" if node.stage.kind == classifier.KIND.name else "chain"


def _accuracy(found: Plan, scenarios: Sequence[Scenario]) -> float | None:
    """Mean accuracy of the published classifiers of generation 0; None without any."""
    records = [
        found.records[stage.key].summary
        for scenario in scenarios
        for place, stage in found.published(classifier.KIND.name, scenario.name).items()
        if place.generation == 0
    ]
    known = [r["accuracy"] for r in records if "accuracy" in r and not r["collapsed"]]
    return sum(known) / len(known) if known else None


def _lines(found: Plan) -> Mapping[str, list[Node]]:
    lines: dict[str, list[Node]] = defaultdict(list)
    for node in found.graph:
        lines[line_of(node)].append(node)
    return lines
