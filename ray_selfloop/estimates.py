"""What stages take, and how long a sweep of them takes: by earlier records, else by reference.

A training's work is counted in images that it sees, others' in stages. What a unit
takes is the mean of what this storage holds of the like; of what it holds nothing, what was
measured once on one core (`costs.json`), times how much slower this machine is (`slower`). Knows
nothing of Ray.
"""

import contextlib
import heapq
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ray_selfloop.config.networks import NETWORKS, PICTURE
from ray_selfloop.config.sweep import Sweep
from ray_selfloop.datasets.contents import Contents
from ray_selfloop.errors import CorruptRecord
from ray_selfloop.graph import Graph, Node
from ray_selfloop.progress import Progress
from ray_selfloop.stages import classifier, dataset, generator, kinds, probe
from ray_selfloop.stages.chain import SHARES
from ray_selfloop.stages.kind import Places
from ray_selfloop.store.records import Store

COSTS = Path(__file__).with_name("costs.json")
"""{"calibration": s of `calibration`, "cores": {name of work: core-seconds of a unit}}, both of one
machine; written by `python benchmarks/stage_costs.py`."""
LEAST = 0.1  # s of any stage
START, END = 15.0, 5.0  # s until the first stage runs, and from the last one to the page
WARM, STEPS = 10, 120  # optimiser steps of `calibration`: about 2 s
SELDOM = 50  # a prediction takes at most this part of the time
MOST_OTHERS = 30  # records of a kind that are looked at beside those of the graph
HERE, REFERENCE = "earlier stages of this storage", "reference costs"
OTHER_HERE, OTHER = f"{HERE}, of other data", f"{REFERENCE} of other data"
ON_CPU = "what they take on a CPU"  # of stages of a GPU: none has run on one here
UNKNOWN = "nothing yet"
GPU = "gpu"


class Computed(Protocol):
    """What a stage and its record have in common."""

    @property
    def kind(self) -> str: ...
    @property
    def config(self) -> Mapping[str, Any]: ...


Like = tuple[str, str, str]  # work, dataset ("": any), device


class Effort(NamedTuple):
    """The work of a stage: its name, on which dataset and device, how many units and threads."""

    work: str
    dataset: str
    units: float
    threads: int
    device: str = "cpu"

    @property
    def like(self) -> Like:
        """What it is measured by."""
        return self.work, self.dataset, self.device


def effort(stage: Computed, dataset: str, images: Callable[[], int]) -> Effort:
    """images: original ones, which decide a training whose budget is in epochs."""
    held = kinds.NAMED[stage.kind].read(stage.config)
    if isinstance(held, classifier.Settings):
        seen = _seen(held, images)
        return Effort(held.network, "", seen * _side(held) ** 2, held.threads, held.device)
    if isinstance(held, generator.Settings):
        own = generator.settings_of(held.generator, Places())
        return Effort(own.name, dataset, own.seen, held.threads, held.device)
    if isinstance(held, probe.Settings):
        seen = held.trained(Places()).max_epochs * images()
        return Effort(stage.kind, dataset, seen, held.threads, held.device)
    return Effort(stage.kind, dataset, 1.0, held.threads, held.device)


def _seen(held: classifier.Settings, images: Callable[[], int]) -> int:
    """Images that a classifier's training on its whole budget sees."""
    how = held.recipe(Places(), {})
    steps = how.max_steps or math.inf
    if how.max_epochs < steps:  # an epoch has a step at least
        most = images() * (1 + min(held.training_set.generation, 3) / 3)
        steps = min(steps, math.ceil(how.max_epochs * most / how.batch_size))
    return int(steps * how.batch_size)


def _side(held: classifier.Settings) -> int:
    """Pixels at which a network sees images, as far as settings tell."""
    asked = classifier.training(held)
    side = asked.side or (PICTURE if asked.pictures else 1)
    known = NETWORKS.get(held.network)
    return known.side(side) if known else max(side, 32)


