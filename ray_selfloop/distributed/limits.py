"""What a process may use of its machine, whatever sets the bound.

Affinity, and the CPU quota and memory of its control groups (both versions of Linux, every group
above its own too). Knows nothing of Ray, which sees a part of this.
"""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

GB = 1e9  # bytes
WORKER = 1.2  # GB: a stage's process holds 0.6, and a stream has two
IDLE = 1.3  # GB beside each worker, where processes that wait for their next stage may stay
BESIDES = 1.0  # GB for the driver and Ray's own processes
EPSILON = 1e-6
ROOT = Path("/")
GROUP = re.compile(r"^\d+:([^:\n]*):(/.*)", re.MULTILINE)  # controllers and path
MOUNT = re.compile(r"^\S+ \S+ \S+ (\S+) (\S+) .* - (\S+) \S* (\S+)", re.MULTILINE)
"""Folder in the file system, where it is mounted, the file system's kind and its options."""


@dataclass(frozen=True)
class Limits:
    """cores: CPU cores' worth of time. memory: bytes, infinite where that is not known."""

    cores: float
    memory: float

    @property
    def whole_cores(self) -> int:
        """Processes that can compute at once without sharing a core; at least one must."""
        return max(int(self.cores + EPSILON), 1)

    @property
    def workers(self) -> int:
        """Workers that fit into cores and memory; at least one must."""
        held = (self.memory / GB - BESIDES) / WORKER + EPSILON
        return max(int(min(self.whole_cores, held)), 1)

    def slots(self, asked: int | None) -> int:
        """Stages of one core that run at once; None: as many as there is room for."""
        return self.workers if asked is None else min(asked, self.whole_cores)

    def cramped(self, workers: int) -> bool:
        """Whether memory is short of what so many workers hold when idle processes stay."""
        return self.memory / GB < BESIDES + workers * (WORKER + IDLE)

    def __str__(self) -> str:
        return f"{self.cores:g} CPU cores and {self.memory / GB:.1f} GB of memory"


def limits(root: Path = ROOT) -> Limits:
    """The bounds of this process. root: where `/proc` and `/sys` are looked for."""
    groups = list(_groups(root))
    cores = min([float(len(os.sched_getaffinity(0))), *map(_cores, groups)])
    return Limits(cores, min([_installed(root), *map(_memory, groups)]))


def _groups(root: Path) -> Iterator[Path]:
    """The control groups that this process is in, those above them included."""
    mounts = list(_mounts(root))
    for controllers, path in GROUP.findall(_read(root / "proc/self/cgroup")):
        asked = set(controllers.split(",")) - {""}
        for top, point, kind, known in mounts:
            if kind == ("cgroup" if asked else "cgroup2") and asked <= known:
                inside = _inside(path, top)
                yield from (root / point / part for part in (inside, *inside.parents))


def _mounts(root: Path) -> Iterator[tuple[str, str, str, set[str]]]:
    """Mounted hierarchies: the group at their top, where they are, their kind and controllers."""
    for top, point, kind, options in MOUNT.findall(_read(root / "proc/self/mountinfo")):
        yield _decoded(top), _decoded(point).lstrip("/"), kind, set(options.split(","))


def _decoded(name: str) -> str:
    """A name with the characters for which the kernel writes octal numbers, as a space."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), name)


def _inside(path: str, top: str) -> PurePosixPath:
    """A group below the top of its hierarchy; a container may see no more than the top itself."""
    group = PurePosixPath(path)
    if ".." in group.parts or not group.is_relative_to(top):
        return PurePosixPath()
    return group.relative_to(top)


def _cores(group: Path) -> float:
    """Cores' worth of time that a group's quota gives."""
    words = _read(group / "cpu.max").split()
    if not words:
        words = [_read(group / f"cpu.cfs_{part}_us").strip() for part in ("quota", "period")]
    quota, period = map(_number, [*words, "", ""][:2])
    return quota / period if 0 < period < math.inf else math.inf


def _memory(group: Path) -> float:
    """Bytes that a group may hold; above `high` it is slowed down until it hardly runs."""
    bounds = ("max", "high", "limit_in_bytes")
    return min(_number(_read(group / f"memory.{name}")) for name in bounds)


def _installed(root: Path) -> float:
    """Bytes that the machine has."""
    said = re.search(r"^MemTotal:(.*)kB", _read(root / "proc/meminfo"), re.MULTILINE)
    return _number(said[1] if said else "") * 1024


def _number(text: str) -> float:
    """Infinite where there is no bound: `max`, -1, nothing, what is no number."""
    return float(text) if text.strip().isdecimal() else math.inf


def _read(path: Path) -> str:
    """Empty where this system has no such file."""
    try:
        return path.read_text(errors="surrogateescape")
    except OSError:
        return ""
