"""What a kind of stage is: its name and version, what its key holds, what computes it, its needs.

Each kind stands in a file of its own, which alone writes and reads what its key holds. Such a file
loads without torch: what computes is loaded by the worker that runs it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ray_selfloop.config.sweep import Sweep
from ray_selfloop.graph import Graph, Place, Stage
from ray_selfloop.stages.chain import NOBODY, Chain, Who
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.store.records import Store

if TYPE_CHECKING:
    import torch

Named = Mapping[str, Stage]
"""The name under which a stage reads another -> that stage."""
Summary = Mapping[str, Any]
"""Small JSON values of a result."""


class Held(BaseModel):
    """A part of what a key holds. What is not set is not in the key."""

    model_config = ConfigDict(frozen=True)

    def held(self) -> dict[str, Any]:
        """As JSON values: settings whole, with their defaults; of this model what is set."""
        values = {**self.__dict__, **(self.model_extra or {})}
        return {name: _json(values[name]) for name in self.model_fields_set}


def threads_of(stage: Stage) -> int:
    """Threads that a stage computes with."""
    return Settings.model_validate(stage.config).threads


_PLAIN = {str, int, float, bool, dict, type(None)}  # that are JSON values as they are


def _json(value: object) -> object:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Held):
        return value.held()
    if isinstance(value, tuple):
        return [_json(one) for one in value]
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


class Settings(Held):
    """All that a stage's key holds besides its inputs: a model of each kind's own.

    threads: of BLAS, OpenMP and torch; they are part of the key where they move the last bits.
    device: on what it is computed. precision: of its trainings, by autocast. Both are in the key
    where they are not the default.
    """

    threads: int = 1
    device: Literal["cpu", "gpu"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"


class Places(BaseModel):
    """Where things lie on this cluster, and what only speed depends on: never in a key.

    decoders: threads that decode pictures. pretrained: the weights that a network starts from.
    inception: Inception's. generator: where its files lie; scores: group of `filter` -> those that
    it names. Of a dataset also its folders.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    decoders: int = 1
    pretrained: bool | str | None = None
    inception: str = ""
    generator: dict[str, Any] = Field(default_factory=dict)
    scores: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @property
    def named(self) -> Mapping[str, Any]:
        """A dataset's folders, and what to do with damage, by the names of its settings."""
        return self.model_extra or {}

    @property
    def weights(self) -> dict[str, bool | str]:
        """``pretrained`` as a field of settings; nothing where no place was given."""
        return {} if self.pretrained is None else {"pretrained": self.pretrained}


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Work(Generic[S]):
    """One stage to be computed: what it reads, and the folder that its result is written to."""

    stage: Stage
    settings: S
    inputs: Inputs
    device: str = "cpu"
    folder: Path = Path()

    @property
    def torch_device(self) -> "torch.device":
        """The device that Ray assigned, as torch names it."""
        import torch

        return torch.device(self.device)

    @property
    def places(self) -> Places:
        return Places.model_validate(self.stage.hints)


Gpu = Literal["", "gpus_per_generator", "gpus_per_trial"]
How = Literal["task", "trial", "stream", "search", "workers"]


class Training(NamedTuple):
    """What a stage trains, or reads with, on a GPU.

    side: pixels that images are enlarged to; None: their own. pictures: whether they are read from
    files, frame by frame.
    """

    network: str
    side: int | None
    batch_size: int
    pictures: bool


@dataclass(frozen=True)
class Needs:
    """What a stage asks of Ray.

    how: a task of its own; a `trial` of the sweep's one experiment; a `stream` over pools; a
    `search` by an experiment of its own; or several `workers` of one training, where it has them.
    gpu: the field of `resources` that says how much of a GPU it gets; "": none.
    awaited: whether a chain cannot go on without it.
    workers: processes that share it. training: what it trains, where that decides the GPU's part.
    """

    how: How = "task"
    gpu: Gpu = ""
    awaited: bool = True
    workers: Callable[[Any], int] = field(default=lambda held: 1)
    training: Callable[[Any], Training] | None = None


@dataclass(frozen=True)
class Kind(Generic[S]):
    """One kind of stage.

    version: of what it computes; raised when the meaning of its result changes.
    holds: the model of what its key holds. settings: those of a chain's generation, and of one
    network where each has its own (by_network). threaded: whether the threads are in the key.
    trains: whether `compute.precision` is.
    run: ``module:function`` of a `Work`, loaded by a worker alone.
    needed: whether a chain has such a stage at all. of_data: whether all chains have the same.
    places: what it is told beside its key, and other stages of the chain are not.
    """

    name: str
    version: int
    holds: type[S]
    run: str
    needs: Needs = Needs()
    settings: Callable[[Chain, int, Who], S] | None = None
    threaded: bool = True
    trains: bool = False
    of_data: bool = False
    by_network: bool = False
    needed: Callable[[Chain], bool] = field(default=lambda chain: True)
    places: Callable[[Chain, Who], Mapping[str, Any]] = field(default=lambda chain, who: {})

    def add(self, graph: Graph, chain: Chain, n: int, inputs: Named, who: Who = NOBODY) -> Stage:
        """The stage of this kind in generation ``n`` of a chain."""
        assert self.settings is not None, f"{self.name} is no stage of a chain"
        settings = self.settings(chain, n, who)
        held = {**settings.held(), **self._computed(settings, chain.sweep)}
        hints = {**chain.places, **self.places(chain, who)}
        return graph.add(self, held, inputs, chain.place(n, who), hints)

    def _computed(self, settings: S, sweep: Sweep) -> dict[str, Any]:
        """How it is computed, as far as that is in its key."""
        compute, needs, found = sweep.compute, self.needs, dict[str, Any]()
        if self.threaded:
            found["threads"] = compute.threads
        if self.trains and compute.precision != "float32":
            found["precision"] = compute.precision
        own = needs.training(settings).network if needs.training and sweep.resources.gpus_of else ""
        if sweep.resources.on_gpu(needs.gpu, own):
            found["device"] = "gpu"
        return found

    def add_settings(self, graph: Graph, settings: S, inputs: Named, place: Place) -> Stage:
        """A stage that no chain has: its settings are given."""
        return graph.add(self, settings.held(), inputs, place)

    def read(self, config: Mapping[str, Any]) -> S:
        """What a key holds, of a stage or of its record."""
        return self.holds.model_validate(config)

    def work(
        self, stage: Stage, store: Store, device: str = "cpu", folder: Path = Path()
    ) -> Work[S]:
        """A stage ready to be computed: its inputs are published."""
        return Work(stage, self.read(stage.config), Inputs(stage, store), device, folder)

    def compute(self, work: Work[S], **how: Any) -> Summary:
        found: Summary = resolve_name(self.run)(work, **how)
        return found