class Costs:
    """What each stage of a graph takes, by its like."""

    def __init__(self, sweeps: Mapping[str, Sweep], images: Callable[[str], int]) -> None:
        """sweeps: scenario -> settings. images: scenario -> original images."""
        self._sweeps, self._images = sweeps, images
        self._spent: dict[Like, tuple[float, float]] = {}
        self._alike: dict[tuple[str, str, int, str], Effort] = {}
        self._efforts: dict[str, Effort] = {}
        self._units: dict[Like, tuple[float, str]] = {}  # until more is learned
        self.slower = 1.0  # than the machine of the reference costs

    def learn(self, node: Node, seconds: float) -> None:
        """A stage of the graph has taken so long."""
        self._add(self._effort(node), seconds)

    def learn_from(self, store: Store, graph: Graph) -> None:
        """What others have left in a storage, of works of which this graph has nothing published.

        A look at a few of each kind; at none in a bucket.
        """
        unknown = {node.stage.kind for node in graph if self.source(node) != HERE}
        for kind in sorted(unknown):
            others = sorted((store.begun([kind]) or set()) - graph.nodes.keys())
            for key in others[:MOST_OTHERS]:
                with contextlib.suppress(CorruptRecord):
                    self._learn_other(store, key)

    def _learn_other(self, store: Store, key: str) -> None:
        record = store.find(key)
        if record is None:
            return
        data = store.find(record.inputs["dataset"]) if "dataset" in record.inputs else None
        images = record.summary.get("training_set", {}).get("original", 0)
        name = data.config["name"] if data else ""
        self._add(effort(record, name, lambda: int(images)), record.seconds)

    def _add(self, found: Effort, seconds: float) -> None:
        self._units.clear()
        for like in {found.like, found._replace(dataset="").like}:
            before, units = self._spent.get(like, (0.0, 0.0))
            self._spent[like] = before + seconds * found.threads, units + found.units

    def core_seconds(self, node: Node) -> float:
        """Of a stage, whatever has become of it; 0 where that is not known."""
        found = self._effort(node)
        return found.units * self._unit(found)[0]

    def seconds(self, node: Node) -> float:
        """From its start to its end, on its own threads."""
        return self.core_seconds(node) / self._effort(node).threads

    def source(self, node: Node) -> str:
        """Where the cost of a stage comes from."""
        return self._unit(self._effort(node))[1]

    def _unit(self, found: Effort) -> tuple[float, str]:
        """Core-seconds of a unit of work, and whence."""
        if found.like not in self._units:
            self._units[found.like] = self._likest(*found.like)
        return self._units[found.like]

    def _likest(self, work: str, dataset: str, device: str) -> tuple[float, str]:
        """Of this dataset here, else by reference; of others here, else the dearest reference.

        On a GPU what has run on one here, else what a CPU takes.
        """
        own, other = (self._spent.get((work, name, device), (0.0, 0.0)) for name in (dataset, ""))
        if own[1]:
            return own[0] / own[1], HERE
        named = None if device == GPU else self._reference.get(f"{work} {dataset}".strip())
        if named is not None:
            return self.slower * named, REFERENCE
        if other[1]:
            return other[0] / other[1], OTHER_HERE
        if device == GPU:
            cost, source = self._likest(work, dataset, "cpu")
            return cost, UNKNOWN if source == UNKNOWN else ON_CPU
        like = [cost for name, cost in self._reference.items() if name.partition(" ")[0] == work]
        return (self.slower * max(like), OTHER) if like else (0.0, UNKNOWN)

    @cached_property
    def _reference(self) -> Mapping[str, float]:
        return dict(json.loads(COSTS.read_text())["cores"])

    def _effort(self, node: Node) -> Effort:
        """The same for all seeds of a place."""
        found = self._efforts.get(node.stage.key)
        if found is None:
            place = node.places[0]
            alike = node.stage.kind, place.scenario, place.generation, place.classifier
            if alike not in self._alike:
                scenario = place.scenario.removesuffix(SHARES)
                name = self._sweeps[scenario].dataset.name
                images = partial(self._images, scenario)
                self._alike[alike] = effort(node.stage, name, images)
            found = self._efforts[node.stage.key] = self._alike[alike]
        return found


