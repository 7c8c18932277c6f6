"""One run of a plan: what is missing is computed, then measured, with a live table meanwhile.

Ray is started only where something is missing.
"""

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console

from ray_selfloop import declaration, measurements
from ray_selfloop.declaration import Declaration
from ray_selfloop.errors import StorageError
from ray_selfloop.estimates import Left
from ray_selfloop.graph import Node
from ray_selfloop.planning import Plan, learned, tracking_uri
from ray_selfloop.progress import Progress
from ray_selfloop.stages import classifier, generator_metrics
from ray_selfloop.stages.kinds import line_of
from ray_selfloop.stages.run import execute
from ray_selfloop.store import failures, leases
from ray_selfloop.store.blobs import Blobs
from ray_selfloop.store.records import check_storage

if TYPE_CHECKING:
    from ray_selfloop.distributed.driver import Scheduler
    from ray_selfloop.report import terminal

REFRESH = 0.5  # s


class Run:
    """The state of one run of the command."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.began = time.monotonic()
        self.progress = Progress(plan.graph)
        self.warnings = list(plan.warnings)
        self.console = Console()
        self.declaration = declaration.declared(plan.sweep, plan.scenarios)
        self._scheduler: Scheduler | None = None
        self._tracking = threading.Thread(target=self._prepare_tracking, daemon=True)

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._scheduler:
            from ray_selfloop.distributed.cluster import leave

            self._scheduler.close()
            leave()
            self._tracking.join()  # a database that is half made cannot be opened again

    @property
    def tracking_uri(self) -> str:
        """Where MLflow keeps this sweep."""
        return tracking_uri(self.plan.sweep, self.plan.store.address)

    def execute(self, interrupted: threading.Event) -> None:
        """Compute what is missing: first the loop, then the measurements of what it published."""
        for sentence in self.plan.warnings:
            self.say(sentence)
        self.progress.cached |= self.plan.records.keys()
        self._clear_up()
        self._declared(declaration.read)
        self._compute(interrupted)
        if self.plan.corrupt and not interrupted.is_set():  # damaged since it was published
            self._compute(interrupted)
        if not interrupted.is_set():
            self._add_measurements()
            self._compute(interrupted)
            if self._scheduler:
                self._tracking.join()

    def _clear_up(self) -> None:
        """What killed drivers and failed runs have left of published stages goes away."""
        stored, published = self.plan.store.blobs, self.plan.records.keys()
        with contextlib.suppress(StorageError):  # nothing depends on it
            leases.clear(stored, published)
            failures.forget(stored, published)

    def find_measurements(self) -> None:
        """Add the measurements of what is published, and look them up; runs and writes nothing."""
        self.progress.cached |= self.plan.records.keys()
        self._know_failures()
        self._declared(declaration.read)
        self._add_measurements()

    def measure_here(self) -> None:
        """Measure what is published, in this process and without Ray; what has failed is known."""
        self.find_measurements()
        self.plan.set_aside()
        for node in self.progress.ready():
            if node.stage.kind in measurements.KINDS:
                execute(node.stage, self.plan.store)
                self.progress.done.add(node.stage.key)
        self.plan.look_up(measurements.KINDS)
        self._know_failures()

    def _know_failures(self) -> None:
        """What of the missing stages has failed, in any run."""
        missing = (key for key in self.plan.graph.nodes if key not in self.plan.records)
        failed = failures.of(self.plan.store.blobs, missing)
        self.progress.failed |= {key: failure.error for key, failure in failed.items()}

    def _add_measurements(self) -> None:
        """Fairness of each scenario's published trials, then dynamics, claims and axes over all."""
        plan, measured, settled = self.plan, [], self.progress.complete()
        for scenario in plan.scenarios:
            trials = plan.published(classifier.KIND.name, scenario.name)
            if trials:
                data = plan.dataset(scenario.name)
                measurements.add_fairness(scenario, trials, data, plan.graph)
                metrics = plan.published(generator_metrics.KIND.name, scenario.name)
                measured.append((scenario, measurements.published(data, trials, metrics)))
        if measured:
            measurements.add_equation6(plan.sweep, measured, plan.graph, self.declared_before)
            before = self.declared_before
            measurements.add_claims(plan.sweep, measured, plan.graph, before, settled)
            measurements.add_axes(plan.sweep, measured, plan.graph)
        plan.look_up(measurements.KINDS)
        self.progress.cached |= plan.records.keys() - self.progress.done

    def _declared(self, how: Callable[[Declaration, str, Blobs], Declaration]) -> None:
        """Read, or freeze, what this sweep declares."""
        self.declaration = how(self.declaration, self.plan.sweep.name, self.plan.store.blobs)

    @property
    def declared_before(self) -> bool:
        """Whether what is judged was declared before the data that it is judged on."""
        trials = (
            (place, self.plan.records[node.stage.key])
            for node in self.plan.graph.of_kind(classifier.KIND.name)
            for place in node.places
            if node.stage.key in self.plan.records
        )
        return self.declaration.before(declaration.begun(trials))

    def _compute(self, interrupted: threading.Event) -> None:
        self.progress.forget(self.plan.corrupt)
        for sentence in self.plan.set_aside():
            self.say(f"recomputing: {sentence}")
        if not self.progress.missing():
            return
        scheduler = self._scheduler or self._connect()
        from ray_selfloop.report import terminal  # with all that draws: a plan shows no table

        self._declared(declaration.freeze)  # what cannot be run has written nothing
        left = Left(learned(self.plan), scheduler.cluster.slots)
        with terminal.live(self.console) as show:
            shown = 0.0

            def watch(progress: Progress) -> None:
                nonlocal shown
                if time.monotonic() - shown >= REFRESH:
                    shown = time.monotonic()
                    found = left.at(progress, shown)
                    said = found and terminal.left(found.clock, found.about, found.told)
                    show(self.table(), said or "")

            scheduler.run(watch, interrupted)
            show(self.table(), "")
        self.plan.look_up()

    def _connect(self) -> "Scheduler":
        """Ray is loaded here and not before."""
        from ray_selfloop.distributed.cluster import connect
        from ray_selfloop.distributed.driver import Scheduler

        cluster = connect(self.plan.sweep.resources, self.say)
        check_storage(self.plan.store.address, self.plan.sweep.storage_shared, cluster.nodes)
        cluster.check(node.stage for node in self.progress.missing())
        self._tracking.start()
        root, name = self.plan.store.address, self.plan.sweep.name
        self._scheduler = Scheduler(self.progress, root, cluster, name, self.say)
        return self._scheduler

    def _prepare_tracking(self) -> None:
        """Beside the first stages: MLflow takes seconds to load, and to make its database."""
        from ray_selfloop.tracking import sync

        self.warnings += sync.prepare(self.tracking_uri)

    def used(self) -> str:
        """How well the slots were used since this began; empty where none was."""
        if self._scheduler is None:
            return ""
        from ray_selfloop.distributed.usage import usage

        seconds = {key: record.seconds for key, record in self.plan.records.items()}
        slots = self._scheduler.cluster.slots
        return str(usage(self.progress, seconds, slots, self.began, time.monotonic()) or "")

    def say(self, sentence: str) -> None:
        self.console.print(sentence, style="yellow", highlight=False, markup=False)

    def table(self) -> "list[terminal.Progress]":
        """One line per kind of stage; trials are told apart by classifier."""
        from ray_selfloop.report import terminal

        now = time.monotonic()
        lines: dict[str, list[Node]] = defaultdict(list)
        for node in self.plan.graph:
            lines[line_of(node)].append(node)
        state = self.progress
        return [
            terminal.Progress(
                kind=kind,
                done=sum(node.stage.key in state.published for node in nodes),
                total=len(nodes),
                cached=sum(node.stage.key in state.cached for node in nodes),
                running=sum(node.stage.key in state.running for node in nodes),
                failed=sum(node.stage.key in state.failed for node in nodes),
                elapsed=sum(state.seconds(node.stage.key, now) for node in nodes),
            )
            for kind, nodes in lines.items()
        ]
