"""Who computes what: several drivers on one storage do not compute the same stage at once.

A driver beats, and holds a lease for each stage that it has handed out. The leases of a driver that
no longer beats are void, and whoever notices clears up after it. A lease saves work and guards
nothing: of two writers of one stage the store lets one win, whoever held the lease. Nothing here
compares clocks of two machines.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from ray_selfloop.errors import StorageError
from ray_selfloop.store.blobs import Blobs

BEAT = 10.0  # s between two beats
VOID = 60.0  # s without a beat after which a driver counts as dead
LAST = 5.0  # s that the last beat is given
DRIVERS, LEASES = "drivers", "leases"


@dataclass(frozen=True)
class Driver:
    """One running driver. started: of its process, in the ticks of its machine's clock."""

    name: str
    host: str
    boot: str
    pid: int
    started: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_driver() -> Driver:
    pid = os.getpid()
    return Driver(uuid.uuid4().hex[:12], socket.gethostname(), _boot(), pid, _started(pid))


def _boot() -> str:
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # containers of one host differ
    return ""


def _started(pid: int) -> str:
    """When a process started; empty where that is not known or there is no such process."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def _gone(driver: Driver) -> bool:
    """Whether ``driver`` was a process of this very machine and is none any more."""
    here = driver.boot and (driver.host, driver.boot) == (socket.gethostname(), _boot())
    return bool(here) and _started(driver.pid) != driver.started


def clear(blobs: Blobs, published: Collection[str]) -> None:
    """Delete what killed drivers have left: leases of published stages, and their own files."""
    for name in blobs.list(LEASES):
        if name.split("/")[1] in published:
            blobs.delete(name)
    for name in blobs.list(DRIVERS):
        driver = _written(blobs.read(name))
        if driver is not None and _gone(driver):
            blobs.delete(name)


class Leases:
    """The leases of this driver, in the storage that they are about."""

    def __init__(self, blobs: Blobs, beat: float = BEAT, void: float = VOID) -> None:
        self.me = this_driver()
        self._blobs, self._beat, self._void = blobs, beat, void
        self._held: dict[str, str] = {}  # key -> name of the lease
        self._seen: dict[str, tuple[bytes, float]] = {}  # driver -> its last beat, since when (s)
        self._ended = threading.Event()
        self._count = 0
        self.beat()
        self._thread = threading.Thread(target=self._go_on, name="leases", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Leases":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def beat(self) -> None:
        self._count += 1
        text = json.dumps({**asdict(self.me), "beat": self._count})
        self._blobs.write(f"{DRIVERS}/{self.me.name}.json", text.encode())

    def take(self, key: str) -> str:
        """Hold the lease of ``key``; the holder, in words, where another driver has it."""
        there = sorted(self._blobs.list(f"{LEASES}/{key}"))
        holder = _written(self._blobs.read(there[-1])) if there else None
        if holder is not None and holder.name != self.me.name and not self._void_now(holder):
            return str(holder)
        number = int(there[-1].rpartition("/")[2]) + 1 if there else 1
        name = f"{LEASES}/{key}/{number:06d}"
        if not self._blobs.create(name, json.dumps(asdict(self.me)).encode()):
            return "another driver"
        self._held[key] = name
        for old in there:
            self._blobs.delete(old)
        return ""

    def drop(self, key: str) -> None:
        """Give the lease of ``key`` back; in trouble with the storage, when this driver ends."""
        name = self._held.get(key, "")
        if name:
            with contextlib.suppress(StorageError):
                self._blobs.delete(name)
                del self._held[key]

    def close(self) -> None:
        """Give everything back; trouble with the storage leaves it to expire."""
        self._ended.set()
        self._thread.join(LAST)  # a beat on its way would come after the end
        with contextlib.suppress(StorageError):
            for name in self._held.values():
                self._blobs.delete(name)
            self._blobs.delete(f"{DRIVERS}/{self.me.name}.json")

    def _go_on(self) -> None:
        while not self._ended.wait(self._beat):
            with contextlib.suppress(Exception):  # a beat that is missed is made up by the next
                self.beat()
                self._clear_up()

    def _clear_up(self) -> None:
        """Delete the files of drivers whose leases are void."""
        for name in self._blobs.list(DRIVERS):
            driver = _written(self._blobs.read(name))
            if driver is not None and driver.name != self.me.name and self._void_now(driver):
                self._blobs.delete(name)

    def _void_now(self, driver: Driver) -> bool:
        """Whether a driver's leases are void: it has ended, or has not beaten for long."""
        if _gone(driver):
            return True
        beat = self._blobs.read(f"{DRIVERS}/{driver.name}.json")
        if beat is None:
            return True
        now = time.monotonic()
        before, since = self._seen.get(driver.name, (b"", now))
        if before != beat:
            before, since = beat, now
        self._seen[driver.name] = (before, since)
        return now - since > self._void


def _written(content: bytes | None) -> Driver | None:
    """Who wrote a lease or a beat; None where nobody did, or it cannot be read."""
    try:
        said = json.loads(content or b"")
        name, host, boot, start = (str(said[n]) for n in ("name", "host", "boot", "started"))
        return Driver(name, host, boot, int(str(said["pid"])), start)
    except (ValueError, TypeError, KeyError):
        return None
