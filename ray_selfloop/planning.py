"""From a command line to a plan: settings, the graph of all stages, and what is published already.

Everything that can be refused is refused here, before Ray starts and before anything is written.
"""

import contextlib
import os
import re
import sys
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from pkgutil import resolve_name

import numpy as np

from ray_selfloop import arms, idle, loop, queue
from ray_selfloop.config import load
from ray_selfloop.config.decide import all_at_look
from ray_selfloop.config.plain import masked
from ray_selfloop.config.scores import HERE
from ray_selfloop.config.sweep import OF_THE_STORE, Scenario, Sweep
from ray_selfloop.config.tracking import Tracking
from ray_selfloop.config.words import arguments
from ray_selfloop.datasets.contents import Contents
from ray_selfloop.errors import ConfigError, CorruptRecord, StorageError
from ray_selfloop.estimates import Costs, originals
from ray_selfloop.filtering.cut import drop_share
from ray_selfloop.generators.base import Demand
from ray_selfloop.graph import Graph, Place, Stage
from ray_selfloop.stages import dataset
from ray_selfloop.stages.chain import chains
from ray_selfloop.stages.kinds import VERSIONS
from ray_selfloop.store import blobs
from ray_selfloop.store.artifacts import room_in
from ray_selfloop.store.records import Record, Store
from ray_selfloop.tracking.places import default_uri

ADDRESS = r"(s3|gs)://[A-Za-z0-9._-]+(/[A-Za-z0-9._=-]+)*/?"
JOB_MARK = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray in the driver of a submitted job
TRACKING_MARK = "MLFLOW_TRACKING_URI"
PROBE_PATIENCE = 10.0  # s for which a bucket in trouble is asked whether it can be used


@dataclass
class Plan:
    """What a sweep consists of, and what of it is published.

    records: key -> record of published stages. corrupt: key -> what was found damaged; those
    stages count as missing, and `set_aside` makes room for them to be published again.
    warnings: what of the settings does not do what it seems to, one sentence each.
    contents: what is known of pictures' files.
    """

    sweep: Sweep
    scenarios: list[Scenario]
    store: Store
    graph: Graph
    records: dict[str, Record] = field(default_factory=dict)
    corrupt: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    contents: Contents = field(default_factory=Contents)

    @property
    def folder(self) -> Path:
        """Where the sweep's own files go, in storage that is a folder: results table and report."""
        return self.store.root / self.sweep.name

    def place(self, name: str) -> str:
        """Where one of the sweep's own files goes, as a user would write it."""
        return self.store.blobs.place(f"{self.sweep.name}/{name}")

    def write(self, name: str, fill: Callable[[Path], object]) -> str:
        """Publish one of the sweep's own files, whole or not at all; returns its place."""
        with tempfile.TemporaryDirectory(prefix="selfloop-") as scratch:
            path = Path(scratch) / name
            with room_in(path.parent):
                fill(path)
            self.store.blobs.upload(path, f"{self.sweep.name}/{name}")
        return self.place(name)

    def move(self, name: str, other: str) -> str:
        """Give one of the sweep's own files another name; returns its place."""
        self.store.blobs.move(f"{self.sweep.name}/{name}", f"{self.sweep.name}/{other}")
        return self.place(other)

    def copies(self, names: Iterable[str], folder: Path) -> list[Path]:
        """Copies of those of the sweep's own files that there are."""
        fetch = self.store.blobs.download
        return [folder / n for n in names if fetch(f"{self.sweep.name}/{n}", folder / n)]

    def look_up(self, kinds: Collection[str] = VERSIONS) -> None:
        """Find and check every record, of these kinds, that is not known yet."""
        nodes = self.graph.nodes.items()
        begun = self.store.begun(kinds)
        keys = [
            key
            for key, node in nodes
            if key not in self.records and node.stage.kind in kinds
            if begun is None or key in begun
        ]
        several = blobs.each if blobs.remote(self.store.address) else map
        for key, found in zip(keys, several(self._found, keys), strict=True):
            if isinstance(found, str):
                self.corrupt[key] = found
            elif found:
                self.records[key] = found

    def _found(self, key: str) -> Record | str | None:
        """A record, or what was found damaged."""
        try:
            return self.store.find(key, checksums=True)
        except CorruptRecord as error:
            return str(error)

    def set_aside(self) -> list[str]:
        """Discard the records that are damaged still; returns what was found, in words."""
        said = [self.store.discard_damaged(key) for key in self.corrupt]
        self.corrupt.clear()
        return [sentence for sentence in said if sentence]

    def published(self, kind: str, scenario: str) -> dict[Place, Stage]:
        """The published stages of one kind in a scenario, by place."""
        return {
            place: node.stage
            for place, node in self.graph.placed(kind, scenario)
            if node.stage.key in self.records
        }

    def dataset(self, scenario: str) -> Stage:
        """The dataset stage of a scenario."""
        return self.graph.placed(dataset.KIND.name, scenario)[0][1].stage


