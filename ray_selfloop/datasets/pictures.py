"""Datasets of encoded pictures: files on disk that are listed, looked at and cut into four parts.

Decides which links may be followed, how two lists of pictures become four parts, and what is said
of damaged ones. Knows no layout and no class: what is listed and what it means is told to it.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ray_selfloop import seeding
from ray_selfloop.config.datasets.pictures import PictureDataset
from ray_selfloop.datasets.base import DatasetKind, Prepared, common
from ray_selfloop.datasets.contents import Contents, Look, content
from ray_selfloop.errors import ConfigError, DataError
from ray_selfloop.graph import digest
from ray_selfloop.images.imageset import Ids, ImageSet, Splits
from ray_selfloop.images.pictures import Encoded, Pictures, View, checked
from ray_selfloop.images.split import cut_rows, stratified_cut

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")


CHANGED = "is not what it was when this sweep was planned; run it again, on sound files"


class TooFewError(DataError):
    """A class or subgroup has not as many pictures as it must."""


class Found(NamedTuple):
    """Pictures of one official split, in a fixed order.

    root: the folder that ``names`` are relative to. cells: int64 ``(n,)``, class of each, or class
    x number of subgroups + subgroup. digests: sha256 of each, where they have been looked at.
    """

    root: Path
    names: Sequence[str]
    cells: Ids
    digests: Sequence[str] = ()

    def take(self, rows: Ids) -> "Found":
        """Those rows, in the order given."""
        digests = [self.digests[row] for row in rows] if self.digests else ()
        return Found(self.root, [self.names[row] for row in rows], self.cells[rows], digests)

    @property
    def fingerprint(self) -> str:
        """Digest of what `sha256sum` would write of these files."""
        found = hashlib.sha256()
        for sha256, name in zip(self.digests, self.names, strict=True):
            found.update(f"{sha256}  {name}\n".encode())
        return found.hexdigest()

    @property
    def files(self) -> "PictureFiles":
        return PictureFiles(self.root, self.names, self.digests)


class Listed(NamedTuple):
    """What lies in the folders of a dataset. strata: what each cell is called, for messages."""

    train: Found
    test: Found
    class_names: tuple[str, ...]
    subgroup_names: tuple[str, ...]
    strata: tuple[str, ...]

    def labels(self, cells: Ids) -> Ids:
        """The class of each cell."""
        return cells // max(1, len(self.subgroup_names))

    def subgroups(self, cells: Ids) -> Ids:
        """The subgroup of each cell; -1 in a dataset without subgroups."""
        groups = len(self.subgroup_names)
        return cells % groups if groups else np.full_like(cells, -1)


class PictureFiles(Encoded):
    """The files ``root/name`` as they lie there: each is read when it is asked for.

    digests: sha256 of each as it was looked at; where they are not known a file is looked at anew.
    Indexing raises DataError where a file cannot be read, is no picture or has changed since.
    """

    def __init__(self, root: Path, names: Sequence[str], digests: Sequence[str] = ()) -> None:
        self.root, self.names, self.digests = root, names, digests

    def __len__(self) -> int:
        return len(self.names)

    def one(self, row: int) -> bytes:
        path = self.root / self.names[row]
        encoded = content(path)
        if not self.digests:
            checked(encoded, str(path))
        elif hashlib.sha256(encoded).hexdigest() != self.digests[row]:
            raise DataError(f"{path} {CHANGED}")
        return encoded


# --- what lies there -----------------------------------------------------------------------------


def files(folder: Path, root: Path) -> list[str]:
    """The names of the pictures in ``folder``, in their order.

    Folders may be links to wherever the data lie. A single picture may be one inside ``root`` or
    beside it in its own folder alone: DataError for a link that leads elsewhere.
    """
    homes = {os.path.realpath(home) for home in (root, folder.parent, folder)}
    try:
        with os.scandir(folder) as entries:
            return sorted(_pictures(entries, homes))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error}") from error


def _pictures(entries: Iterable[os.DirEntry[str]], homes: Iterable[str]) -> Iterator[str]:
    for entry in entries:
        litter = entry.name.startswith("._")  # left behind by macOS
        if litter or not entry.name.lower().endswith(SUFFIXES) or not entry.is_file():
            continue
        if not entry.name.isprintable():
            raise DataError(f"{entry.path!r}: a picture's name must be printable text; rename it")
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if not any(os.path.commonpath((target, home)) == home for home in homes):
                raise DataError(
                    f"{entry.path} is a link that leads out of its dataset, to {target}; put the "
                    "file itself there"
                )
        yield entry.name


# --- how it is cut -------------------------------------------------------------------------------


class Cut(NamedTuple):
    """Row numbers of each part: of the listed training pictures, and ``test`` of the test ones."""

    train: Ids
    held_out: Ids
    reserve: Ids
    test: Ids


def used(listed: Listed, settings: PictureDataset) -> tuple[Ids, Ids]:
    """Rows of the training and of the test pictures that are used, after the limits.

    Raises ConfigError where a limit leaves a class or subgroup too few, DataError where it has no
    more.
    """
    return _limited(listed, settings, "train"), _limited(listed, settings, "test")


LEAST = {"train": 2, "test": 1}  # pictures of each class or subgroup


def _limited(listed: Listed, settings: PictureDataset, split: str) -> Ids:
    """Rows of one split that are used: at least so many of each class or subgroup."""
    cells, least = getattr(listed, split).cells, LEAST[split]
    limit = getattr(settings, f"limit_{split}")
    rows = np.arange(len(cells))
    if limit is not None and limit < len(cells):
        _, rows = stratified_cut(cells, limit, seeding.rng(settings.seed, "limit", split))
    counts = np.bincount(cells[rows], minlength=len(listed.strata))
    if counts.min() >= least:
        return rows
    few = f"{counts.min()} of {listed.strata[int(counts.argmin())]}"
    if len(rows) == len(cells):
        raise TooFewError(f"the {split} pictures are {few} and must be {least} or more; add some")
    raise ConfigError(
        f"dataset.limit_{split}: {len(rows)} pictures are {few}, which needs {least}; raise it, "
        "or use fewer classes"
    )


class Whole(NamedTuple):
    """What is used of a dataset's pictures, after the limits and without what is damaged.

    listed: the pictures, with their digests. beside: what lies beside each test picture (its mask),
    likewise; None where nothing does. left_out: the names of damaged files, ``split/...``, whose
    pictures are not among them.
    """

    listed: Listed
    beside: Found | None
    left_out: list[str]

    @property
    def content(self) -> list[object]:
        """What the dataset's source is told by, as JSON values: names and digests of all files."""
        parts = (self.listed.train, self.listed.test, self.beside)
        return [self.listed.strata, [p and p.fingerprint for p in parts], self.left_out]


