"""Pictures of one's own: `root/CLASS/*`, or what a CSV file lists.

Decides what is read of the folders and of the table, and what is said where they are at fault: of a
table the file and its line. How the pictures are cut and decoded stands in `pictures`.
"""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ray_selfloop import seeding
from ray_selfloop.config.datasets.folder import RESERVED, Folder
from ray_selfloop.datasets import pictures
from ray_selfloop.datasets.contents import Contents
from ray_selfloop.datasets.pictures import Found, Listed, Whole
from ray_selfloop.errors import DataError
from ray_selfloop.graph import digest
from ray_selfloop.images.imageset import Ids
from ray_selfloop.images.split import stratified_cut

SPLITS = ("train", "test")
LEAST = 2  # classes
OTHER_MARKS = {";": "semicolons", "\t": "tabs"}  # that spreadsheets write between columns


class Row(NamedTuple):
    """A picture. path, mask: relative to the root; mask: "" for none. split: "" if none is given.

    line: where the table names it; 0 without a table.
    """

    path: str
    label: str
    subgroup: tuple[str, ...] = ()
    split: str = ""
    mask: str = ""
    line: int = 0


# --- folders -------------------------------------------------------------------------------------


def of_folders(root: Path) -> list[Row]:
    """The pictures of every class folder; raises DataError for a folder without any."""
    if not root.is_dir():
        raise DataError(f"dataset folder: {root} is missing; set dataset.root to your pictures")
    given = all((root / split).is_dir() for split in SPLITS)
    found = []
    for split in SPLITS if given else ("",):
        for label in _classes(root / split):
            names = pictures.files(root / split / label, root)
            if not names:
                raise DataError(
                    f"dataset folder: {root / split / label} holds no picture: there must be a "
                    f"folder per class in {root}, or in its folders train and test"
                )
            parent = PurePosixPath(split) / label
            found += [Row(str(parent / name), label, split=split) for name in names]
    return found


def _classes(folder: Path) -> list[str]:
    """The folders in a folder but hidden ones, in their order."""
    try:
        entries = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error}") from error
    found = [name for name in entries if not name.startswith(".")]
    for name in found:
        if not name.isprintable():
            raise DataError(f"{str(folder / name)!r}: a class's name must be printable; rename it")
    return found


# --- a table -------------------------------------------------------------------------------------


def of_table(table: Path, root: Path, settings: Folder) -> list[Row]:
    """The pictures that a CSV file lists, by path; raises DataError that names its line."""
    found: dict[str, Row] = {}
    for line, values in _lines(table, _wanted(settings)):
        row = _row(values, settings, f"{table}, line {line}", root)._replace(line=line)
        first = found.setdefault(row.path, row)
        if first is not row:
            raise DataError(f"{table}, line {line}: {row.path} stands in line {first.line} too")
    return [found[path] for path in sorted(found)]


def _wanted(settings: Folder) -> list[str]:
    masks = [settings.mask_column] if settings.mask_column else []
    return [*RESERVED[:2], *settings.subgroups, *masks]