def wall(
    nodes: Iterable[Node],
    seconds: Callable[[Node], float],
    slots: int,
    running: Mapping[str, float] | None = None,
) -> float:
    """Seconds until these stages are done, of which so many run at once.

    The one on which most depends begins first. running: key -> s for which it has run.
    """
    nodes = list(nodes)
    left = {node.stage.key: max(seconds(node), LEAST) for node in nodes}
    for key, since in (running or {}).items():
        left[key] = max(left.get(key, 0.0) - since, LEAST)
    waits = {n.stage.key: {i for i in n.stage.inputs.values() if i in left} for n in nodes}
    after: dict[str, list[str]] = defaultdict(list)
    for key, one in ((key, one) for key, inputs in waits.items() for one in inputs):
        after[one].append(key)
    behind: dict[str, float] = {}
    for key in reversed(left):  # inputs stand before what needs them
        behind[key] = left[key] + max((behind[one] for one in after[key]), default=0.0)
    behind |= dict.fromkeys(running or {}, math.inf)  # these hold their slots
    ready = sorted((-behind[key], key) for key in left if not waits.get(key))
    busy: list[tuple[float, str]] = []
    now = 0.0
    while ready or busy:
        while ready and len(busy) < slots:
            _, key = heapq.heappop(ready)
            heapq.heappush(busy, (now + left[key], key))
        now, done = heapq.heappop(busy)
        for key in after[done]:
            waits[key].remove(done)
            if not waits[key]:
                heapq.heappush(ready, (-behind[key], key))
    return now


class Prediction(NamedTuple):
    """What stages take. clock: s by the clock. sources: whence costs come -> of how many stages."""

    clock: float
    core_seconds: float
    sources: Mapping[str, int]

    @property
    def about(self) -> str:
        return "at least" if UNKNOWN in self.sources else "about"

    @property
    def told(self) -> str:
        """By what it is predicted."""
        of = sum(self.sources.values())
        return ", ".join(f"{source} ({n} of {of})" for source, n in self.sources.items())


def predicted(
    nodes: Sequence[Node],
    costs: Costs,
    slots: int,
    running: Mapping[str, float] | None = None,
) -> Prediction:
    """Of stages of which so many run at once; running: as `wall` takes it, None before a start."""
    around = END if running is not None else START + END
    return Prediction(
        clock=around + wall(nodes, costs.seconds, slots, running),
        core_seconds=sum(map(costs.core_seconds, nodes)),
        sources=dict(Counter(map(costs.source, nodes)).most_common()),
    )


class Left:
    """How long a run still takes; what ends in it is learned from."""

    def __init__(self, costs: Costs, slots: int) -> None:
        self._costs, self._slots = costs, slots
        self._learned: set[str] = set()
        self._found: Prediction | None = None
        self._due = -math.inf

    def at(self, progress: Progress, now: float) -> Prediction | None:
        """What is left at a time (monotonic s); None where that is nothing.

        Looked at anew where that takes a small part of the time that has passed since.
        """
        if now >= self._due:
            begun = time.monotonic()
            self._found = self._at(progress, now)
            self._due = now + SELDOM * (time.monotonic() - begun)
        return self._found

    def _at(self, progress: Progress, now: float) -> Prediction | None:
        nodes = progress.graph.nodes
        for key in progress.ended.keys() - self._learned:  # a lost machine's start counts too
            self._costs.learn(nodes[key], progress.took[key])
            self._learned.add(key)
        blocked = {node.stage.key for node in progress.blocked()}
        running = {key: progress.seconds(key, now) for key in progress.running}
        missing = {node.stage.key for node in progress.missing()} - blocked
        left = [node for node in progress.graph if node.stage.key in missing | running.keys()]
        begun = running or progress.took
        return (
            predicted(left, self._costs, self._slots, running if begun else None) if left else None
        )


def calibration() -> float:
    """Core-seconds of work like that of the stages: a small network is trained, on one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        net = torch.nn.Sequential(
            torch.nn.Conv2d(3, 32, 5), torch.nn.ReLU(), torch.nn.Conv2d(32, 32, 3),
            torch.nn.Flatten(), torch.nn.Linear(32 * 22 * 22, 10),
        )  # fmt: skip
        optimizer, images = torch.optim.Adam(net.parameters()), torch.ones(32, 3, 28, 28)
        started = 0.0
        for step in range(WARM + STEPS):
            started = time.process_time() if step == WARM else started
            optimizer.zero_grad()
            net(images).square().mean().backward()
            optimizer.step()
        return time.process_time() - started
    finally:
        torch.set_num_threads(threads)


def slower() -> float:
    """How much longer than on the machine of the reference costs work takes on this one."""
    return calibration() / float(json.loads(COSTS.read_text())["calibration"])


def originals(sweep: Sweep, contents: Contents) -> int:
    """Original images of a sweep's dataset. contents: what is known of pictures' files."""
    return len(dataset.original_and_reserve(sweep.dataset, contents)[0])
