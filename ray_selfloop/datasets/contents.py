"""What is in picture files: each is read and decoded once, and believed while it is that file.

A file is the one that was looked at while its size and the times of its last writing and of its
last change (`st_ctime`, which no copying program sets) are what they were. So a mended file is seen
whatever its size, and a file of the same size and date too; a touched one costs a second look. A
process asks for the times of a whole file once; a damaged one is looked at each time. What the disk
changes by itself, below the file system, is seen where the bytes are read again: when they are
packed. Knows nothing of datasets.
"""

import errno
import hashlib
import io
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

from ray_selfloop.errors import DataError
from ray_selfloop.images.pictures import checked

MANY = 1_000  # files that are worth a word before they are read
YOUNG = 10**9  # ns after a change within which a second one could bear the same time
SUMS = "SHA256SUMS"  # what `sha256sum` writes, beside the pictures
UNREADABLE = (errno.EIO, errno.EACCES, errno.EPERM, errno.EBADMSG, errno.EUCLEAN)  # one file's
ESCAPE = re.compile(r"\\(.)")
ROW = re.compile("(-?[0-9]+ ){3}[0-9a-f]{64}( [0-9]+){2} .*")
FORM = 1  # of what is kept: raised when other damage is found, or another thing is written down


class Kept(Protocol):
    """Where looks outlive the process."""

    def read(self, name: str) -> bytes | None:
        """What was written last, or None."""

    def write(self, name: str, content: bytes) -> None:
        """Write, over what may be there."""


class Look(NamedTuple):
    """What is known of a picture's file.

    sha256: of its bytes; zeros where they cannot be read. width, height: in pixels; 0 where it is
    damaged. damage: what is to be said after its name; empty where it is a whole picture.
    """

    sha256: str
    width: int
    height: int
    damage: str


Table = dict[str, str]
"""Name -> stamp and look as one text, which takes a third of the memory of their values.

A stamp is ``<bytes> <time of the last writing> <time of the last change> ``, both in ns.
"""


class Contents:
    """Looks at files, those of ``kept`` included.

    threads: how many files are read side by side. say: told before many files are read, and of
    files that have changed since they were looked at. changed: the paths of those, as found.
    """

    def __init__(
        self,
        kept: Kept | None = None,
        threads: int = 0,
        say: Callable[[str], object] = lambda sentence: None,
    ) -> None:
        self._kept, self._say = kept, say
        self._threads = threads or min(16, len(os.sched_getaffinity(0)))
        self._tables: dict[Path, Table] = {}
        self._sums: dict[Path, dict[str, str] | None] = {}
        self._new: set[Path] = set()
        self._sure: dict[Path, set[str]] = defaultdict(set)  # asked once, and whole
        self.changed: list[str] = []

    def of(self, root: Path, names: Sequence[str]) -> list[Look]:
        """What is in the files ``root/name``; raises DataError for one that is not there.

        One that cannot be read is damaged; so is one whose sha256 is not that in
        ``root/SHA256SUMS``, where there is one that names it.
        """
        root = Path(os.path.abspath(root))
        sure = self._sure[root]
        asked = [name for name in names if name not in sure]
        with ThreadPoolExecutor(self._threads) as pool:
            stamps = _each(pool, lambda name: _stamp_now(root / name), asked)
            found = zip(asked, stamps, strict=True)
            new = [name for name, stamp in found if not self._believed(root, name, stamp)]
            if len(new) >= MANY:
                self._say(
                    f"reading {len(new):,} pictures of {root}; later only those that have changed"
                )
            self._take(root, zip(new, _each(pool, lambda n: _look(root / n), new), strict=True))
        looks = [self._known(root, name) for name in names]
        sure.update(name for name, look in zip(names, looks, strict=True) if not look.damage)
        return looks

    def _believed(self, root: Path, name: str, stamp: str) -> bool:
        """Whether a file need not be read: what was damaged may be mended, whatever its times."""
        row = self._table(root).get(name, "")
        return row.startswith(stamp) and not self._known(root, name).damage

    def _known(self, root: Path, name: str) -> Look:
        look, own = _parsed(self._table(root)[name]), (self._sums_of(root) or {}).get(name)
        if look.damage or own in (None, look.sha256):
            return look
        said = f" is not the file of {SUMS}: its sha256 is {look.sha256[:8]}..."
        return look._replace(damage=said)

    def _take(self, root: Path, seen: Iterable[tuple[str, str]]) -> None:
        """Enter new looks one by one, and say which files were something else before."""
        table, other = self._table(root), list[str]()
        for name, row in seen:
            if name in table and _parsed(row).sha256 != _parsed(table[name]).sha256:
                other.append(name)
            table[name] = row
            self._new.add(root)
        if other:
            self.changed += (str(root / name) for name in other)
            self._say(f"changed since they were last read: {several(root, other)}")

    def require_named(self, root: Path, names: Sequence[str]) -> None:
        """Raise DataError where ``root/SHA256SUMS`` is there and names none of some files."""
        sums = self._sums_of(Path(os.path.abspath(root)))
        if sums is not None and sums.keys().isdisjoint(names):
            raise DataError(
                f"{root / SUMS} names none of the {len(names):,} files that are used: names must "
                f"be relative to the folder that it lies in, like {names[0]}; write it anew, or "
                "remove it"
            )

    def keep(self) -> None:
        for root in sorted(self._new):
            if self._kept:
                rows = (f"{row}\t{name}\n" for name, row in self._tables[root].items())
                self._kept.write(_name(root), "".join(rows).encode())
        self._new.clear()

    def _table(self, root: Path) -> Table:
        if root not in self._tables:
            self._tables[root] = _read(self._kept.read(_name(root)) if self._kept else None)
        return self._tables[root]

    def _sums_of(self, root: Path) -> dict[str, str] | None:
        if root not in self._sums:
            self._sums[root] = _sums(root / SUMS)
        return self._sums[root]