def whole(
    listed: Listed,
    settings: PictureDataset,
    contents: Contents,
    beside: Callable[[Found], Found] | None = None,
) -> Whole:
    """The pictures that are used, each looked at; raises DataError for damaged ones.

    beside: test pictures -> what lies beside each. Under ``settings.damaged`` `leave_out` damaged
    pictures, and those beside which something damaged lies, are left out of what the limits chose.
    """
    rows = used(listed, settings)
    parts = [found.take(r) for found, r in zip((listed.train, listed.test), rows, strict=True)]
    parts += [beside(parts[1])] if beside else []
    for root in dict.fromkeys(found.root for found in parts):  # of pictures, or of masks
        contents.require_named(
            root, [n for found in parts if found.root == root for n in found.names]
        )
    looks = [contents.of(found.root, found.names) for found in parts]
    bad = [
        (found.root, name, look)
        for found, seen in zip(parts, looks, strict=True)
        for name, look in zip(found.names, seen, strict=True)
        if look.damage
    ]
    if bad and settings.damaged == "refuse":
        raise _damaged(bad)
    sound = [np.array([not look.damage for look in seen], bool) for seen in looks]
    sound[1:] = [np.logical_and.reduce(sound[1:])] * len(sound[1:])
    train, test, *more = (
        found._replace(digests=[look.sha256 for look in seen]).take(np.flatnonzero(kept))
        for found, seen, kept in zip(parts, looks, sound, strict=True)
    )
    left = listed._replace(train=train, test=test)
    used(left, settings)  # each class or subgroup still has enough
    return Whole(left, more[0] if more else None, sorted(name for _, name, _ in bad))


