"""The scheduler of a sweep: which stage runs next, and where.

One loop in the driver's main thread owns all state. Trials go to the one Tune experiment, samples
to a Ray Data stream, everything else to a Ray task; each holds a slot while it runs. It alone
decides what is tried again: a lost machine costs nothing, an error of the code is published as a
failed record, and takes the stages that need its result along, and nothing else.
"""

import queue
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace

import ray
from ray._private import auto_init_hook

from ray_selfloop.distributed import losses, nodes, worker
from ray_selfloop.distributed.cluster import STAGE_CPUS, Cluster
from ray_selfloop.distributed.losses import Losses, Outcome, outcome_of
from ray_selfloop.distributed.starved import Starved
from ray_selfloop.distributed.stream import stream
from ray_selfloop.distributed.trials import Experiment
from ray_selfloop.distributed.waits import Elsewhere, Outages, Stalls
from ray_selfloop.errors import CorruptRecord, StorageError, StorageOutage
from ray_selfloop.graph import Node, Stage
from ray_selfloop.progress import Progress
from ray_selfloop.stages import kinds
from ray_selfloop.store import blobs, failures
from ray_selfloop.store.leases import Leases
from ray_selfloop.store.records import Store

TICK = 0.05  # s between two looks at what has ended
GRACE = 15.0  # s that running stages are given after an interruption
CLOSE = 5.0  # s that Tune is given to end
Watcher = Callable[[Progress], None]


