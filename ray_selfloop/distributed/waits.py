"""What a sweep waits for while nothing ends: machines, another driver, or the storage.

Decides when that is said. Knows nothing of how stages are computed.
"""

import contextlib
import time
from typing import Any

from ray_selfloop.distributed import nodes
from ray_selfloop.distributed.cluster import SLOT
from ray_selfloop.errors import StorageOutage
from ray_selfloop.progress import Progress

LOOK = 5.0  # s between two looks at what another driver computes, and at what waits for machines
LOOKS = 8  # stages of other drivers that are looked at in one round
STALL = 60.0  # s for which something has waited before it is said
AGAIN = 300.0  # s after which it is said again
TRIALS = {SLOT, nodes.HEAD}  # trials ask for one of these, nothing else does
BORNE = 600.0  # s for which a storage that does not answer is borne


class Elsewhere:
    """Stages that other drivers compute."""

    def __init__(self) -> None:
        self._looks = LOOKS
        self._holders: dict[str, str] = {}
        self._next: dict[str, float] = {}  # key -> when it is looked at again (monotonic s)
        self._said = -AGAIN

    def new_round(self) -> None:
        """Some more stages may be looked at."""
        self._looks = LOOKS

    def look_now(self, key: str) -> bool:
        """Whether it is time to see who computes a stage."""
        if key not in self._next:
            return True
        if self._looks < 1 or time.monotonic() < self._next[key]:
            return False
        self._looks -= 1
        return True

    def due(self) -> bool:
        """Whether some stage is to be looked at again."""
        now = time.monotonic()
        return any(now >= then for then in self._next.values())

    def note(self, key: str, holder: str) -> None:
        """Another driver computes a stage."""
        self._holders[key], self._next[key] = holder, time.monotonic() + LOOK

    def forget(self, key: str) -> None:
        """Nobody else computes a stage any more."""
        self._holders.pop(key, None)
        self._next.pop(key, None)

    def sentence(self, progress: Progress) -> str:
        """Said, now and then, where this driver only waits for another one."""
        now = time.monotonic()
        if not self._holders or progress.running or now - self._said < AGAIN:
            return ""
        self._said = now
        key, holder = next(iter(self._holders.items()))
        return (
            f"waiting for another driver of the same storage: {holder} computes {key} and "
            f"{len(self._holders) - 1} more"
        )


class Outages:
    """Times in which the driver itself cannot reach the storage; what runs goes on meanwhile."""

    def __init__(self) -> None:
        self._since: float | None = None  # of the outage that lasts (monotonic s)
        self._next = 0.0
        self._unsaid = ""

    def wait(self) -> bool:
        """Whether it is too early to ask the storage again."""
        return time.monotonic() < self._next

    def note(self, error: StorageOutage) -> None:
        """The storage did not answer; raises ``error`` where that has lasted too long."""
        now = time.monotonic()
        if self._since is None:
            self._since, self._unsaid = now, f"waiting for the storage: {error}"
        elif now - self._since > BORNE:
            raise error
        self._next = now + LOOK

    def over(self) -> None:
        """The storage answers."""
        self._since = None

    def sentence(self) -> str:
        """Said once for each outage."""
        said, self._unsaid = self._unsaid, ""
        return said


class Stalls:
    """Notices when stages wait for machines."""

    def __init__(self, patience: float = STALL) -> None:
        """patience: s for which something has waited before that counts."""
        now = time.monotonic()
        self._patience = patience
        self._since, self._looked, self._said = now, now, -AGAIN
        self._waiting = ""
        self._starved: float | None = None  # since when a stage waits for a GPU (monotonic s)

    def moved(self) -> None:
        """Something has ended."""
        self._since = time.monotonic()

    def starved(self) -> bool:
        """Whether a stage that is no trial has long waited for a GPU.

        Trials of a part of a GPU each, spread over machines, leave no whole one to it for as long
        as new ones fill the gaps.
        """
        self._look()
        return self._starved is not None and time.monotonic() - self._starved > self._patience

    def sentence(self) -> str:
        """What waits for what, now and then; empty while all goes on."""
        self._look()
        now = time.monotonic()
        if not self._waiting:
            self._since = now
        if now - self._since < self._patience or now - self._said < AGAIN:
            return ""
        self._said = now
        return f"nothing has ended for {now - self._since:.0f} s: {self._waiting}"

    def _look(self) -> None:
        """Ask Ray, now and then; a head that answers late must not end a sweep."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        with contextlib.suppress(Exception):
            found = nodes.status()
            self._waiting = nodes.waiting(found)
            since = now if self._starved is None else self._starved
            self._starved = since if _asks_for_a_gpu(found) else None


def _asks_for_a_gpu(found: Any) -> bool:
    """Whether a request for a GPU that is no trial's is not placed yet."""
    summary = found.resource_demands
    pieces = [
        piece.bundle
        for demand in (*summary.placement_group_demand, *summary.ray_task_actor_demand)
        for piece in demand.bundles_by_count
    ]
    return any(piece.get("GPU") and not TRIALS & piece.keys() for piece in pieces)
