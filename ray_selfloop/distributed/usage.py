"""How well a run used its slots: their busy share, and the stages that nothing could have passed.

Reads what the driver has noted and what the records say; knows nothing of Ray.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ray_selfloop.progress import Progress


@dataclass(frozen=True)
class Usage:
    """All but ``slots`` and ``stages`` in seconds of this run.

    wall: from its start until now. busy: that stages computed in all slots. stages: of the critical
    path, which leads to the stage that ended last. computed: by these. before: until the first
    of them began. after: since the last of them ended.
    """

    slots: int
    wall: float
    busy: float
    stages: int
    computed: float
    before: float
    after: float

    @property
    def share(self) -> float:
        """Of the time of all slots, what stages computed in."""
        return self.busy / (self.slots * self.wall)

    @property
    def between(self) -> float:
        """On the critical path, between its stages: waits for a slot, and starts of processes."""
        return self.wall - self.before - self.computed - self.after

    def __str__(self) -> str:
        return (
            f"slots    {self.slots}, busy {self.share:.2f} of {self.wall:.0f} s; "
            f"the longest path, {self.stages} stages, computed {self.computed:.0f} s: "
            f"{self.before:.0f} s went before it, {self.between:.0f} s between its stages, "
            f"{self.after:.0f} s after it"
        )


def usage(
    progress: Progress, seconds: Mapping[str, float], slots: int, begun: float, now: float
) -> Usage | None:
    """Of a run from ``begun`` until ``now``; None where no stage was computed in it.

    seconds: key -> s that a stage computed, as its record says.
    """
    ended = {key: when for key, when in progress.ended.items() if key in seconds}
    if not ended:
        return None
    path = list(_path(progress, ended))
    return Usage(
        slots=slots,
        wall=now - begun,
        busy=sum(seconds[key] for key in ended),
        stages=len(path),
        computed=sum(seconds[key] for key in path),
        before=ended[path[-1]] - progress.took[path[-1]] - begun,
        after=now - ended[path[0]],
    )


def _path(progress: Progress, ended: Mapping[str, float]) -> Iterator[str]:
    """The stage that ended last, of its inputs the one that ended last, and so on."""
    here = set(ended)
    while here:
        last = max(here, key=lambda key: ended[key])
        yield last
        here = {key for key in progress.graph.nodes[last].stage.inputs.values() if key in ended}