class Scheduler:
    """Runs the missing stages of a graph on a cluster."""

    def __init__(
        self,
        progress: Progress,
        root: str,
        cluster: Cluster,
        name: str,
        say: Callable[[str], None] = print,
    ) -> None:
        """say: what a person should know while the sweep runs goes there, a line at a time."""
        self.progress = progress
        self.root = root
        self.cluster = cluster
        self.name = name
        self._say = say
        self._store, self._blobs = Store(root), blobs.at(root)
        self._leases = Leases(self._blobs)
        self._losses = Losses()
        self._elsewhere = Elsewhere()
        self._outages = Outages()
        self._stalls = Stalls()
        self._starvation = Starved(nice=cluster.resources.nice)
        self._moved = True  # whether something may start that could not start before
        self._tasks: dict[ray.ObjectRef, str] = {}
        self._streams: queue.Queue[Outcome] = queue.Queue()
        self._experiment: Experiment | None = None

    def run(self, watch: Watcher, interrupted: threading.Event) -> None:
        """Until nothing is left that can run, or until ``interrupted`` and running stages ended."""
        self._moved = True
        while self.progress.running or self.progress.ready():
            if interrupted.is_set():
                self._drain(watch)
                return
            self._hand_out()
            self._collect()
            self._rest()
            watch(self.progress)
            for sentence in (
                self._stalls.sentence(),
                self._elsewhere.sentence(self.progress),
                self._outages.sentence(),
                self._starvation.sentence(),
            ):
                if sentence:
                    self._say(sentence)
            time.sleep(TICK)

    def close(self) -> None:
        """End the experiment; what still runs is given up."""
        if self._experiment and not self._experiment.close(timeout=CLOSE):
            auto_init_hook.enable_auto_connect = False  # Tune's thread would start Ray anew
        self._leases.close()

    def _drain(self, watch: Watcher) -> None:
        deadline = time.monotonic() + GRACE
        while self.progress.running and time.monotonic() < deadline:
            self._collect()
            watch(self.progress)
            time.sleep(TICK)

    def _hand_out(self) -> None:
        """Start what can start; an outage of the storage is borne for a while."""
        if self._outages.wait() or not (self._moved or self._elsewhere.due()):
            return
        self._moved = False
        try:
            self._fill()
        except StorageOutage as error:
            self._moved = True
            self._outages.note(error)

    def _fill(self) -> None:
        """Start ready stages while slots and GPUs are free; every stage holds one slot.

        A stage that waits for GPUs keeps those that are free from less urgent ones, and those that
        get free too where it has waited for long.
        """
        self._let_go()
        graph, cluster = self.progress.graph, self.cluster
        running = [graph.nodes[key].stage for key in self.progress.running]
        slots = cluster.slots - len(running)
        gpus = cluster.gpus - sum(cluster.ask(stage).gpus for stage in running)
        if slots < 1:
            return
        if self._starved(running):
            gpus, self._moved = 0.0, True
        self._elsewhere.new_round()
        for node in sorted(self.progress.ready(), key=_urgency):
            asked = cluster.ask(node.stage).gpus
            if slots < 1:
                break
            if asked > gpus + nodes.EPSILON:
                gpus = 0.0
                continue
            if self._is_ours(node.stage.key):
                slots, gpus = slots - 1, gpus - asked
                self._start(node.stage)

    def _starved(self, running: Sequence[Stage]) -> bool:
        """Whether trials may keep a stage of ours from a GPU: something has long waited for one."""
        cluster = self.cluster
        trials = {cluster.how(stage) == "trial" for stage in running if cluster.gpus_of(stage)}
        return trials == {True, False} and self._stalls.starved()

    def _is_ours(self, key: str) -> bool:
        """Whether this driver holds the lease of a stage, and nobody has published it."""
        if not self._elsewhere.look_now(key):
            return False
        holder, published = self._leases.take(key), self._published(key)
        self._outages.over()
        if published:
            self._leases.drop(key)
            self._elsewhere.forget(key)
            self.progress.cached.add(key)
            self._moved = True
            return False
        if holder:
            self._elsewhere.note(key, holder)
        else:
            self._elsewhere.forget(key)
        return not holder

    def _published(self, key: str) -> bool:
        """Whether somebody has published a stage since this driver looked."""
        try:
            return self._store.find(key) is not None
        except CorruptRecord:
            said = self._store.discard_damaged(key)
            if said:
                self._say(f"recomputing: {said}")
            return not said and self._store.find(key) is not None

    def _let_go(self) -> None:
        """End an idle experiment where it keeps what another stage wants: a GPU, or memory."""
        if self._experiment is None or self._running_trials():
            return
        graph = self.progress.graph
        keys = [*self.progress.running, *(node.stage.key for node in self.progress.ready())]
        if any(self.cluster.in_the_way(graph.nodes[key].stage) for key in keys):
            self._end_experiment()

    def _rest(self) -> None:
        """An experiment that has had no trial for long gives its machines back."""
        if self._experiment and self._experiment.tired and not self._running_trials():
            self._end_experiment()

    def _end_experiment(self) -> None:
        assert self._experiment is not None
        self._experiment.close(timeout=CLOSE)
        self._experiment = None

    def _running_trials(self) -> list[str]:
        nodes, how = self.progress.graph.nodes, self.cluster.how
        return [key for key in self.progress.running if how(nodes[key].stage) == "trial"]

    def _start(self, stage: Stage) -> None:
        self.progress.running[stage.key] = time.monotonic()
        gpus, how = self.cluster.gpus_of(stage), self.cluster.how(stage)
        if how == "trial":
            self._trials().board.waiting.put(stage)
        elif how == "stream":
            threading.Thread(target=self._stream, args=(stage, gpus), daemon=True).start()
        elif how == "search":
            from ray_selfloop.distributed import search

            task = ray.remote(num_cpus=STAGE_CPUS, max_retries=0)(search.run)
            self._tasks[task.remote(stage, self.root, gpus)] = stage.key
        elif how == "workers":
            from ray_selfloop.distributed import finetune  # loads torch

            task = ray.remote(num_cpus=0, max_retries=0)(finetune.run)
            self._tasks[task.remote(stage, self.root, gpus)] = stage.key
        else:
            task = ray.remote(num_cpus=STAGE_CPUS, num_gpus=gpus, max_retries=0)(worker.run_stage)
            self._tasks[task.remote(stage, self.root)] = stage.key

    def _trials(self) -> Experiment:
        if self._experiment is None:
            request, patience = self.cluster.ask, self.cluster.patience
            self._experiment = Experiment(
                self.name, self.root, lambda stage: dict(request(stage).piece), patience
            )
        return self._experiment

    def _stream(self, stage: Stage, gpus: float) -> None:
        """Run a stream to its end, whatever that is."""
        try:
            outcome = self._streamed(stage, gpus)
        except Exception as problem:  # Ray did not say what had happened
            said = f"{type(problem).__name__}: {problem}"
            outcome = Outcome(stage.key, said, traceback.format_exc(), lost=True)
        self._streams.put(outcome)

    def _streamed(self, stage: Stage, gpus: float) -> Outcome:
        error, before = None, losses.alive()
        try:
            stream(stage, self.root, self.cluster.resources.sampling_workers, gpus)
        except Exception as problem:
            error = problem
        outcome = outcome_of(stage.key, error)
        if outcome.lost and outcome.place is None and losses.one_died(before):
            outcome = replace(outcome, place="")
        return outcome

    def _collect(self) -> None:
        """Take in every outcome that has arrived."""
        if self._tasks:
            done, _ = ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=0)
            for ref in done:
                self._settle(outcome_of(self._tasks.pop(ref), _error_of(ref)))
        arrivals = [self._streams]
        ended = self._experiment is not None and self._experiment.ended  # none comes after that
        if self._experiment:
            arrivals.append(self._experiment.board.outcomes)
        for arrival in arrivals:
            while not arrival.empty():
                self._settle(arrival.get_nowait())
        if self._experiment and ended:
            for key in self._running_trials():
                said = f"the Tune experiment ended: {self._experiment.failure}"
                self._settle(Outcome(key, said, lost=True))
            self._experiment = None

    def _settle(self, outcome: Outcome) -> None:
        """One stage has ended: it is published, failed, or to be tried again."""
        key = outcome.key
        begun = self.progress.running.pop(key)
        self._moved = True
        now = time.monotonic()
        self.progress.took[key] = now - begun
        self._stalls.moved()
        if not outcome.error:
            self.progress.done.add(key)
            self.progress.ended[key] = now
        elif not (outcome.lost and self._losses.again(key, outcome.place, losses.alive())):
            self._fail(outcome)
        self._leases.drop(key)

    def _fail(self, outcome: Outcome) -> None:
        stage = self.progress.graph.nodes[outcome.key].stage
        error = outcome.error
        if outcome.lost:
            error = f"lost {losses.RETRIES + 1} times while its machine lived: {error}"
        self.progress.failed[outcome.key] = error
        try:
            failures.publish(self._blobs, stage, error, outcome.detail)
        except StorageError as trouble:
            self._say(f"the failed record of {outcome.key} could not be kept: {trouble}")


def _urgency(node: Node) -> tuple[int, int]:
    """What a chain waits for comes first, by generation; trials that nobody waits for come last."""
    waiting = node.awaited or kinds.of(node.stage).needs.awaited
    generation = min((place.generation for place in node.places), default=0)
    return (0 if waiting else 1, generation)


def _error_of(ref: ray.ObjectRef) -> Exception | None:
    try:
        ray.get(ref)
    except Exception as error:
        return error
    return None
