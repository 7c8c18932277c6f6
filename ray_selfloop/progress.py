"""Where a run stands: which stages are published, running or failed."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ray_selfloop.graph import Graph, Node


@dataclass
class Progress:
    """Stage keys by state; the scheduler writes it, the live table reads it.

    running: key -> when it started (monotonic s). took: key -> s that it ran in this run.
    ended: key -> when it was published in this run (monotonic s).
    failed: key -> the error in one line.
    """

    graph: Graph
    cached: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    running: dict[str, float] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def published(self) -> set[str]:
        """Stages whose record is in the store."""
        return self.cached | self.done

    def forget(self, keys: Iterable[str]) -> None:
        """Some stages are not published after all."""
        self.cached.difference_update(keys)
        self.done.difference_update(keys)

    def missing(self) -> list[Node]:
        """Stages that are neither published, failed nor running, in the graph's order."""
        settled = self.published | self.failed.keys() | self.running.keys()
        return [node for node in self.graph if node.stage.key not in settled]

    def ready(self) -> list[Node]:
        """Missing stages whose inputs are all published."""
        published = self.published
        return [
            node
            for node in self.missing()
            if all(key in published for key in node.stage.inputs.values())
        ]

    def blocked(self) -> list[Node]:
        """Missing stages that cannot run because something they need has failed."""
        lost = set(self.failed)
        blocked = []
        for node in self.graph:
            if node.stage.key not in lost and lost & set(node.stage.inputs.values()):
                lost.add(node.stage.key)
                blocked.append(node)
        return blocked

    def complete(self) -> bool:
        """Whether every stage is published: none failed, none is still to be computed."""
        return self.graph.nodes.keys() <= self.published

    def seconds(self, key: str, now: float) -> float:
        """Seconds that a stage has run in this run, so far."""
        return now - self.running[key] if key in self.running else self.took.get(key, 0.0)
