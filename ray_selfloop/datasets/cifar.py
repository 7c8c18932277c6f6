"""CIFAR-20/100 from the official files: superclasses are the classes, fine classes the subgroups.

Decides which images of the official training set are used, and how they are cut. The official files
are pickles: they are read only where their checksum is the published one, and by an unpickler that
knows arrays and built-in containers alone. Nothing here knows of training.
"""

import hashlib
import io
import pickle
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ray_selfloop import seeding
from ray_selfloop.config.datasets.cifar import GROUPS, Cifar
from ray_selfloop.datasets.base import DatasetKind, Prepared, common
from ray_selfloop.datasets.contents import Contents
from ray_selfloop.errors import ConfigError, DataError
from ray_selfloop.graph import digest
from ray_selfloop.images.imageset import Ids, Images, ImageSet, Splits
from ray_selfloop.images.split import cut_rows, stratified_cut

FOLDER = "cifar-100-python"
MD5 = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
FINE = 100
PIXELS = (3, 32, 32)
SUBGROUP_NAMES = tuple(f"fine {g + 1}" for g in range(GROUPS))


class Columns(NamedTuple):
    """One official file: uint8 ``(n, 3, 32, 32)``, superclass 0..19 and fine class 0..99 ``(n,)``.

    Without images (``(0, 3, 32, 32)``) where only labels are asked for.
    """

    images: Images
    coarse: Ids
    fine: Ids


class Names(NamedTuple):
    """Official names by label: 20 superclasses and 100 fine classes."""

    coarse: tuple[str, ...]
    fine: tuple[str, ...]


# --- the official files --------------------------------------------------------------------------


def _empty_array(kind: object, shape: object, code: object) -> Images:
    """What a pickled array starts from; its state brings shape, type and values."""
    return np.empty(0, np.uint8)


class _ArraysAlone(pickle.Unpickler):
    """Knows arrays and built-in containers; any other name in the file is refused."""

    KNOWN: Mapping[str, Any] = {
        "numpy.core.multiarray._reconstruct": _empty_array,
        "numpy.dtype": np.dtype,
        "numpy.ndarray": None,  # an argument of _reconstruct; never called
    }

    def find_class(self, module: str, name: str) -> Any:
        """One of the three names that an array is made of."""
        if f"{module}.{name}" not in self.KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.KNOWN[f"{module}.{name}"]


def unpickled(content: bytes, path: Path) -> dict[str, Any]:
    """The dictionary in an official file; DataError for anything but arrays and containers."""
    try:
        found = _ArraysAlone(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a bad pickle raises a dozen types
        raise DataError(f"CIFAR-100: {path} is refused: {error or 'no pickle'}") from error
    if not isinstance(found, dict):
        raise DataError(f"CIFAR-100: {path} is refused: it holds no dictionary")
    return found


def columns(content: bytes, path: Path) -> Columns:
    found = unpickled(content, path)
    images = np.asarray(found["data"]).reshape(-1, *PIXELS)
    coarse, fine = (np.array(found[f"{which}_labels"], np.int64) for which in ("coarse", "fine"))
    return Columns(images, coarse, fine)


def names(content: bytes, path: Path) -> Names:
    found = unpickled(content, path)
    return Names(tuple(found["coarse_label_names"]), tuple(found["fine_label_names"]))


def _file(root: str | None, part: str) -> Path:
    """Where an official file lies; raises DataError where it does not."""
    path = Path(root or "data") / FOLDER / part
    if not path.is_file():
        raise DataError(
            f"CIFAR-100 is not complete: {path} is missing. Unpack cifar-100-python.tar.gz (the "
            f"python version, {PAGE}) into {path.parent.parent}, or set dataset.download=true."
        )
    return path


def _checked(root: str | None, part: str) -> tuple[bytes, Path]:
    """An official file's content, whose checksum is the published one; raises DataError."""
    path = _file(root, part)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"CIFAR-100: {path} cannot be read: {error}") from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != MD5[part]:
        raise DataError(
            f"CIFAR-100: {path} is damaged or not the official file: its md5 is {found}, not "
            f"{MD5[part]}. Delete it and unpack cifar-100-python.tar.gz again."
        )
    return content, path