def prepare(
    words: Sequence[str],
    versions: dict[str, int] | None = None,
    writes: bool = True,
    look: int | None = None,
) -> Plan:
    """The plan of a command line, looked up in its storage; raises SelfLoopError.

    writes: whether the storage is to be written to, and so has to be writable. look: of a sweep
    with `decide`, at which of its looks; None: at the last one of which there is anything.
    """
    sweep, scenarios = load.load(*arguments(words))
    if sweep.decide is None:
        return _planned(sweep, scenarios, versions, writes)
    looks = sweep.decide.looks
    if look is None:
        whole = _planned(*all_at_look(sweep, scenarios, looks[-1]), versions, writes)
        look = _reached(whole, looks)
    return _planned(*all_at_look(sweep, scenarios, looks[look]), versions, writes)


def _reached(whole: Plan, looks: Sequence[int]) -> int:
    """The last look of which a chain has begun; the first one where none has."""
    seeds = whole.sweep.loop.loop_seeds
    begun = {
        place.loop_seed
        for key in whole.records
        for place in whole.graph.nodes[key].places
        if place.generation
    }
    most = max((i + 1 for i, seed in enumerate(seeds) if seed in begun), default=0)
    return next(i for i, chains in enumerate(looks) if chains >= most)


def _planned(
    sweep: Sweep, scenarios: list[Scenario], versions: dict[str, int] | None, writes: bool
) -> Plan:
    """The plan of settings, looked up in their storage."""
    root = storage(sweep.storage, writes, sweep.storage_shared, sweep.name)
    if writes:
        tracking_uri(sweep, root)
    graph, store = Graph(versions), Store(root)
    contents = Contents(store.blobs, say=lambda sentence: print(sentence, file=sys.stderr))
    try:
        for scenario in scenarios:
            add_scenario(scenario, graph, contents)
    finally:
        if writes:
            with contextlib.suppress(StorageError):  # nothing depends on it
                contents.keep()
    plan = Plan(sweep, scenarios, store, graph, contents=contents)
    sources = {
        s.name: dataset.KIND.read(plan.dataset(s.name).config).source or "" for s in scenarios
    }
    plan.warnings += idle.sentences(sweep.axes, scenarios, sources)
    plan.look_up()
    return plan


def learned(found: Plan) -> Costs:
    """What each stage takes, by what the storage holds."""
    sweeps = {scenario.name: scenario.sweep for scenario in found.scenarios}
    costs = Costs(sweeps, cache(lambda one: originals(sweeps[one], found.contents)))
    for node in found.graph:
        record = found.records.get(node.stage.key)
        if record:
            costs.learn(node, record.seconds)
    costs.learn_from(found.store, found.graph)
    return costs


def add_scenario(scenario: Scenario, graph: Graph, contents: Contents) -> None:
    """All chains of one scenario; raises DataError where its data is not there or damaged.

    contents: what is known of pictures' files.
    """
    settings = arms.adapted(scenario.sweep)
    _check_weights(settings)  # before many pictures are read
    _check_generator(settings, contents)
    if settings.dataset.reserve > 0:
        dataset.original_and_reserve(settings.dataset, contents)
    source = dataset.source(settings.dataset, contents)
    for chain in chains(scenario):
        loop.add_chain(chain, source, graph)


def _check_weights(settings: Sweep) -> None:
    """Raise DataError where weights that the sweep names cannot be had, or are damaged."""
    for score in settings.filter.scores:
        if score.checked:
            resolve_name(HERE + score.checked)(getattr(settings.filter, score.group))
    from ray_selfloop.classifiers import known, weights

    known.check_apart(settings.classifiers)
    for name in settings.classifiers:
        known.check(name, settings.training_for(name).image_size)
        weights.check(name, settings.training_for(name).pretrained)
    if settings.dataset.subgroups_from == "probe":
        known.check(settings.evaluation.probe.network, settings.evaluation.probe.image_size)
        weights.check(settings.evaluation.probe.network, settings.evaluation.probe.pretrained)
    if settings.evaluation.inception is not None:
        from ray_selfloop.evaluation import inception

        inception.check(settings.evaluation.inception)


