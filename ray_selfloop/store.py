"""The stage store: every result is published once under its stage's key, or not at all.

`<root>/stages/<kind>/<key>/<attempt>/...` holds the artifacts of one attempt, and
`<root>/stages/<kind>/<key>/record.json` names the attempt that won. The record comes last, in one
create-if-absent step, so that of two writers one wins and the other reads it. A reader believes
only a record. Knows nothing of what a stage means.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ray_selfloop.errors import CorruptRecord, StorageError
from ray_selfloop.graph import Stage, digest

PACKAGES = ("ray-selfloop", "torch", "torchvision", "numpy", "open_clip_torch", "timm", "ray")
FORMAT = 1
SEAL = "seal"  # in a record's file: the digest of all else that stands there


@dataclass(frozen=True)
class Record:
    """What was published for one stage.

    summary: small JSON values of the result (never a time or a place).
    files: name -> [bytes, sha256]. seconds: duration in s. published: Unix time in s.
    """

    key: str
    kind: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    summary: Mapping[str, Any]
    files: Mapping[str, tuple[int, str]]
    attempt: str
    seconds: float
    published: float
    environment: Mapping[str, str]
    format: int = FORMAT


class Store:
    """Publish and find records below one folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def folder(self, key: str) -> Path:
        """Where the attempts and the record of ``key`` lie."""
        return self.root / "stages" / key.rpartition("-")[0] / key

    def find(self, key: str, checksums: bool = False) -> Record | None:
        """The record of ``key``, or None where nothing is published.

        Files are compared by size, with ``checksums`` by content too. Raises CorruptRecord where
        the record or a file is not what was published.
        """
        path = self.folder(key) / "record.json"
        try:
            text = path.read_text()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise CorruptRecord(f"{key}: {path} is not a record ({error})") from error
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error}") from error
        record = _parse(path, key, text)
        self._check(record, checksums)
        return record

    def get(self, key: str) -> Record:
        """The record of ``key``; raises StorageError where nothing is published."""
        record = self.find(key)
        if record is None:
            raise StorageError(f"nothing is published under {key} in {self.root}")
        return record

    def path(self, record: Record, name: str) -> Path:
        """A published file on this machine."""
        if name not in record.files:
            raise StorageError(f"{record.key} has no file {name}")
        return self.folder(record.key) / record.attempt / name

    @contextlib.contextmanager
    def attempt(self, key: str) -> Iterator[Path]:
        """A new, empty folder to write artifacts to; gone afterwards unless it was published."""
        folder = self.folder(key) / uuid.uuid4().hex[:12]
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            record = None
            with contextlib.suppress(StorageError):
                record = self.find(key)
            if record is None or record.attempt != folder.name:
                shutil.rmtree(folder, ignore_errors=True)

    def publish(
        self, stage: Stage, folder: Path, summary: Mapping[str, Any], seconds: float
    ) -> Record:
        """Make what is in ``folder`` the result of ``stage``, unless another writer was first.

        Returns the record that stands, ours or the other's.
        """
        record = Record(
            key=stage.key,
            kind=stage.kind,
            version=stage.version,
            config=dict(stage.config),
            inputs=dict(stage.inputs),
            summary=dict(summary),
            files=_files(folder),
            attempt=folder.name,
            seconds=round(seconds, 3),
            published=time.time(),
            environment=dict(_environment()),
        )
        values = json.loads(json.dumps(asdict(record), allow_nan=False))  # as it will be read
        sealed = {**values, SEAL: digest(values)}
        text = json.dumps(sealed, indent=1, sort_keys=True, allow_nan=False)
        _create_if_absent(self.folder(stage.key) / "record.json", text)
        shutil.rmtree(self._unfinished(stage.key), ignore_errors=True)
        return self.get(stage.key)

    def unfinished(self, key: str) -> Path:
        """Where a long stage keeps what its next attempt goes on from; gone once it is published.

        What lies there is believed by nobody but that stage, which has to check it.
        """
        folder = self._unfinished(key)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _unfinished(self, key: str) -> Path:
        return self.root / "unfinished" / key

    def discard(self, key: str) -> None:
        """Set the record of ``key`` aside, so that the stage counts as missing."""
        record = self.folder(key) / "record.json"
        aside = record.with_name(f"record.corrupt-{uuid.uuid4().hex[:8]}.json")
        try:
            record.rename(aside)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageError(f"{record} cannot be set aside: {error.strerror}") from error

    def _check(self, record: Record, checksums: bool) -> None:
        for name, (size, sha256) in record.files.items():
            path = self.path(record, name)
            if not path.is_file():
                raise CorruptRecord(f"{record.key}: {path} is missing")
            if path.stat().st_size != size:
                raise CorruptRecord(
                    f"{record.key}: {path} has {path.stat().st_size} bytes, {size} were published"
                )
            if checksums and _sha256(path) != sha256:
                raise CorruptRecord(f"{record.key}: the content of {path} has changed")


def _parse(path: Path, key: str, text: str) -> Record:
    try:
        values = json.loads(text)
        seal = values.pop(SEAL)
        sound = seal == digest(values)
        record = Record(**values)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise CorruptRecord(f"{key}: {path} is not a record ({error})") from error
    if not sound:
        raise CorruptRecord(f"{key}: the content of {path} has changed")
    if record.key != key:
        raise CorruptRecord(f"{key}: {path} describes another stage, {record.key}")
    return record


def _create_if_absent(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` whole, or leave what is there; never a part of it."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _files(folder: Path) -> dict[str, tuple[int, str]]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, _sha256(path)) for path in found
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _environment() -> Mapping[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