def check(root: str | None) -> None:
    """Raise DataError for the first of train, test and meta that is at fault."""
    for part in MD5:
        at = _file(root, part).stat()
        _check_once(root, part, at.st_mtime_ns, at.st_size)


@cache
def _check_once(root: str | None, part: str, changed: int, size: int) -> None:
    """A file as it was then: every scenario of a sweep asks for the same one."""
    _checked(root, part)


def read(root: str | None) -> tuple[Columns, Columns, Names]:
    """Official train (50,000), test (10,000) and names; raises DataError."""
    return (
        columns(*_checked(root, "train")),
        columns(*_checked(root, "test")),
        names(*_checked(root, "meta")),
    )


def train_labels(root: str | None) -> tuple[Columns, Names]:
    """Labels of the official training images, without the images."""
    path, meta = _file(root, "train"), _file(root, "meta")
    stamps = [entry.stat().st_mtime_ns for entry in (path, meta)]
    return _train_labels(root, tuple(stamps))


@cache
def _train_labels(root: str | None, stamps: tuple[int, ...]) -> tuple[Columns, Names]:
    """Of the files as they were then: every scenario with a reserve asks for the same."""
    train = columns(*_checked(root, "train"))
    return train._replace(images=np.empty((0, *PIXELS), np.uint8)), names(*_checked(root, "meta"))


def download(root: str | None) -> None:
    """Fetch the official archive where a file is missing; raises DataError when that fails."""
    folder = Path(root or "data")
    if all((folder / FOLDER / part).is_file() for part in MD5):
        return
    from torchvision.datasets import CIFAR100
    from torchvision.datasets.utils import download_and_extract_archive

    try:  # CIFAR100(download=True) itself would also unpickle what it fetched
        download_and_extract_archive(
            CIFAR100.url, str(folder), filename=CIFAR100.filename, md5=CIFAR100.tgz_md5
        )
    except (RuntimeError, OSError) as error:
        raise DataError(f"CIFAR-100 could not be downloaded to {folder}: {error}") from error


# --- classes, subgroups and cuts -----------------------------------------------------------------


def readable(name: str) -> str:
    return name.replace("_", " ")


def fine_classes(train: Columns, called: Names) -> dict[str, tuple[str, ...]]:
    """Superclass -> its fine classes by the alphabet, from the training file's own two labels."""
    pairs = np.unique(np.stack([train.coarse, train.fine]), axis=1)
    return {
        name: tuple(sorted(called.fine[fine] for fine in pairs[1, pairs[0] == label]))
        for label, name in enumerate(called.coarse)
    }


def _cells(data: Columns, called: Names, groups: Mapping[str, Sequence[str]]) -> Ids:
    """``class * 5 + subgroup`` of each row among the superclasses ``groups``; -1 for the others."""
    of_fine = np.full(FINE, -1, np.int64)
    for label, members in enumerate(groups.values()):
        for subgroup, name in enumerate(members):
            of_fine[called.fine.index(name)] = label * GROUPS + subgroup
    return of_fine[data.fine]


