"""Connecting to Ray, and what each stage asks of it.

A sweep counts in slots: one slot is one CPU core's worth of work. Trials ask Ray for no CPU but for
one `slot`, because an idle Tune experiment keeps what its finished trials had asked for; the driver
hands out slots, and never more than there can be.
"""

import math
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from ray_selfloop.config.sweep import Resources
from ray_selfloop.distributed import local, nodes, placement
from ray_selfloop.distributed.jobs.head import token_message
from ray_selfloop.distributed.limits import limits
from ray_selfloop.distributed.nodes import Machines
from ray_selfloop.errors import ResourceError
from ray_selfloop.graph import Stage
from ray_selfloop.stages import kinds
from ray_selfloop.stages.kind import How

SLOT = "slot"
STAGE_CPUS = 0.5  # of a stage that is no trial and no stream, and of one worker of a fine-tune
POOL_CPUS = 0.25  # of one drawing or scoring worker
KEPT = 2  # processes for each slot that wait with all loaded: a trial's, and any other stage's
PATIENCE = 5.0  # s
BESIDES = 4  # that Ray's libraries have for themselves, and that Ray counts with them
HERE = 1e-3  # of a machine's own resource: enough to be placed there, beside any number of others
ADDRESS = re.compile(r"(\[(?P<bare>[^\s\[\]]+)\]|(?P<host>[^\s:/\[\]]+)):(?P<port>[0-9]+)")
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}


@dataclass(frozen=True)
class Ask:
    """What one stage asks for: ``count`` pieces of ``piece`` at once, each on one machine."""

    piece: Mapping[str, float]
    count: int = 1

    @property
    def gpus(self) -> float:
        """GPUs of all pieces."""
        return self.piece.get("GPU", 0.0) * self.count


@dataclass(frozen=True)
class Cluster:
    """What the sweep may use.

    slots: stages of one core that may run at once. gpus: that there can be.
    place: what a trial asks for besides GPUs. machines: those that there can be.
    cramped: whether there is no memory for processes that wait for their next stage. ours: whether
    this process has started it, for itself alone.
    """

    slots: int
    gpus: float
    place: Mapping[str, float]
    resources: Resources
    machines: Machines = field(default_factory=Machines)
    cramped: bool = False
    ours: bool = False

    def in_the_way(self, stage: Stage) -> bool:
        """Whether what an idle experiment keeps may be wanting to a stage that is no trial."""
        return self.how(stage) != "trial" and (self.cramped or self.gpus_of(stage) > 0)

    @property
    def patience(self) -> float:
        """Seconds that a trial's worker waits for its next trial.

        Not long where it keeps a GPU, or a machine from going; not at all where memory is short.
        """
        if self.cramped:
            return 0.0
        return math.inf if self.ours and not self.gpus else PATIENCE

    @property
    def nodes(self) -> int:
        """Machines that there can be; two where that is not known."""
        return max(self.machines.count(), 2 if self.machines.open else 1)

    def gpus_of(self, stage: Stage) -> float:
        """GPUs of a stage, or of each of its workers (a pair of a stream's workers is one)."""
        asked = kinds.of(stage).needs.gpu
        if asked == "gpus_per_trial":
            return placement.gpus(stage, self.resources)
        return self.resources.gpus_per_generator if asked else 0.0

    def how(self, stage: Stage) -> How:
        """How a stage runs here: where memory is short, no pools; of one worker, a task alone."""
        how = kinds.of(stage).needs.how
        alone = self.cramped if how == "stream" else how == "workers" and workers(stage) == 1
        return "task" if alone else how

    def ask(self, stage: Stage) -> Ask:
        """What a stage asks Ray for."""
        gpus, how = self.gpus_of(stage), self.how(stage)
        if how == "trial":
            return Ask({**self.place, **_gpu(gpus)})
        if how == "stream":
            pairs = self.resources.sampling_workers
            return Ask({"CPU": POOL_CPUS, **_gpu(gpus / 2)}, 2 * pairs)
        return Ask({"CPU": STAGE_CPUS, **_gpu(gpus)}, workers(stage))

    def check(self, stages: Iterable[Stage]) -> None:
        """Raise ResourceError where a stage could only wait for ever."""
        if self.machines.open:
            return
        asked = {self._who(stage): self.ask(stage) for stage in stages}
        self.machines.check({who: ask.piece for who, ask in asked.items()})
        for who, ask in asked.items():
            most = self.machines.most(ask.piece)
            if ask.count > most:
                raise ResourceError(
                    f"{who} asks for {ask.count} times ({nodes.amounts(ask.piece)}) at once, and "
                    f"the cluster can hold that {most} times ({self.machines})"
                )

    def _who(self, stage: Stage) -> str:
        """A stage as people know it, with the setting that says how much it asks for."""
        how, needs = self.how(stage), kinds.of(stage).needs
        if how == "stream":
            return "resources.sampling_workers: a stream"
        if how == "workers":
            return "generator.workers: a fine-tune"
        trained = kinds.training(stage) if how == "trial" else None
        if trained is None:
            return f"resources.{needs.gpu or 'gpus_per_trial'}: stage {stage.kind}"
        own = trained.network in self.resources.gpus_of
        setting = f"gpus_of.{trained.network}" if own else "gpus_per_trial"
        return f"resources.{setting}: a trial of {trained.network}"