def _damaged(bad: Sequence[tuple[Path, str, Look]]) -> DataError:
    """One line that names the first of them; all of them stand in its note."""
    said = [f"{root / name}{look.damage}" for root, name, look in bad]
    others = "is 1 more file" if len(said) == 2 else f"are {len(said) - 1:,} more files"
    more = f"; so {others}" if len(said) > 1 else ""
    error = DataError(
        f"{said[0]}{more}. Fetch again what is damaged, or set dataset.damaged=leave_out to go on "
        "without it"
    )
    error.add_note("\n".join(said))
    return error


def cut(listed: Listed, settings: PictureDataset) -> Cut:
    """D0, held-out tenth and reserve of the training pictures, stratified; and the test ones."""
    train, test = used(listed, settings)
    cells = listed.train.cells[train]
    parts = cut_rows(cells, settings.reserve, settings.seed, listed.strata)
    original, held_out, apart = (train[rows] for rows in parts)
    return Cut(original, held_out, apart, test)


def original_and_reserve(listed: Listed, settings: PictureDataset) -> tuple[Ids, Ids]:
    """Class labels of D0 and of the reserve, as `splits` cuts them."""
    parts = cut(listed, settings)
    cells = listed.train.cells
    return listed.labels(cells[parts.train]), listed.labels(cells[parts.reserve])


def view(settings: PictureDataset) -> View:
    return View(settings.side, settings.frame, settings.fit)


def splits(listed: Listed, settings: PictureDataset) -> Splits:
    """The dataset's four parts, as pictures that are read from their files one at a time.

    ``units`` are row numbers of the listed official split.
    """
    parts = cut(listed, settings)

    def part(found: Found, rows: Ids) -> ImageSet:
        taken = found.take(rows)
        return ImageSet(
            images=Pictures(taken.files, view(settings)),
            labels=listed.labels(taken.cells),
            subgroups=listed.subgroups(taken.cells),
            units=rows,
            class_names=listed.class_names,
            subgroup_names=listed.subgroup_names,
        )

    original, held_out, apart = (
        part(listed.train, rows) for rows in (parts.train, parts.held_out, parts.reserve)
    )
    return Splits(original, held_out, part(listed.test, parts.test), apart)


# --- what the dataset stage asks for -------------------------------------------------------------


def kind(
    whole_of: Callable[[Any, Contents], Whole], facts_of: Callable[[Any], Mapping[str, Any]]
) -> DatasetKind:
    """A dataset of pictures, from what of them its settings use and what its record says of it."""

    def source(settings: Any, contents: Contents) -> str:
        return digest(whole_of(settings, contents).content)

    def cut_of(settings: Any, contents: Contents) -> tuple[Ids, Ids]:
        return original_and_reserve(whole_of(settings, contents).listed, settings)

    def prepare(settings: Any, contents: Contents) -> Prepared:
        found = whole_of(settings, contents)
        facts = {
            **common(settings),
            "pictures": view(settings)._asdict(),
            "left_out": found.left_out,
            "masks": found.beside is not None,
            **facts_of(settings),
        }
        masks = found.beside.files if found.beside else ()
        return Prepared(splits(found.listed, settings), facts, masks)

    return DatasetKind(source, cut_of, prepare)