def _check_generator(settings: Sweep, contents: Contents) -> None:
    """Raise ConfigError or DataError where the generator cannot give what the sweep will ask."""
    if not settings.generator.traits.check:
        return

    def demand() -> Demand:
        original, reserve = dataset.original_and_reserve(settings.dataset, contents)
        classes = int(original.max()) + 1
        total = queue.volume(settings.queue, settings.loop.regime, len(original))
        share, how = drop_share(settings.filter), settings.filter.cut
        return Demand(
            draws=queue.class_draws(settings.queue, total, original, classes, share, how),
            reserve=np.bincount(reserve, minlength=classes),
            generations=settings.loop.generations,
            class_names=lambda: dataset.class_names(settings.dataset, contents),
        )

    resolve_name(settings.generator.traits.check)(settings.generator, demand)


def tracking_uri(sweep: Sweep, root: str | Path) -> str:
    """Where MLflow keeps the sweep; raises ConfigError where nothing says so."""
    if sweep.tracking.uri:
        return sweep.tracking.uri
    if not blobs.remote(root):
        return default_uri(Path(root))
    named = os.environ.get(TRACKING_MARK)
    if not named:
        raise ConfigError(
            f"tracking.uri: null is a database in the storage folder, and {root} is a bucket; name "
            "a server (http://HOST:PORT) or a database of this machine "
            f"(sqlite:////absolute/path.db), here or in {TRACKING_MARK}"
        )
    try:
        return str(Tracking(uri=named).uri)
    except ValueError as error:
        raise ConfigError(f"{TRACKING_MARK}: {masked(named)} is not a tracking URI") from error


def storage(text: str, writes: bool = True, shared: bool = False, name: str = "") -> str | Path:
    """The storage as `Store` takes it: an absolute folder, or a bucket's address.

    writes: whether it has to be writable; shared: by several machines; name: the sweep's. Raises
    ConfigError or StorageError.
    """
    if "://" in text:
        return _bucket(text, writes)
    path = _expanded(text)
    if not path.is_absolute() and os.environ.get(JOB_MARK):
        raise ConfigError(
            f"storage: {text} is relative, and a Ray job's working folder is a temporary copy; "
            "give an absolute path that every node sees"
        )
    try:
        path = path.resolve()
        if writes:
            _try(path, shared, name)
    except OSError as error:
        raise StorageError(f"storage: {path} cannot be written: {error.strerror}") from error
    except (RuntimeError, ValueError) as error:  # a loop of links, a zero byte
        raise StorageError(f"storage: {text!r} is not a path: {error}") from error
    return path


def _try(path: Path, shared: bool, name: str) -> None:
    """Do in a folder what a run will; raises StorageError or OSError. Nothing of it stays."""
    parent = next(folder for folder in (path, *path.parents) if folder.exists())
    with tempfile.TemporaryDirectory(prefix=".selfloop-probe-", dir=parent) as probe:
        if shared and not blobs.has_links(Path(probe)):
            raise StorageError(
                f"storage: {parent} has no hard links, by which several machines agree on who was "
                "first; give a file system that has them (NFS has), or an address s3:// or gs://"
            )
        try:
            blobs.at(probe).create("probe", b"")
        except StorageError as error:
            raise StorageError(f"storage: {error}") from error
    stored = (folder for folder in OF_THE_STORE if not folder.startswith("mlflow"))  # a warning
    for folder in (*(path / f for f in (name, *stored)), *(path / "stages").glob("*/")):
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            raise StorageError(f"storage: {folder} cannot be written: Permission denied")


def _bucket(text: str, writes: bool) -> str:
    if not re.fullmatch(ADDRESS, text):
        raise ConfigError(
            f"storage: {text}: give a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, of "
            "letters, digits and . _ - ="
        )
    try:
        bucket = blobs.at(text, PROBE_PATIENCE)
        probe = f".selfloop-probe/{uuid.uuid4().hex}"
        bucket.list(".selfloop-probe")
        if writes and not (bucket.create(probe, b"1") and not bucket.create(probe, b"2")):
            raise StorageError(f"{text} writes over what a conditional PUT has to leave alone")
        if writes:
            bucket.delete(probe)
    except StorageError as error:
        raise type(error)(f"storage: {error}") from error
    return bucket.address


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"storage: {text}: there is no such user") from error