def _each(
    pool: ThreadPoolExecutor, function: Callable[[str], str], names: Sequence[str]
) -> Iterator[str]:
    """Like the pool's own `map`, which would take a kilobyte for each name at once."""
    for first in range(0, len(names), MANY):
        yield from pool.map(function, names[first : first + MANY])


def several(root: Path, names: Sequence[str]) -> str:
    """The first of some files, and how many more there are."""
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return f"{root / names[0]}{more}"


def _name(root: Path) -> str:
    """What the looks at the files of a folder are called; its path is told to nobody."""
    return f"looks/{FORM}-{hashlib.sha256(str(root).encode()).hexdigest()[:20]}.tsv"


def _read(content: bytes | None) -> Table:
    """Looks that were kept; none of a line that is not what was written."""
    lines = io.BytesIO(content or b"")
    rows = (line.decode(errors="replace").rstrip("\n").rpartition("\t") for line in lines)
    return {name: row for row, _, name in rows if ROW.fullmatch(row)}


def _stamp(path: Path) -> str:
    at = path.stat()
    return f"{at.st_size} {at.st_mtime_ns} {at.st_ctime_ns} "


def _stamp_now(path: Path) -> str:
    """Where there is none, what no row begins with: a look tells why."""
    try:
        return _stamp(path)
    except OSError:
        return "none"


def _look(path: Path) -> str:
    """Of a file that has just changed the time is not believed: it is looked at again."""
    try:
        stamp = _stamp(path)
        if time.time_ns() - int(stamp.split()[2]) < YOUNG:
            stamp = "0 0 0 "
        encoded = path.read_bytes()
    except OSError as error:
        if error.errno not in UNREADABLE:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        return f"0 0 0 {'0' * 64} 0 0  cannot be read: {error.strerror}"
    size, damage = (0, 0), ""
    try:
        size = checked(encoded, str(path))
    except DataError as error:
        damage = str(error).removeprefix(str(path)).replace("\n", " ").replace("\t", " ")
    sha256 = hashlib.sha256(encoded).hexdigest()
    return f"{stamp}{sha256} {size[0]} {size[1]} {damage}"


def _parsed(row: str) -> Look:
    *_, sha256, width, height, damage = row.split(" ", 6)
    return Look(sha256, int(width), int(height), damage)


def content(path: Path) -> bytes:
    """The bytes of a file; raises DataError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _sums(path: Path) -> dict[str, str] | None:
    """Name -> sha256, from lines as `sha256sum` writes them; None where there is no such file."""
    if not os.path.lexists(path):
        return None
    found = {}
    for number, line in enumerate(content(path).decode(errors="replace").split("\n"), 1):
        if not line.strip():
            continue
        digest, _, name = line.removesuffix("\r").partition(" ")
        escaped, digest = digest.startswith("\\"), digest.removeprefix("\\")
        if len(digest) != 64 or not name:
            raise DataError(
                f"{path}, line {number}: must be a sha256 and a name, as sha256sum writes them"
            )
        name = name[1:].removeprefix("./")  # after a second blank, or a star
        found[ESCAPE.sub(_meant, name) if escaped else name] = digest.lower()
    return found


def _meant(escape: re.Match[str]) -> str:
    """What a backslash and a letter stand for in a name of `sha256sum`."""
    return {"n": "\n", "r": "\r"}.get(escape[1], escape[1])