def workers(stage: Stage) -> int:
    """How many workers a stage's one run has: more than one in a fine-tune alone."""
    kind = kinds.of(stage)
    return kind.needs.workers(kind.read(stage.config)) if kind.needs.how == "workers" else 1


def _gpu(amount: float) -> dict[str, float]:
    return {"GPU": amount} if amount else {}


def connect(resources: Resources, say: Callable[[str], None] = print) -> Cluster:
    """Start Ray on this machine, or join the cluster that RAY_ADDRESS names.

    say: what a person should know of it goes there. Raises ResourceError where that cannot be, or
    where the sweep asks for more cores than a cluster has.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "local"):
        return _started(resources, say)
    _start(address=answering(address))
    return joined(resources, nodes.possible())


def _started(resources: Resources, say: Callable[[str], None]) -> Cluster:
    """Start Ray on this machine alone."""
    found = limits()
    slots = local.slots(resources.num_cpus, found, say)
    cramped = found.cramped(slots)
    local.tell(local.IDLE_WORKERS, "0" if cramped else str(KEPT * slots + BESIDES))
    folder = local.folder(say)
    local.authenticate()
    local.tell(local.NICENESS, str(resources.nice))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every worker compiles everything anew
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with local.on_loopback():
        _start(
            address="local",
            num_cpus=slots + 1,  # one more than slots: a stream's pools and its driver's tasks
            resources={SLOT: slots},
            include_dashboard=False,
            _temp_dir=str(folder),
        )
    asked = resources.model_copy(update={"num_cpus": slots})
    return replace(joined(asked, nodes.present()), cramped=cramped, ours=True)


def _start(**arguments: Any) -> None:
    """``ray.init`` that leaves the caller's signal handlers in place: Ray sets its own."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    address = arguments["address"]
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **arguments)
    except (AuthenticationError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and local.curable(error):
            raise
        cause = error.__cause__ or error
        said = " ".join(str(cause).split()) or type(cause).__name__
        if isinstance(cause, AuthenticationError) or "InvalidAuthToken" in said:
            raise ResourceError(token_message(address, said)) from error
        raise ResourceError(f"Ray at {address} cannot be used: {said}") from error
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)


def answering(address: str) -> str:
    """The address, if something listens there: Ray itself would retry for minutes."""
    if address == "auto":
        return address
    found = ADDRESS.fullmatch(address)
    if not found:
        raise ResourceError(
            f"RAY_ADDRESS={address}: must be HOST:PORT of a Ray head ([HOST]:PORT for IPv6), auto "
            "or local; a dashboard's address is for `submit`, in RAY_API_SERVER_ADDRESS"
        )
    try:
        there = found["bare"] or found["host"], int(found["port"])
        socket.create_connection(there, timeout=5).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise ResourceError(f"RAY_ADDRESS={address}: nothing answers there ({error})") from error
    return address


def end() -> None:
    """End Ray where ``connect`` started it, or leave the cluster that it joined."""
    ray.shutdown()


def leave() -> None:
    """The same, and what was told to Ray is forgotten."""
    end()
    local.forget()


def joined(resources: Resources, machines: Machines) -> Cluster:
    """What a sweep may use of these machines; raises ResourceError where that is too little.

    Where machines may come that are not known, nothing is refused, and `resources.num_cpus` says
    how many cores are asked for.
    """
    cores, slots = (int(machines.total(name)) for name in ("CPU", SLOT))
    place = {SLOT: 1.0}
    if slots or machines.open:
        slots = min(cores, slots) or 1
    elif machines.count() == 1:
        slots, place = cores, {nodes.HEAD: HERE}
    else:
        raise ResourceError(
            "the cluster has several nodes but no `slot` resource: start each node with "
            "--resources='{\"slot\": N}', N its CPU cores"
        )
    if slots < 1:
        raise ResourceError("the cluster has no CPU core to run on")
    if (resources.num_cpus or 1) > slots and not machines.open:
        raise ResourceError(
            f"resources.num_cpus: {resources.num_cpus} asked for, the cluster has {slots}"
        )
    gpus = math.inf if machines.open else machines.total("GPU")
    return Cluster(resources.num_cpus or slots, gpus, place, resources, machines)
