"""The stage store: every result is published once under its stage's key, or not at all.

In a folder or a bucket, `<root>/stages/<kind>/<key>/<attempt>/...` holds the artifacts of one
attempt, and `<root>/stages/<kind>/<key>/record.json` names the attempt that won. The record comes
last, in one create-if-absent step, so that of two writers one wins and the other reads it. A reader
believes only a record. Knows nothing of what a stage means.
"""

import contextlib
import json
import os
import platform
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ray_selfloop.errors import CorruptRecord, StorageError
from ray_selfloop.graph import Stage, digest
from ray_selfloop.store import artifacts, blobs, memory
from ray_selfloop.store.artifacts import File
from ray_selfloop.store.blobs import Blobs

PACKAGES = ("ray-selfloop", "torch", "torchvision", "numpy", "open_clip_torch", "timm", "ray")
FORMAT = 1
MEMORY = "peak_memory"
STAGES = "stages"  # the folder of all kinds
PLACE = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*")  # an attempt, and files inside it
SEAL = "seal"  # in a record's file: the digest of all else that stands there


@dataclass(frozen=True)
class Record:
    """What was published for one stage.

    summary: small JSON values of the result (never a time or a place).
    files: name -> [bytes, sha256]. seconds: duration in s. published: Unix time in s.
    environment: versions, and the peak memory of the process that published it, in bytes.
    """

    key: str
    kind: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    summary: Mapping[str, Any]
    files: Mapping[str, File]
    attempt: str
    seconds: float
    published: float
    environment: Mapping[str, str]
    format: int = FORMAT

    @property
    def memory(self) -> float:
        """Peak resident memory in bytes; NaN where it is not known."""
        return float(self.environment.get(MEMORY, "nan"))


