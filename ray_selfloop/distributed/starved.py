"""Whether other programs take this machine's CPUs from a sweep.

The kernel keeps of every thread how long it ran, and how long it could have run and waited. Knows
nothing of Ray: what this process has started is asked, which on a cluster is nothing.
"""

import contextlib
import os
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

PROC = Path("/proc")
LOOK = 60.0  # s between two looks
AGAIN = 600.0  # s after which it is said again
MUCH = 0.4  # of the time that workers could have run
LEAST = 10.0  # s that they must have run or waited, for a share to mean something
Times = dict[str, tuple[float, float]]
"""Thread -> s that it has run, s that it has waited for a CPU."""


class Starved:
    """Notices it, now and then."""

    def __init__(self, root: Path = PROC, nice: int = 0) -> None:
        """nice: what the sweep's workers add to this process's level."""
        self._root, self._before, self._nice = root, times(root), nice
        self._looked, self._said = time.monotonic(), -AGAIN

    def sentence(self) -> str:
        """Said where workers have waited for much of the time since the last look."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return ""
        before, self._before, self._looked = self._before, times(self._root), now
        waited = share(before, self._before)
        if waited < MUCH or now - self._said < AGAIN:
            return ""
        self._said, level = now, os.nice(0) + self._nice
        return (
            f"other programs use this machine's CPUs: the sweep waited {waited:.0%} of the time in "
            f"which it could have computed; start them at a nice level above {level}"
        )


def share(before: Mapping[str, tuple[float, float]], after: Times) -> float:
    """Of the time between two looks in which threads could have run: the part that they waited."""
    nothing = (0.0, 0.0)
    ran = sum(now[0] - before.get(thread, nothing)[0] for thread, now in after.items())
    waited = sum(now[1] - before.get(thread, nothing)[1] for thread, now in after.items())
    return waited / (ran + waited) if ran + waited >= LEAST else 0.0


def times(root: Path = PROC) -> Times:
    """Of all threads of the processes below this one; empty where this system does not say."""
    found: Times = {}
    for pid in _below(os.getpid(), dict(_parents(root))):
        for path in root.glob(f"{pid}/task/*/schedstat"):
            with contextlib.suppress(OSError, ValueError):  # it has ended
                ran, waited, _ = (int(word) * 1e-9 for word in path.read_text().split())
                found[path.parent.name] = ran, waited
    return found


def _parents(root: Path) -> Iterator[tuple[int, int]]:
    """Every process, and the one that started it."""
    for path in root.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            yield int(path.parent.name), int(path.read_text().rpartition(")")[2].split()[1])


def _below(top: int, parents: Mapping[int, int]) -> Collection[int]:
    found: set[int] = set()
    while grown := {pid for pid, by in parents.items() if by == top or by in found} - found:
        found |= grown
    return found
