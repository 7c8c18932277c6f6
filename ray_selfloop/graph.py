"""What a stage is, apart from how and where it runs.

A stage is named by the hash of everything its result depends on: its kind, the version of its
code, its settings and the keys of its inputs. Resources, names and storage are not among them.
Nothing here runs anything.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def digest(value: Any) -> str:
    """Hash of a JSON value, the same for equal values on every machine: 20 hex digits."""
    return hashlib.sha256(_encode(value).encode()).hexdigest()[:20]


class Kindred(Protocol):
    """What a graph must know of a kind of stage."""

    @property
    def name(self) -> str:
        """In every key."""

    @property
    def version(self) -> int:
        """Of what computes it."""


@dataclass(frozen=True)
class Stage:
    """One unit of work, published under ``key``.

    kind: what it is; see ``stages/kinds.py``.
    config: JSON values, all that its result depends on besides its inputs.
    inputs: name -> key of the stage that gives it.
    hints: where things lie on this cluster (a data folder); never in the key.
    """

    kind: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    hints: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """``<kind>-<hash>``."""
        identity = [self.kind, self.version, self.config, self.inputs]
        return f"{self.kind}-{digest(identity)}"


class Place(NamedTuple):
    """Where in a sweep a stage stands; for people, never in a key."""

    scenario: str
    loop_seed: int
    generation: int
    classifier: str = ""
    seed: int = -1

    def __str__(self) -> str:
        text = f"{self.scenario}, loop seed {self.loop_seed}, generation {self.generation}"
        return f"{text}, {self.classifier} seed {self.seed}" if self.classifier else text


@dataclass
class Node:
    """A stage in a graph, with every place that uses it.

    awaited: a trial whose weights a filter or the judge reads.
    """

    stage: Stage
    places: list[Place] = field(default_factory=list)
    awaited: bool = False


class Graph:
    """Stages by key, inputs before the stages that need them."""

    def __init__(self, versions: Mapping[str, int] | None = None) -> None:
        """versions: of kinds that are to have another version than theirs."""
        self.versions = versions or {}
        self.nodes: dict[str, Node] = {}
        self._placed: set[tuple[str, Place]] = set()
        self._of: dict[tuple[str, str], list[tuple[Place, Node]]] = defaultdict(list)

    def add(
        self,
        kind: Kindred,
        config: Mapping[str, Any],
        inputs: Mapping[str, Stage],
        place: Place,
        hints: Mapping[str, Any] | None = None,
    ) -> Stage:
        """The stage for these values; one that is there already gains a place."""
        keys = {name: stage.key for name, stage in inputs.items()}
        version = self.versions.get(kind.name, kind.version)
        stage = Stage(kind.name, version, config, keys, hints or {})
        assert self.nodes.keys() >= {*keys.values()}, "inputs are added first"
        node = self.nodes.setdefault(stage.key, Node(stage))
        if (stage.key, place) not in self._placed:
            self._placed.add((stage.key, place))
            node.places.append(place)
            self._of[kind.name, place.scenario].append((place, node))
        return node.stage

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __len__(self) -> int:
        return len(self.nodes)

    def of_kind(self, kind: str) -> list[Node]:
        """All nodes of one kind, in the order of their adding."""
        return [node for node in self if node.stage.kind == kind]

    def placed(self, kind: str, scenario: str) -> Sequence[tuple[Place, Node]]:
        """The nodes of one kind in a scenario, by place, in the order of their adding to it."""
        return self._of.get((kind, scenario), ())