class Store:
    """Publish and find records in a folder, or below a prefix of a bucket."""

    def __init__(self, root: str | Path) -> None:
        """root: a folder, `s3://bucket/prefix` or `gs://bucket/prefix`; nothing is touched yet."""
        self.blobs = blobs.at(root)
        self._artifacts = artifacts.of(self.blobs)

    @property
    def address(self) -> str:
        """The root as text: `Store(store.address)` is the same store on every node."""
        return self.blobs.address

    @property
    def root(self) -> Path:
        """The folder of a store that is one; raises StorageError for a bucket."""
        if not isinstance(self.blobs, blobs.Folder):
            raise StorageError(f"{self.address} is a bucket, not a folder")
        return self.blobs.root

    def folder(self, key: str) -> Path:
        """Where the attempts and the record of ``key`` lie, in a store that is a folder."""
        return self.root / _place(key)

    def find(self, key: str, checksums: bool = False) -> Record | None:
        """The record of ``key``, or None where nothing is published.

        Files are compared by size, with ``checksums`` by content too; not so in a bucket, where
        content is compared when a file is fetched. Raises CorruptRecord where the record or a
        file is not what was published.
        """
        record = self._record(key)
        if record is not None:
            self._check(record, checksums)
        return record

    def begun(self, kinds: Iterable[str]) -> set[str] | None:
        """Keys of these kinds that something lies under, published or not, in a folder.

        One look at each kind in the place of one for each key; None where that tells nothing: in a
        bucket, or in a folder that cannot be listed.
        """
        if not isinstance(self.blobs, blobs.Folder):
            return None
        found: set[str] = set()
        try:
            for kind in kinds:
                with contextlib.suppress(FileNotFoundError):
                    found.update(os.listdir(self.root / STAGES / kind))
        except OSError:
            return None
        return found

    def get(self, key: str) -> Record:
        """The record of ``key``; raises StorageError where nothing is published."""
        record = self.find(key)
        if record is None:
            raise StorageError(f"nothing is published under {key} in {self.address}")
        return record

    def path(self, record: Record, name: str) -> Path:
        """A published file on this machine.

        Raises CorruptRecord where what a bucket has is not what was published; the record is then
        set aside, so that the next run computes the stage again.
        """
        if name not in record.files:
            raise StorageError(f"{record.key} has no file {name}")
        try:
            return self._artifacts.fetched(f"{_attempt(record)}/{name}", record.files[name])
        except CorruptRecord as error:
            standing = self._record(record.key)
            if standing and standing.attempt == record.attempt:
                self.discard(record.key)
            raise CorruptRecord(f"{record.key}: {error}; run again to compute it anew") from error

    def paths(self, record: Record, names: Iterable[str]) -> list[Path]:
        """Several published files on this machine; those of one folder there lie in one here."""
        return blobs.each(lambda name: self.path(record, name), names)

    @contextlib.contextmanager
    def attempt(self, key: str) -> Iterator[Path]:
        """A new, empty folder to write artifacts to; gone afterwards unless it was published.

        Its name is the attempt's. Raises StorageError where the disk is full.
        """
        name = uuid.uuid4().hex[:12]
        attempt = f"{_place(key)}/{name}"
        try:
            folder = self._artifacts.workplace(attempt)
            folder.mkdir(parents=True, exist_ok=True)
            with artifacts.room_in(folder):
                yield folder
        finally:
            if not self._stands(key, name):
                self._artifacts.drop(attempt)

    def workplace(self, key: str, attempt: str) -> Path:
        """Where another process of ``attempt`` writes its files before it contributes them."""
        return self._artifacts.workplace(f"{_place(key)}/{attempt}")

    def contribute(self, key: str, attempt: str, path: Path) -> File:
        """Make a file of the `workplace` part of the attempt; returns what `publish` asks for."""
        whole = f"{_place(key)}/{attempt}"
        name = path.relative_to(self.workplace(key, attempt)).as_posix()
        file = path.stat().st_size, artifacts.sha256_of(path)
        self._artifacts.send(whole, [name])
        return file

    def publish(
        self,
        stage: Stage,
        folder: Path,
        summary: Mapping[str, Any],
        seconds: float,
        contributed: Mapping[str, File] = MappingProxyType({}),
    ) -> Record:
        """Make what is in ``folder`` the result of ``stage``, unless another writer was first.

        contributed: name -> what `contribute` gave, of files of other processes. Returns the
        record that stands, ours or the other's.
        """
        files = artifacts.described(folder, contributed)
        record = Record(
            key=stage.key,
            kind=stage.kind,
            version=stage.version,
            config=dict(stage.config),
            inputs=dict(stage.inputs),
            summary=dict(summary),
            files=files,
            attempt=folder.name,
            seconds=round(seconds, 3),
            published=time.time(),
            environment={**_environment(), **_memory()},
        )
        content = _sealed(record)
        self._artifacts.send(_attempt(record), files.keys() - contributed.keys())
        self._check(record, checksums=False)
        won = self.blobs.create(_record_of(stage.key), content)
        self.unfinished(stage.key).clear()
        if not won:
            return self.get(stage.key)
        return _parse(self.blobs.place(_record_of(stage.key)), stage.key, content)

    def unfinished(self, key: str) -> "Unfinished":
        """Where a long stage keeps what its next attempt goes on from; gone once it is published.

        What lies there is believed by nobody but that stage, which has to check it.
        """
        return Unfinished(self.blobs, f"unfinished/{key}")

    def discard(self, key: str) -> None:
        """Set the record of ``key`` aside, so that the stage counts as missing."""
        aside = f"{_place(key)}/record.corrupt-{uuid.uuid4().hex[:8]}.json"
        self.blobs.move(_record_of(key), aside)

    def discard_damaged(self, key: str) -> str | None:
        """Discard the record of ``key`` where it, or a file, is not what was published.

        Returns what is wrong; None where nothing is (any more): another driver may have found the
        damage too, and published the stage again.
        """
        looked_at = self.blobs.read(_record_of(key))
        try:
            self.find(key, checksums=True)
        except CorruptRecord as error:
            if self.blobs.read(_record_of(key)) == looked_at:
                self.discard(key)
                return str(error)
        return None

    def _record(self, key: str) -> Record | None:
        name = _record_of(key)
        content = self.blobs.read(name)
        return None if content is None else _parse(self.blobs.place(name), key, content)

    def _stands(self, key: str, attempt: str) -> bool:
        """Whether the attempt is the published one, or may be."""
        try:
            record = self._record(key)
        except CorruptRecord:
            return False
        except StorageError:
            return True
        return record is not None and record.attempt == attempt

    def _check(self, record: Record, checksums: bool) -> None:
        attempt = _attempt(record)
        sizes = self._artifacts.sizes(attempt, record.files)
        for name, (size, sha256) in record.files.items():
            place = self.blobs.place(f"{attempt}/{name}")
            if name not in sizes:
                raise CorruptRecord(f"{record.key}: {place} is missing")
            if sizes[name] != size:
                raise CorruptRecord(
                    f"{record.key}: {place} has {sizes[name]} bytes, {size} were published"
                )
            if checksums and not self._artifacts.intact(f"{attempt}/{name}", sha256):
                raise CorruptRecord(f"{record.key}: the content of {place} has changed")


