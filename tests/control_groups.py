"""Real control groups (version 1) with half a core and 2 GB: of a container, all that counts."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

LIMIT = 30  # s, far above what ended processes take to go


class Container:
    """A group of each controller, below the one that this process is in."""

    def __init__(self) -> None:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = {line.split(":")[1]: line.split(":", 2)[2].lstrip("/") for line in lines}
        name = f"selfloop-test-{os.getpid()}"
        tops = {part: Path("/sys/fs/cgroup", part, own[part], name) for part in ("cpu", "memory")}
        self.cpu, self.memory = tops["cpu"], tops["memory"]

    def within(self, *words: str) -> list[str]:
        """The command `python WORDS`, run in the groups."""
        enter = [f"echo $$ > {group}/cgroup.procs" for group in (self.cpu, self.memory)]
        return ["sh", "-c", " && ".join([*enter, 'exec "$0" "$@"']), sys.executable, *words]

    def commands(self) -> list[str]:
        """What the processes within are called."""
        found = []
        for pid in (self.memory / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                found.append(Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0])
        return found

    def killed(self) -> int:
        """How many processes were killed for their memory."""
        said = (self.memory / "memory.oom_control").read_text().split()
        return int(said[said.index("oom_kill") + 1])


def half_a_core() -> Iterator[Container]:
    """Such groups; skips, named, where they cannot be made."""
    made: list[Path] = []
    try:
        found = Container()
        for group in (found.cpu, found.memory):
            group.mkdir()
            made.append(group)
        (found.cpu / "cpu.cfs_quota_us").write_text("50000")
        (found.memory / "memory.limit_in_bytes").write_text(str(2 * 1024**3))
    except (OSError, KeyError) as error:
        _remove(made)
        pytest.skip(f"no control groups of version 1 can be made here: {error!r}")
    try:
        yield found
    finally:
        _remove(made)


def _remove(groups: list[Path]) -> None:
    """Once their processes are gone."""
    tick = threading.Event()
    for group in groups:
        for _ in range(10 * LIMIT):
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            tick.wait(0.1)
