"""Where the files of attempts lie for the processes of one node.

With a folder as storage they lie there and nowhere else. With a bucket they are written to this
node's cache and sent when they are whole; of another node's a copy is fetched once, checked, and
only then given its name. Knows nothing of records.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ray_selfloop.errors import CorruptRecord, StorageError, last_line
from ray_selfloop.store.blobs import Blobs, Folder, each

CACHE = "SELFLOOP_CACHE"  # the environment's word on where copies of a bucket's files lie
File = tuple[int, str]  # bytes, sha256
FULL = "No space left on device"
LEAST = 64 * 1024  # bytes free on a disk that is not full
_sound: dict[Path, tuple[object, ...]] = {}  # copies whose content this process has looked at


def of(blobs: Blobs) -> "InPlace | Fetched":
    """The artifacts of a storage; writes nothing."""
    return InPlace(blobs.root) if isinstance(blobs, Folder) else Fetched(blobs)


class InPlace:
    """All processes read and write the storage's own folder.

    Attempts are named as in the storage: `stages/<kind>/<key>/<attempt>`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def workplace(self, attempt: str) -> Path:
        """The folder in which a process of this node writes files of an attempt."""
        return self._root / attempt

    def send(self, attempt: str, names: Iterable[str]) -> None:
        """Put files of the workplace where every node finds them; they may be gone from there.

        Here they are there: who may read the folder may read them, whatever wrote them.
        """
        readers = (self._root / attempt).stat().st_mode & 0o666
        for path in (self._root / attempt / name for name in names):
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & readers != readers:  # safetensors leaves its files to their owner alone
                path.chmod(mode | readers)

    def sizes(self, attempt: str, names: Iterable[str]) -> Mapping[str, int]:
        """Bytes of those of the files that are there."""
        paths = {name: self._root / attempt / name for name in names}
        return {name: path.stat().st_size for name, path in paths.items() if path.is_file()}

    def intact(self, name: str, sha256: str) -> bool:
        """Whether a file's content is what it was, as far as that can be known from here."""
        return sha256_of(self._root / name) == sha256

    def fetched(self, name: str, file: File) -> Path:
        """A file that every process of this node may read; raises CorruptRecord."""
        return self._root / name

    def drop(self, attempt: str) -> None:
        """The attempt was not published: nothing of it is left."""
        shutil.rmtree(self._root / attempt, ignore_errors=True)


class Fetched:
    """A bucket's files, copied to this node when they are asked for; the methods of `InPlace`.

    A copy has its name only once its content is the published one. What a disk has damaged since
    is found by the next process that asks for it, and fetched again.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        digest = hashlib.sha256(blobs.address.encode()).hexdigest()[:16]
        chosen = os.environ.get(CACHE)
        base = Path(chosen or f"{tempfile.gettempdir()}/selfloop-cache-{os.getuid()}")
        self._cache = base / digest
        self._own = [self._cache] if chosen else [base, self._cache]

    def workplace(self, attempt: str) -> Path:
        folder = self._private() / "unpublished" / attempt
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def send(self, attempt: str, names: Iterable[str]) -> None:
        each(lambda name: self._send(attempt, name), names)

    def _send(self, attempt: str, name: str) -> None:
        """What was sent is this node's copy."""
        path, copy = self.workplace(attempt) / name, self._private() / attempt / name
        self._blobs.upload(path, f"{attempt}/{name}")
        copy.parent.mkdir(parents=True, exist_ok=True)
        path.replace(copy)

    def sizes(self, attempt: str, names: Iterable[str]) -> Mapping[str, int]:
        found = self._blobs.list(attempt)
        return {name.removeprefix(f"{attempt}/"): size for name, size in found.items()}

    def intact(self, name: str, sha256: str) -> bool:
        """Not known before the content is here: `fetched` looks."""
        return True

    def fetched(self, name: str, file: File) -> Path:
        path = self._private() / name
        if not _intact(path, file):
            with room_in(self._cache):
                path.parent.mkdir(parents=True, exist_ok=True)
                with _one_process(path.with_name(f".{path.name}.lock")):
                    if not _intact(path, file):
                        self._fetch(name, path, file)
        return path

    def _fetch(self, name: str, path: Path, file: File) -> None:
        """A second try is for what was spoilt on its way."""
        draft = path.with_name(f".{path.name}.draft")
        try:
            for _ in range(2):
                if not self._blobs.download(name, draft):
                    raise CorruptRecord(f"{self._blobs.place(name)} is missing")
                if _intact(draft, file):
                    draft.replace(path)
                    _sound[path] = _sound.pop(draft)
                    return
            raise CorruptRecord(f"the content of {self._blobs.place(name)} has changed")
        finally:
            draft.unlink(missing_ok=True)

    def drop(self, attempt: str) -> None:
        for folder in (self.workplace(attempt), self._private() / attempt):
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(StorageError):  # what is left is believed by nobody
            self._blobs.clear(attempt)

    def _private(self) -> Path:
        """The cache's folder; raises StorageError where another user could write to it."""
        try:
            for folder in self._own:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            shared = [folder for folder in self._own if not _own(folder)]
        except OSError as error:
            raise StorageError(f"{self._cache} cannot be made: {error.strerror}") from error
        if shared:
            raise StorageError(
                f"{shared[0]} is not this user's alone; name another folder in {CACHE}"
            )
        return self._cache


def _own(folder: Path) -> bool:
    """Whether nobody else can write to a folder; not so where it is a link, to whatever it is."""
    info = folder.lstat()
    others = stat.S_IWGRP | stat.S_IWOTH
    alone = info.st_uid == os.getuid() and not info.st_mode & others
    return stat.S_ISDIR(info.st_mode) and alone


def _intact(path: Path, file: File) -> bool:
    """Whether a copy is there with the published content.

    Each process looks at the content once, and again when the copy has become another file.
    """
    if not path.is_file():
        return False
    info = path.stat()
    seen = (*file, info.st_ino, info.st_mtime_ns)
    if info.st_size != file[0] or (_sound.get(path) != seen and sha256_of(path) != file[1]):
        return False
    _sound[path] = seen
    return True


@contextlib.contextmanager
def _one_process(path: Path) -> Iterator[None]:
    """One process of this node at a time; the kernel lets go of a killed one's lock."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def described(folder: Path, known: Mapping[str, File]) -> dict[str, File]:
    """Every file below a folder, and those of ``known``, which are not looked at."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    own = {
        name: ((folder / name).stat().st_size, sha256_of(folder / name))
        for name in names
        if name not in known
    }
    return dict(sorted({**own, **known}.items()))


@contextlib.contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """Trouble of any kind within the block is a full disk where the folder's disk is full.

    Libraries hide it: numpy says how many bytes it wrote, others raise errors of their own.
    """
    try:
        yield
    except CorruptRecord:
        raise
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        with contextlib.suppress(OSError):
            full |= shutil.disk_usage(folder).free < LEAST
        if not full or str(error).startswith(FULL):
            raise
        raise StorageError(f"{FULL}: {folder} ({last_line(error)})") from error