class Unfinished:
    """Named bytes that outlive the process, and the node, that wrote them."""

    def __init__(self, stored: Blobs, prefix: str) -> None:
        self._blobs, self._prefix = stored, prefix

    def read(self, name: str) -> bytes | None:
        """What was written last, or None."""
        return self._blobs.read(f"{self._prefix}/{name}")

    def write(self, name: str, content: bytes) -> None:
        """Write over what was there; a kill at any time leaves one of the two."""
        self._blobs.write(f"{self._prefix}/{name}", content)

    def clear(self) -> None:
        self._blobs.clear(self._prefix)


def check_storage(address: str, shared: bool, nodes: int) -> None:
    """Raise StorageError where each of several nodes would have a storage folder of its own."""
    if nodes > 1 and not shared and not blobs.remote(address):
        raise StorageError(
            f"storage: {address} is a folder, and the cluster has {nodes} nodes or may grow; give "
            "s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, or say storage_shared=true where every "
            "node sees this very folder"
        )


def _place(key: str) -> str:
    return f"{STAGES}/{key.rpartition('-')[0]}/{key}"


def _record_of(key: str) -> str:
    return f"{_place(key)}/record.json"


def _attempt(record: Record) -> str:
    return f"{_place(record.key)}/{record.attempt}"


def _sealed(record: Record) -> bytes:
    values = json.loads(json.dumps(asdict(record), allow_nan=False))  # as it will be read
    sealed = {**values, SEAL: digest(values)}
    return json.dumps(sealed, indent=1, sort_keys=True, allow_nan=False).encode()


def _parse(place: str, key: str, content: bytes) -> Record:
    try:
        values = json.loads(content.decode())
        seal = values.pop(SEAL)
        sound = seal == digest(values)
        record = Record(**values)
        strange = [n for n in (record.attempt, *record.files) if not PLACE.fullmatch(n)]
        files = {name: (int(size), str(sha)) for name, (size, sha) in record.files.items()}
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise CorruptRecord(f"{key}: {place} is not a record ({error})") from error
    if not sound:
        raise CorruptRecord(f"{key}: the content of {place} has changed")
    if record.key != key:
        raise CorruptRecord(f"{key}: {place} describes another stage, {record.key}")
    if strange:
        raise CorruptRecord(f"{key}: {place} names {strange[0]!r:.100}, no file of an attempt")
    return replace(record, files=files)


@cache
def _memory() -> Mapping[str, str]:
    found = memory.peak()
    return {} if found is None else {MEMORY: str(found)}


def _environment() -> Mapping[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