def minority(settings: Cifar, groups: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The fine classes of each superclass that lose training images; empty for ``full``.

    Drawn by superclass, so that a subset of superclasses has the same ones.
    """
    if settings.variant == "full":
        return {}
    if settings.minority:
        return {name: tuple(sorted(pair)) for name, pair in settings.minority.items()}
    drawn = {
        name: seeding.rng(settings.seed, "minority", name).choice(GROUPS, 2, replace=False)
        for name in groups
    }
    return {name: tuple(groups[name][g] for g in sorted(two)) for name, two in drawn.items()}


class Chosen(NamedTuple):
    """What is used of the official training set: row numbers ``(n,)`` and the cell of each."""

    rows: Ids
    cells: Ids


def _train_rows(
    train: Columns, called: Names, groups: Mapping[str, Sequence[str]], settings: Cifar
) -> Chosen:
    """The training images used, after superclasses, imbalance and limit."""
    cells = _cells(train, called, groups)
    used = cells >= 0
    poor = {name for two in minority(settings, groups).values() for name in two}
    for name in sorted(poor):
        rows = np.flatnonzero(used & (train.fine == called.fine.index(name)))
        stay = round(settings.minority_kept * len(rows))
        used[seeding.rng(settings.seed, "imbalanced", name).permutation(rows)[stay:]] = False
    rows = _limited(np.flatnonzero(used), cells, settings.limit_train, settings.seed, "train")
    counts = np.bincount(cells[rows], minlength=len(groups) * GROUPS)
    if counts.min() < 2:
        few = [name for members in groups.values() for name in members][int(counts.argmin())]
        raise ConfigError(
            f"dataset.limit_train: {len(rows)} images are {counts.min()} of {few}; every fine "
            "class needs 2 and should have 50; raise it or minority_kept, or use fewer superclasses"
        )
    return Chosen(rows, cells[rows])


def _limited(rows: Ids, cells: Ids, size: int | None, seed: int, part: str) -> Ids:
    if size is None or size >= len(rows):
        return rows
    _, chosen = stratified_cut(cells[rows], size, seeding.rng(seed, "limit", part))
    return rows[chosen]


def _groups(train: Columns, called: Names, settings: Cifar) -> dict[str, tuple[str, ...]]:
    everything = fine_classes(train, called)
    return {name: everything[name] for name in called.coarse if name in settings.classes}


def _cut(cells: Ids, groups: Mapping[str, Sequence[str]], settings: Cifar) -> tuple[Ids, Ids, Ids]:
    fine = [name for members in groups.values() for name in members]
    return cut_rows(cells, settings.reserve, settings.seed, fine)


def original_and_reserve(train: Columns, called: Names, settings: Cifar) -> tuple[Ids, Ids]:
    """Class labels of D0 and of the reserve, as ``splits`` cuts them; needs no images."""
    groups = _groups(train, called, settings)
    chosen = _train_rows(train, called, groups, settings)
    original, _, apart = _cut(chosen.cells, groups, settings)
    return chosen.cells[original] // GROUPS, chosen.cells[apart] // GROUPS


def splits(
    train: Columns, test: Columns, called: Names, settings: Cifar
) -> tuple[Splits, dict[str, Any]]:
    """The dataset's four parts, and what its record says besides.

    The training images (after superclasses, imbalance and limit) lose a tenth to the held-out part
    and ``settings.reserve`` of the rest to the reserve, both stratified by fine class, so that all
    have the imbalance of the training set. The test images are never thinned out by ``variant``.
    ``units`` are row numbers of the official file.
    """
    groups = _groups(train, called, settings)
    chosen = _train_rows(train, called, groups, settings)
    class_names = tuple(readable(name) for name in groups)

    def part(data: Columns, rows: Ids, cells: Ids) -> ImageSet:
        images, labels = data.images[rows], cells // GROUPS
        return ImageSet(images, labels, cells % GROUPS, rows, class_names, SUBGROUP_NAMES)

    cells = _cells(test, called, groups)
    tested = _limited(np.flatnonzero(cells >= 0), cells, settings.limit_test, settings.seed, "test")
    original, held, apart = (
        part(train, chosen.rows[rows], chosen.cells[rows])
        for rows in _cut(chosen.cells, groups, settings)
    )
    facts = {
        "fine_names": _worded(groups),
        "minority": _worded(minority(settings, groups)),
    }
    return Splits(original, held, part(test, tested, cells[tested]), apart), facts


def _worded(groups: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {
        readable(name): [readable(fine) for fine in members] for name, members in groups.items()
    }


# --- what the dataset stage asks for -------------------------------------------------------------


def _source(settings: Cifar, contents: Contents) -> str:
    if settings.download:
        download(settings.root)
    check(settings.root)
    return digest(list(MD5.values()))


def _cut_of(settings: Cifar, contents: Contents) -> tuple[Ids, Ids]:
    return original_and_reserve(*train_labels(settings.root), settings)


def _prepare(settings: Cifar, contents: Contents) -> Prepared:
    found, facts = splits(*read(settings.root), settings)
    return Prepared(found, {**common(settings), **facts})


KIND = DatasetKind(_source, _cut_of, _prepare)