def _lines(table: Path, wanted: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """The number of each line's last line of text, and its values by column."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns = [name.strip() for name in next(reader, [])]
            _check_columns(table, columns, wanted)
            for values in reader:
                if not values:
                    continue  # an empty line
                if len(values) != len(columns):
                    raise DataError(
                        f"{table}, line {reader.line_num}: {len(values)} values, and the header "
                        f"has {len(columns)} columns; put values with a comma in double quotes"
                    )
                yield reader.line_num, dict(zip(columns, values, strict=True))
    except FileNotFoundError as error:
        raise DataError(f"dataset folder: {table} is missing; see dataset.table") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{table} is not UTF-8 text: {error}; save it so") from error
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.line_num}: is no CSV: {error}") from error
    except OSError as error:
        raise DataError(f"{table} cannot be read: {error}") from error


def _check_columns(table: Path, columns: Sequence[str], wanted: Sequence[str]) -> None:
    twice = [name for name in (*wanted, RESERVED[-1]) if columns.count(name) > 1]
    if twice:
        raise DataError(f"{table}, line 1: column {twice[0]} is there twice")
    lacking = [name for name in wanted if name not in columns]
    if lacking:
        other = next((name for mark, name in OTHER_MARKS.items() if mark in "".join(columns)), "")
        hint = f"; it is separated by {other}, and must be by commas: save it so" if other else ""
        raise DataError(
            f"{table}, line 1: column {lacking[0]} is missing; columns: {', '.join(columns)}{hint}"
        )


def _row(values: Mapping[str, str], settings: Folder, where: str, root: Path) -> Row:
    """One picture; ``where``: file and line, for messages."""
    texts = {name: values[name].strip() for name in ("label", *settings.subgroups)}
    for name, text in texts.items():
        if not text or not text.isprintable():
            raise DataError(f"{where}: {name} must be printable text (found {text!r:.40})")
    split = values.get("split", "").strip()
    if "split" in values and split not in SPLITS:
        raise DataError(f"{where}: split must be train or test (found {split!r:.40})")
    mask = values[settings.mask_column].strip() if settings.mask_column else ""
    if settings.mask_column and not mask and split != "train":
        raise DataError(f"{where}: {settings.mask_column} is empty: a test picture needs its mask")
    return Row(
        path=_inside(values["path"].strip(), where, root),
        label=texts["label"],
        subgroup=tuple(texts[name] for name in settings.subgroups),
        split=split,
        mask=_inside(mask, where, root) if mask else "",
    )


def _inside(path: str, where: str, root: Path) -> str:
    """A path as it is called below the root; raises DataError where it leads out or nowhere."""
    if not path or not path.isprintable():
        raise DataError(f"{where}: the path of a file must be printable text (found {path!r:.40})")
    own = os.path.normpath(path)
    if os.path.isabs(own) or own.split(os.sep)[0] == os.pardir:
        raise DataError(f"{where}: {path} must be relative to dataset.root and inside it")
    whole = root / own
    if not whole.is_file():
        raise DataError(f"{where}: there is no file {whole}")
    if whole.is_symlink() and not whole.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"{where}: {whole} is a link that leads out of its dataset, to {whole.resolve()}; put "
            "the file itself there"
        )
    return own


# --- cells and splits ----------------------------------------------------------------------------


def rows_of(settings: Folder) -> list[Row]:
    """Every picture, in a fixed order, with a split; raises DataError."""
    root = _root(settings)
    table = Path(settings.table) if settings.table else None
    return of_table(table, root, settings) if table else of_folders(root)


def _root(settings: Folder) -> Path:
    return Path(settings.root or "data")


def listed(settings: Folder) -> tuple[Listed, Mapping[str, str]]:
    """The pictures by class and subgroup, and the mask of each that has one; raises DataError."""
    rows = rows_of(settings)
    classes = tuple(sorted({row.label for row in rows}))
    groups = sorted({row.subgroup for row in rows}) if settings.subgroups else []
    names = tuple(", ".join(group) for group in groups)
    _require_several(settings, classes, names)
    strata = tuple(f"{c}: {g}" for c in classes for g in names) if groups else classes
    cells = _cells(rows, classes, groups or [()])
    train, test = _split(rows, cells, settings)
    whole = Found(_root(settings), [row.path for row in rows], cells)
    masks = {row.path: row.mask for row in rows if row.mask}
    return Listed(whole.take(train), whole.take(test), classes, names, strata), masks


def _cells(rows: Sequence[Row], classes: Sequence[str], groups: Sequence[tuple[str, ...]]) -> Ids:
    """The class of each picture x number of subgroups + its subgroup."""
    of_class = {name: c for c, name in enumerate(classes)}
    of_group = {values: g for g, values in enumerate(groups)}
    found = [of_class[row.label] * len(groups) + of_group[row.subgroup] for row in rows]
    return np.array(found, np.int64)


def _require_several(settings: Folder, classes: Sequence[str], groups: Sequence[str]) -> None:
    where = settings.table or _root(settings)
    if len(classes) < LEAST:
        raise DataError(f"{where}: there must be two classes or more (found {len(classes)})")
    if len(set(groups)) < len(groups):
        twice = next(name for name in groups if groups.count(name) > 1)
        raise DataError(f"{where}: two subgroups would both be called {twice}; rename a value")
    if len(groups) == 1:
        raise DataError(
            f"{where}: there must be two subgroups or more, and {' x '.join(settings.subgroups)} "
            f"is {groups[0]} everywhere"
        )


def _split(rows: Sequence[Row], cells: Ids, settings: Folder) -> tuple[Ids, Ids]:
    """Rows of the training and of the test pictures: as given, else drawn."""
    if any(row.split for row in rows):
        is_test = np.array([row.split == "test" for row in rows])
        return np.flatnonzero(~is_test), np.flatnonzero(is_test)
    size = round(settings.test_share * len(rows))
    return stratified_cut(cells, size, seeding.rng(settings.seed, "test"))


# --- what the dataset stage asks for -------------------------------------------------------------


def whole(settings: Folder, contents: Contents) -> Whole:
    """The pictures that are used, each test picture with its mask if there are masks."""
    found, masks = listed(settings)

    def beside(test: Found) -> Found:
        return Found(test.root, [masks[name] for name in test.names], test.cells)

    try:
        used = pictures.whole(found, settings, contents, beside if settings.masked else None)
    except pictures.TooFewError as error:
        raise DataError(f"{settings.table or _root(settings)}: {error}") from error
    _require_held_out(used.listed, settings)
    return used


def _require_held_out(found: Listed, settings: Folder) -> None:
    """Raise DataError where the probe's errors in a subgroup would be unknown."""
    cells = found.train.cells
    held_out = cells[pictures.cut(found, settings).held_out]
    counts = np.bincount(held_out, minlength=len(found.strata))
    if settings.subgroups and not counts.all():
        lacking = int(counts.argmin())
        raise DataError(
            f"{settings.table}: {np.count_nonzero(cells == lacking)} training pictures of "
            f"{found.strata[lacking]} are too few: none of them is among the held-out tenth, by "
            "which the reading of subgroups is checked; ten are enough"
        )


def source(settings: Folder, contents: Contents) -> str:
    """Digest of the files, and of what each is said to show."""
    used = whole(settings, contents)
    cells = [part.cells.tolist() for part in (used.listed.train, used.listed.test)]
    return digest([used.content, cells])


def facts(settings: Folder) -> dict[str, object]:
    """What the record says besides: which columns the subgroups are."""
    return {"subgroup_columns": list(settings.subgroups)}


KIND = pictures.kind(whole, facts)._replace(source=source)
