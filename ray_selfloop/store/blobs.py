"""Named bytes in a folder or a bucket: written whole or not at all, created at most once.

Decides how long trouble with a bucket is borne. Knows nothing of stages and records. Names are
relative, their parts joined by `/`. Credentials and endpoint come from the environment, as the
libraries of each cloud read them.
"""

import contextlib
import errno
import fcntl
import logging
import os
import random
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from ray_selfloop.errors import StorageError, StorageOutage

EXTRAS = {"s3": "s3fs", "gs": "gcsfs"}  # scheme and name of the extra -> the package it brings
ENDPOINTS = {"s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), "gs": ("STORAGE_EMULATOR_HOST",)}
PATIENCE = 120.0  # s for which one request is tried again while the bucket is in trouble
FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0  # s at most between two tries
AT_ONCE = 16  # requests that one process has in flight
LEAST_PART, MOST_PARTS = 16 * 2**20, 9000  # of a large file: bytes, and S3's limit with room
LINKLESS = (errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems without hard links say of one: exFAT, mounts of buckets, some of networks."""
BUSY = (408, 409, 429)  # HTTP: timeout, conflicting writers, too many requests; and 500 or more
PASSING = {
    "HTTPClientError", "ClientPayloadError", "IncompleteRead", "ResponseParserError",
    "RequestException", "ChecksumError", "FSTimeoutError", "ConnectionError", "TimeoutError",
    "ClientConnectionError", "TransportError", "CredentialRetrievalError",
}  # fmt: skip
"""Errors of the clouds' libraries, by class or base class, that another try may not meet."""

T = TypeVar("T")


def at(root: str | Path, patience: float = PATIENCE) -> "Blobs":
    """Those below a folder, `s3://bucket/prefix` or `gs://bucket/prefix`; touches nothing yet.

    patience: s for which a request to a bucket is tried again. Raises StorageError for another
    scheme, or where the package for it is missing.
    """
    return Objects(str(root), patience) if remote(root) else Folder(Path(root))


def remote(root: str | Path) -> bool:
    return "://" in str(root)


class Folder:
    """Files below a folder; every method raises StorageError for trouble."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def address(self) -> str:
        """The root, as a user would write it."""
        return str(self.root)

    def place(self, name: str) -> str:
        """Where a name lies, for a message."""
        return str(self.root / name)

    def create(self, name: str, content: bytes) -> bool:
        """Write what is not there yet; False where it is there.

        Of several writers at once one gets True. ``content`` is to be the writer's own: finding
        it there already counts as having written it (an answer may be lost on its way).
        """
        path = self.root / name
        with _said(path, "written"):
            draft = _draft(path, content)
            try:
                _name(draft, path)
            except FileExistsError:
                return path.read_bytes() == content
            finally:
                draft.unlink(missing_ok=True)
        return True

    def write(self, name: str, content: bytes) -> None:
        """Write, over what may be there."""
        path = self.root / name
        with _said(path, "written"):
            _draft(path, content).replace(path)

    def read(self, name: str) -> bytes | None:
        """What is there, or None."""
        path = self.root / name
        with _said(path, "read"), contextlib.suppress(FileNotFoundError):
            return path.read_bytes()
        return None

    def delete(self, name: str) -> None:
        """Nothing is there afterwards."""
        path = self.root / name
        with _said(path, "deleted"):
            path.unlink(missing_ok=True)

    def list(self, prefix: str) -> dict[str, int]:
        """Name -> bytes of all that lies below ``prefix/``; all there is for an empty prefix."""
        found = {}
        with _said(self.root / prefix, "listed"):
            for path in (self.root / prefix).rglob("*"):
                with contextlib.suppress(FileNotFoundError):  # gone since
                    if path.is_file() and not path.name.startswith("."):  # drafts
                        found[path.relative_to(self.root).as_posix()] = path.stat().st_size
        return found

    def clear(self, prefix: str) -> None:
        """Nothing is below ``prefix/`` afterwards."""
        shutil.rmtree(self.root / prefix, ignore_errors=True)

    def move(self, name: str, other: str) -> None:
        """Give what is there, if anything, a name that was never used."""
        path = self.root / name
        with _said(path, "set aside"), contextlib.suppress(FileNotFoundError):
            path.rename(self.root / other)

    def upload(self, path: Path, name: str) -> None:
        """Write a file's content, over what may be there."""
        target = self.root / name
        with _said(target, "written"):
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = _draft_of(target)
            try:
                shutil.copyfile(path, draft)
                draft.replace(target)
            finally:
                draft.unlink(missing_ok=True)

    def download(self, name: str, path: Path) -> bool:
        """Write to the file ``path``; False where nothing is there. May leave a part on error."""
        with _said(self.root / name, "read"), contextlib.suppress(FileNotFoundError):
            shutil.copyfile(self.root / name, path)
            return True
        return False


def _draft_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def _draft(path: Path, content: bytes) -> Path:
    """A file beside ``path`` with the content, on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_of(path)
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return draft


def has_links(folder: Path) -> bool:
    """Whether a folder's file system has hard links; writes nothing that stays."""
    with _said(folder, "written"):
        draft = _draft(folder / "linked", b"")
        try:
            os.link(draft, draft.with_name(f"{draft.name}.2"))
            draft.with_name(f"{draft.name}.2").unlink()
        except OSError as error:
            if error.errno not in LINKLESS:
                raise
            return False
        finally:
            draft.unlink()
    return True


def _name(draft: Path, path: Path) -> None:
    """Give a whole file the name ``path``; raises FileExistsError where that is taken.

    A hard link does it in one step, for every machine that sees the folder. Without them, one
    process of this machine at a time looks and renames; the kernel lets go of a killed one's lock.
    """
    try:
        os.link(draft, path)
    except OSError as error:
        if error.errno not in LINKLESS:
            raise
        with _alone_in(path.parent):
            if path.exists():
                raise FileExistsError(path) from None
            draft.replace(path)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        os.close(handle)
        raise StorageError(
            f"{folder} needs hard links or locks of files, and its file system has neither"
        ) from error
    try:
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _said(path: Path, what: str) -> Iterator[None]:
    """Trouble with a file as a StorageError that names it."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path} cannot be {what}: {error.strerror or error}") from error


class Objects:
    """Objects below a prefix of a bucket, with the methods of `Folder`.

    Trouble that may pass, but has lasted for long, is a StorageOutage.
    """

    def __init__(self, root: str, patience: float = PATIENCE) -> None:
        self._scheme, _, rest = root.partition("://")
        self._bucket, _, prefix = rest.strip("/").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        if self._scheme not in EXTRAS or not self._bucket:
            raise StorageError(f"{root} is neither s3://BUCKET/PREFIX nor gs://BUCKET/PREFIX")
        self._patience = patience
        endpoints = (os.environ.get(name) for name in ENDPOINTS[self._scheme])
        self._endpoint = next(filter(None, endpoints), "")
        self._files = _filesystem(self._scheme, self._endpoint)

    @property
    def address(self) -> str:
        return f"{self._scheme}://{self._bucket}/{self._prefix}".rstrip("/")

    def place(self, name: str) -> str:
        return f"{self.address}/{name}".rstrip("/")

    def create(self, name: str, content: bytes) -> bool:
        path = self._path(name)
        try:
            self._tried(
                name, "written", lambda: self._files.pipe_file(path, content, mode="create")
            )
        except FileExistsError:
            return self.read(name) == content
        return True

    def write(self, name: str, content: bytes) -> None:
        self._tried(name, "written", lambda: self._files.pipe_file(self._path(name), content))

    def read(self, name: str) -> bytes | None:
        with contextlib.suppress(FileNotFoundError):
            content: bytes = self._tried(
                name, "read", lambda: self._files.cat_file(self._path(name))
            )
            return content
        return None

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._tried(name, "deleted", lambda: self._files.rm_file(self._path(name)))

    def list(self, prefix: str) -> dict[str, int]:
        below = f"{self._prefix}{prefix}/" if prefix else self._prefix
        found = self._tried(
            prefix, "listed", lambda: self._files.find(self._bucket, prefix=below, detail=True)
        )
        start = len(self._bucket) + 1 + len(self._prefix)
        return {
            name[start:]: int(info["size"])
            for name, info in found.items()
            if info["type"] == "file" and not name.endswith("/")
        }

    def clear(self, prefix: str) -> None:
        each(self.delete, self.list(prefix))

    def move(self, name: str, other: str) -> None:
        content = self.read(name)
        if content is not None:
            self.write(other, content)
            self.delete(name)

    def upload(self, path: Path, name: str) -> None:
        part = max(LEAST_PART, path.stat().st_size // MOST_PARTS + 1)
        self._tried(
            name,
            "written",
            lambda: self._files.put_file(str(path), self._path(name), chunksize=part),
        )

    def download(self, name: str, path: Path) -> bool:
        with contextlib.suppress(FileNotFoundError):
            self._tried(name, "read", lambda: self._files.get_file(self._path(name), str(path)))
            return True
        return False

    def _path(self, name: str) -> str:
        return f"{self._bucket}/{self._prefix}{name}"

    def _tried(self, name: str, what: str, call: Callable[[], T]) -> T:
        """The result of ``call``, tried again while the trouble is one that may pass.

        Raises FileNotFoundError where there is no such object, FileExistsError where there is one.
        """
        deadline, wait = time.monotonic() + self._patience, FIRST_WAIT
        while True:
            try:
                return call()
            except Exception as error:
                _raise_plain(error, what)
                pause = random.SystemRandom().uniform(0, wait)
                if not _may_pass(error):
                    raise StorageError(self._trouble(name, what, error)) from error
                if time.monotonic() + pause > deadline:
                    raise StorageOutage(self._trouble(name, what, error)) from error
                time.sleep(pause)
                wait = min(2 * wait, LONGEST_WAIT)

    def _trouble(self, name: str, what: str, error: Exception) -> str:
        where = f" at {self._endpoint}" if self._endpoint else ""
        code = _code(error)
        reason = (code and getattr(error, "strerror", None)) or str(error)
        said = " ".join(reason.split())[:300]
        return (
            f"{self.place(name)}{where} cannot be {what}: {said} ({code or type(error).__name__})"
        )


Blobs = Folder | Objects


def each(call: Callable[[Any], Any], items: Iterable[Any]) -> "list[Any]":
    """``call`` of every item, several at once; the results in the items' order."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [*pool.map(call, items)]


def _raise_plain(error: Exception, what: str) -> None:
    """Raise what says that an object is there, or is not, as just that."""
    code = _code(error)
    if isinstance(error, FileExistsError) or code in ("PreconditionFailed", "412"):
        raise FileExistsError(str(error)) from error
    missing = isinstance(error, FileNotFoundError) and code != "NoSuchBucket"
    if missing and what in ("read", "deleted"):
        raise error


def _code(error: Exception) -> str:
    """The error code of an S3 answer; empty where there was none."""
    return str(getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", ""))


def _may_pass(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    answer = getattr(error.__cause__, "response", {}).get("ResponseMetadata", {})
    status = answer.get("HTTPStatusCode") or getattr(error, "code", None)
    if str(status).isdigit():
        return int(str(status)) in BUSY or int(str(status)) >= 500
    if getattr(error, "errno", None) == errno.ENOSPC:
        return False
    return any(kind.__name__ in PASSING for kind in type(error).__mro__)


@cache
def _filesystem(scheme: str, endpoint: str) -> Any:
    """The cloud's file system, without a memory of what it has listed.

    The libraries' own retries are few: `Objects` goes on for a known time.
    """
    import fsspec

    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it prints what it raises
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme == "s3":
        # a machine whose processes all start at once is refused its credentials now and then
        os.environ.setdefault("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "4")
        retries = {"mode": "standard", "total_max_attempts": 3}
        timeouts = {"connect_timeout": 10, "read_timeout": 60, "max_pool_connections": AT_ONCE}
        options |= {"config_kwargs": {"retries": retries, **timeouts}, "max_concurrency": 1}
    try:
        files = fsspec.filesystem(scheme, **options)
    except ImportError as error:
        raise StorageError(
            f"{scheme}:// needs the package {EXTRAS[scheme]}: "
            f"pip install 'ray-selfloop[{scheme}]' ({error})"
        ) from error
    files.retries = 2  # of s3fs; gcsfs has its own number
    return files
