"""What a sweep waits for while nothing ends: machines, or another driver of the same storage.

Decides when that is said. Knows nothing of how stages are computed.
"""

import time

from ray_selfloop.distributed import nodes
from ray_selfloop.progress import Progress

LOOK = 5.0  # s between two looks at what another driver computes, and at what waits for machines
LOOKS = 8  # stages of other drivers that are looked at in one round
STALL = 60.0  # s for which something has waited before it is said
AGAIN = 300.0  # s after which it is said again


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


class Stalls:
    """Notices when stages wait for machines while nothing ends."""

    def __init__(self) -> None:
        now = time.monotonic()
        self._since, self._looked, self._said = now, now, -AGAIN

    def moved(self) -> None:
        """Something has ended."""
        self._since = time.monotonic()

    def sentence(self) -> str:
        """What waits for what, now and then; empty while all goes on."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return ""
        self._looked = now
        try:
            said = nodes.waiting(nodes.status())
        except Exception:  # a head that answers late must not end a sweep
            return ""
        if not said:
            self._since = now
        if now - self._since < STALL or now - self._said < AGAIN:
            return ""
        self._said = now
        return f"nothing has ended for {now - self._since:.0f} s: {said}"
