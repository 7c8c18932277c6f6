"""Pictures in ImageNet's own layout: ``<root>/{train,val}/<wnid>/<name>.JPEG``, val sorted too.

Decides what of that layout is listed, how a dataset's two lists become four parts, and what is said
where something is missing. Knows no class: which wnids are used and what they mean is told to it.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from ray_selfloop import seeding
from ray_selfloop.config.dataset import ImageNetPictures
from ray_selfloop.data.imageset import Ids, ImageSet, Splits
from ray_selfloop.data.pictures import Pictures, View, checked
from ray_selfloop.data.split import cut_rows, stratified_cut
from ray_selfloop.errors import ConfigError, DataError

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
FETCH = (
    "Get it: register at https://image-net.org, then `kaggle competitions download -c "
    "imagenet-object-localization-challenge`, unzip, and set dataset.root to its "
    "ILSVRC/Data/CLS-LOC"
)
SORT = (
    "Sort it: `cd {folder} && wget -qO- https://raw.githubusercontent.com/soumith/"
    "imagenetloader.torch/master/valprep.sh | bash`"
)


class Found(NamedTuple):
    """Pictures of one official split, in a fixed order.

    root: the folder that ``names`` are relative to. sizes: of the files, in bytes. cells: int64
    ``(n,)``, class of each, or class x number of subgroups + subgroup.
    """

    root: Path
    names: Sequence[str]
    sizes: Sequence[int]
    cells: Ids

    def content(self, rows: Ids) -> list[tuple[str, int]]:
        """Name and size of each of these rows."""
        return [(self.names[row], self.sizes[row]) for row in rows]


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


class PictureFiles(Sequence[bytes]):
    """The files ``root/name`` as they lie there: each is read, and looked at, when asked for.

    Indexing raises DataError where a file cannot be read or is no picture.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root, self.names = root, names

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, row: int) -> bytes: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[bytes]: ...
    def __getitem__(self, row: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(row, slice):
            return PictureFiles(self.root, self.names[row])
        path = self.root / self.names[row]
        encoded = _content(path)
        checked(encoded, str(path))
        return encoded


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of the picture in a file; raises DataError where it is none."""
    return checked(_content(path), str(path))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


# --- what lies there -----------------------------------------------------------------------------


def files(folder: Path, root: Path) -> dict[str, int]:
    """Name and size in bytes of each picture in ``folder``, by name.

    Folders may be links to wherever the data lie. A single picture may be one inside ``root`` or
    beside it in its own folder alone: DataError for a link that leads elsewhere.
    """
    homes = {os.path.realpath(home) for home in (root, folder.parent, folder)}
    try:
        with os.scandir(folder) as entries:
            found = dict(_pictures(entries, homes))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error}") from error
    return dict(sorted(found.items()))


def _pictures(
    entries: Iterable[os.DirEntry[str]], homes: Iterable[str]
) -> Iterator[tuple[str, int]]:
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
        yield entry.name, entry.stat().st_size


def pictures_of(root: Path, split: str, wnid: str) -> dict[str, int]:
    """``<wnid>/<name>`` and size of the pictures in ``<root>/<split>/<wnid>``, at least one.

    Raises DataError that names the first thing missing and how to get it.
    """
    folder = root / split / wnid
    for path in (root, root / split):
        if not path.is_dir():
            raise DataError(f"ImageNet is not complete: {path} is missing. {FETCH}.")
    if not folder.is_dir():
        if files(root / split, root):
            sort = SORT.format(folder=root / split)
            raise DataError(
                f"ImageNet: {folder} is missing: {root / split} holds its pictures side by side, "
                f"not in one folder per class. {sort}."
            )
        raise DataError(f"ImageNet is not complete: {folder} is missing. {FETCH}.")
    found = files(folder, root)
    if not found:
        raise DataError(f"ImageNet is not complete: {folder} holds no picture. {FETCH}.")
    return {f"{wnid}/{name}": size for name, size in found.items()}


def found_in(root: Path, split: str, listed: Sequence[Mapping[str, int]]) -> Found:
    """One split from its cells, each with the names (``<wnid>/<name>``) and sizes in it."""
    names = [f"{split}/{name}" for cell in listed for name in cell]
    sizes = [size for cell in listed for size in cell.values()]
    cells = np.repeat(np.arange(len(listed)), [len(cell) for cell in listed])
    return Found(root, names, sizes, cells.astype(np.int64))


# --- how it is cut -------------------------------------------------------------------------------


class Cut(NamedTuple):
    """Row numbers of each part: of the listed training pictures, and ``test`` of the test ones."""

    train: Ids
    held_out: Ids
    reserve: Ids
    test: Ids


def used(listed: Listed, settings: ImageNetPictures) -> tuple[Ids, Ids]:
    """Rows of the training and of the test pictures that are used, after the limits.

    Raises ConfigError where a limit leaves a class or subgroup too few, DataError where it has no
    more.
    """
    return _limited(listed, settings, "train", 2), _limited(listed, settings, "test", 1)


def _limited(listed: Listed, settings: ImageNetPictures, split: str, least: int) -> Ids:
    """Rows of one split that are used: at least so many of each class or subgroup."""
    cells = getattr(listed, split).cells
    limit = getattr(settings, f"limit_{split}")
    rows = np.arange(len(cells))
    if limit is not None and limit < len(cells):
        _, rows = stratified_cut(cells, limit, seeding.rng(settings.seed, "limit", split))
    counts = np.bincount(cells[rows], minlength=len(listed.strata))
    if counts.min() >= least:
        return rows
    few = f"{counts.min()} of {listed.strata[int(counts.argmin())]}"
    if len(rows) == len(cells):
        raise DataError(f"the {split} pictures are {few} and must be {least} or more; add some")
    raise ConfigError(
        f"dataset.limit_{split}: {len(rows)} pictures are {few}, which needs {least}; raise it, "
        "or use fewer classes"
    )


def cut(listed: Listed, settings: ImageNetPictures) -> Cut:
    """D0, held-out tenth and reserve of the training pictures, stratified; and the test ones."""
    train, test = used(listed, settings)
    cells = listed.train.cells[train]
    parts = cut_rows(cells, settings.reserve, settings.seed, listed.strata)
    original, held_out, apart = (train[rows] for rows in parts)
    return Cut(original, held_out, apart, test)


def original_and_reserve(listed: Listed, settings: ImageNetPictures) -> tuple[Ids, Ids]:
    """Class labels of D0 and of the reserve, as `splits` cuts them."""
    parts = cut(listed, settings)
    cells = listed.train.cells
    return listed.labels(cells[parts.train]), listed.labels(cells[parts.reserve])


def content(listed: Listed, settings: ImageNetPictures) -> list[Any]:
    """What the dataset's source is told by: name and size in bytes of every picture that is used.

    As JSON values. What is inside the files is not looked at before the run; the copy that the run
    works on is checksummed by the store.
    """
    train, test = used(listed, settings)
    return [listed.strata, listed.train.content(train), listed.test.content(test)]


def view(settings: ImageNetPictures) -> View:
    """How the pictures are seen."""
    return View(settings.side, settings.frame, settings.fit)


def splits(listed: Listed, settings: ImageNetPictures) -> Splits:
    """The dataset's four parts, as pictures that are read from their files one at a time.

    ``units`` are row numbers of the listed official split.
    """
    parts = cut(listed, settings)

    def part(found: Found, rows: Ids) -> ImageSet:
        names = [found.names[row] for row in rows]
        cells = found.cells[rows]
        return ImageSet(
            images=Pictures(PictureFiles(found.root, names), view(settings)),
            labels=listed.labels(cells),
            subgroups=listed.subgroups(cells),
            units=rows,
            class_names=listed.class_names,
            subgroup_names=listed.subgroup_names,
        )

    original, held_out, apart = (
        part(listed.train, rows) for rows in (parts.train, parts.held_out, parts.reserve)
    )
    return Splits(original, held_out, part(listed.test, parts.test), apart)
