"""The scheduler of a sweep: which stage runs next, and where.

One loop in the driver's main thread owns all state. Trials go to the one Tune experiment, samples
to a Ray Data stream, everything else to a Ray task; each holds a slot while it runs. A stage that
fails takes the stages that need it along, and nothing else.
"""

import queue
import threading
import time
from collections.abc import Callable

import ray

from ray_selfloop.distributed import finetune, search
from ray_selfloop.distributed.cluster import Cluster, device
from ray_selfloop.distributed.generate import stream
from ray_selfloop.distributed.trials import RETRIES, Experiment, Outcome
from ray_selfloop.graph import Node, Stage
from ray_selfloop.progress import Progress
from ray_selfloop.stages.run import execute
from ray_selfloop.store import Store

TICK = 0.05  # s between two looks at what has ended
GRACE = 15.0  # s that running stages are given after an interruption
CLOSE = 5.0  # s that Tune is given to end
Watcher = Callable[[Progress], None]


def _run(stage: Stage, root: str) -> None:
    execute(stage, Store(root), device())


class Scheduler:
    """Runs the missing stages of a graph on a cluster."""

    def __init__(self, progress: Progress, root: str, cluster: Cluster, name: str) -> None:
        self.progress = progress
        self.root = root
        self.cluster = cluster
        self.name = name
        self._tasks: dict[ray.ObjectRef, str] = {}
        self._streams: queue.Queue[Outcome] = queue.Queue()
        self._experiment: Experiment | None = None

    def run(self, watch: Watcher, interrupted: threading.Event) -> None:
        """Until nothing is left that can run, or until ``interrupted`` and running stages ended."""
        while self.progress.running or self.progress.ready():
            if interrupted.is_set():
                self._drain(watch)
                return
            self._hand_out()
            self._collect()
            watch(self.progress)
            time.sleep(TICK)

    def close(self) -> None:
        """End the experiment; what still runs is given up."""
        if self._experiment:
            self._experiment.close(timeout=CLOSE)

    def _drain(self, watch: Watcher) -> None:
        deadline = time.monotonic() + GRACE
        while self.progress.running and time.monotonic() < deadline:
            self._collect()
            watch(self.progress)
            time.sleep(TICK)

    def _hand_out(self) -> None:
        """Start ready stages while slots are free; every stage holds one."""
        self._let_go_of_gpus()
        free = self.cluster.slots - len(self.progress.running)
        for node in sorted(self.progress.ready(), key=_urgency)[:free]:
            self.progress.running[node.stage.key] = time.monotonic()
            self._start(node.stage)

    def _let_go_of_gpus(self) -> None:
        """End an idle experiment when another stage wants a GPU: it keeps its last trial's."""
        if self._experiment is None or "gpu" not in self.cluster.trial or self._running_trials():
            return
        keys = [*self.progress.running, *(node.stage.key for node in self.progress.ready())]
        kinds = {self.progress.graph.nodes[key].stage.kind for key in keys} - {"classifier"}
        if any(self.cluster.gpus(kind) for kind in kinds):
            self._experiment.close(timeout=CLOSE)
            self._experiment = None

    def _running_trials(self) -> list[str]:
        nodes = self.progress.graph.nodes
        return [key for key in self.progress.running if nodes[key].stage.kind == "classifier"]

    def _start(self, stage: Stage) -> None:
        if stage.kind == "classifier":
            self._trials().board.waiting.put(stage)
        elif stage.kind == "samples":
            threading.Thread(target=self._stream, args=(stage,), daemon=True).start()
        elif stage.kind == "search":
            task = ray.remote(num_cpus=0.5, max_retries=RETRIES)(search.run)
            self._tasks[task.remote(stage, self.root, self.cluster.gpus("search"))] = stage.key
        elif finetune.workers(stage) > 1:
            task = ray.remote(num_cpus=0, max_retries=RETRIES)(finetune.run)
            self._tasks[task.remote(stage, self.root, self.cluster.gpus("generator"))] = stage.key
        else:
            gpus = self.cluster.gpus(stage.kind)
            task = ray.remote(num_cpus=0.5, num_gpus=gpus, max_retries=RETRIES)(_run)
            self._tasks[task.remote(stage, self.root)] = stage.key

    def _trials(self) -> Experiment:
        if self._experiment is None:
            self._experiment = Experiment(
                self.name, self.root, self.cluster.trial, self.cluster.slots
            )
        return self._experiment

    def _stream(self, stage: Stage) -> None:
        """Run a stream to its end; one that lost a worker starts again."""
        error = ""
        for _ in range(RETRIES + 1):
            try:
                stream(
                    stage,
                    self.root,
                    self.cluster.sampling_workers,
                    self.cluster.gpus_per_generator,
                )
                error = ""
                break
            except ray.exceptions.RayActorError as lost:
                error = _reason(lost)
            except Exception as problem:
                error = _reason(problem)
                break
        self._streams.put(Outcome(stage.key, error))

    def _collect(self) -> None:
        """Take in every outcome that has arrived."""
        if self._tasks:
            done, _ = ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0)
            for ref in done:
                self._settle(Outcome(self._tasks.pop(ref), _error_of(ref)))
        arrivals = [self._streams]
        if self._experiment:
            arrivals.append(self._experiment.board.outcomes)
        for arrival in arrivals:
            while not arrival.empty():
                self._settle(arrival.get_nowait())
        if self._experiment and self._experiment.ended:
            for key in self._running_trials():
                self._settle(Outcome(key, f"the Tune experiment ended: {self._experiment.failure}"))
            self._experiment = None

    def _settle(self, outcome: Outcome) -> None:
        begun = self.progress.running.pop(outcome.key)
        self.progress.took[outcome.key] = time.monotonic() - begun
        if outcome.error:
            self.progress.failed[outcome.key] = outcome.error
        else:
            self.progress.done.add(outcome.key)


def _urgency(node: Node) -> tuple[int, int]:
    """What a chain waits for comes first, by generation; trials that nobody waits for come last."""
    waiting = node.awaited or node.stage.kind not in ("classifier", "generator_metrics")
    generation = min((place.generation for place in node.places), default=0)
    return (0 if waiting else 1, generation)


def _error_of(ref: ray.ObjectRef) -> str:
    try:
        ray.get(ref)
    except Exception as error:
        return _reason(error)
    return ""


def _reason(error: Exception) -> str:
    """The cause of an error that Ray has wrapped, in one line."""
    cause = getattr(error, "cause", None) or error
    text = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {text[-1] if text else ''}"
