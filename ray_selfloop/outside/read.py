"""Anybody's table, checked: from a CSV or parquet file to one form of rows, or one message.

Decides what a table must have to be judged: whole chains, each with every class and group in every
generation, on one test set. Knows no metric and nothing of what is judged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ray_selfloop.errors import ConfigError, DataError

COUNTS, PREDICTIONS = ("n", "correct"), ("image", "prediction")
NEEDED = ("chain", "generation", "class", "group")
OPTIONAL = {"setting": "", "arm": "", "classifier": "classifier", "seed": "0"}
KNOWN = (*NEEDED, *COUNTS, *PREDICTIONS, *OPTIONAL)
SCENARIO = ["setting", "arm"]
RUN = [*SCENARIO, "classifier", "seed", "chain"]
TRIAL = [*RUN, "generation"]
WHOLE = {"generation": "generation", "seed": "seed", "n": "n", "correct": "correct"}


@dataclass(frozen=True)
class Table:
    """rows: columns `TRIAL`, class, group, then n and correct, or image and prediction; chains are
    numbers. predicted: which of the two. chains: number -> name in the file. columns: those that
    the file has."""

    path: Path
    rows: pd.DataFrame
    predicted: bool
    chains: Mapping[int, str]
    columns: tuple[str, ...]


def read(path: Path, renamed: Sequence[str] = ()) -> Table:
    """The table of a file; renamed: ``theirs=ours``. Raises DataError, and ConfigError for what
    was asked in wrong words."""
    rows = _named(path, _loaded(path), _renaming(renamed))
    predicted = _form(path, rows)
    columns = tuple(rows.columns)
    wanted = [*NEEDED, *(PREDICTIONS if predicted else COUNTS)]
    for name, default in OPTIONAL.items():
        if name not in rows:
            rows[name] = default
    rows = rows[[*wanted, *OPTIONAL]]
    _filled(path, rows)
    rows = _numbers(path, rows)
    _unique(path, rows, ["image", "class", "group"] if predicted else ["class", "group"])
    (_predictions if predicted else _counts)(path, rows)
    _whole_chains(path, rows)
    _whole_cells(path, rows)
    (_same_images if predicted else _same_test)(path, rows)
    _named_apart(path, rows)
    if not predicted:
        _several_chains(path, rows)
    rows, chains = _numbered(rows)
    return Table(path, rows, predicted, chains, columns)


# --- the file ------------------------------------------------------------------------------------


def _loaded(path: Path) -> pd.DataFrame:
    """All cells as text; the index is the line of the file, or the row of a parquet table."""
    if not path.is_file():
        raise DataError(f"{path} is no file; give a table as CSV or parquet")
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise DataError(f"{path}: not a table that is read here; give a .csv or .parquet file")
    try:
        if path.suffix.lower() == ".csv":
            rows = pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False)
            first = 2  # line 1 names the columns
        else:
            found = pd.read_parquet(path)
            rows = found.astype(object).where(found.notna(), "").map(_text)
            first = 1
    except (ValueError, OSError, UnicodeDecodeError) as error:  # pandas' and pyarrow's own are both
        said = str(error).strip().splitlines()[0]
        raise DataError(f"{path} cannot be read as {path.suffix[1:]}: {said}") from error
    if rows.empty:
        raise DataError(f"{path} has no rows")
    rows.columns = [str(name).strip() for name in rows.columns]
    rows.index = pd.RangeIndex(first, first + len(rows))
    return rows


def _text(value: object) -> str:
    """As a CSV has it; a whole number that parquet holds as a float is a whole number."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _at(path: Path, row: object) -> str:
    return f"{path}, {'line' if path.suffix.lower() == '.csv' else 'row'} {row}"


def _renaming(renamed: Sequence[str]) -> dict[str, str]:
    found = {}
    for word in renamed:
        theirs, mark, ours = word.rpartition("=")
        if not mark or not theirs or ours not in KNOWN:
            raise ConfigError(
                f"--columns {word}: write theirs=ours, with ours one of {', '.join(KNOWN)}"
            )
        found[theirs] = ours
    return found


def _named(path: Path, rows: pd.DataFrame, renamed: Mapping[str, str]) -> pd.DataFrame:
    for theirs, ours in renamed.items():
        if theirs not in rows:
            raise DataError(
                f"{path} has no column {theirs!r} (--columns {theirs}={ours}); it has "
                f"{', '.join(rows.columns)}"
            )
    rows = rows.rename(columns=renamed)
    twice = rows.columns[rows.columns.duplicated()]
    if len(twice):
        raise DataError(f"{path} has two columns {twice[0]!r}; rename one of them with --columns")
    if "class" not in rows and "label" in rows:
        rows = rows.rename(columns={"label": "class"})
    missing = [name for name in NEEDED if name not in rows]
    if missing:
        raise DataError(
            f"{path} has no column {' and no '.join(missing)}; it has {', '.join(rows.columns)} "
            f"(--columns theirs={missing[0]} says which one is meant)"
        )
    return rows


def _form(path: Path, rows: pd.DataFrame) -> bool:
    """Whether it holds predictions and not counts."""
    has = [[name for name in form if name in rows] for form in (COUNTS, PREDICTIONS)]
    if all(has):
        raise DataError(
            f"{path} mixes two forms: {', '.join(has[0])} are of counts, {', '.join(has[1])} of "
            "predictions; leave one of them out"
        )
    for form, found in zip((COUNTS, PREDICTIONS), has, strict=True):
        if found and len(found) < len(form):
            missing = next(name for name in form if name not in found)
            raise DataError(f"{path} has a column {found[0]} and no column {missing}")
    if not any(has):
        raise DataError(f"{path} has neither n and correct nor image and prediction")
    return bool(has[1])


# --- its cells -----------------------------------------------------------------------------------


def _filled(path: Path, rows: pd.DataFrame) -> None:
    """No cell is empty or says that it is not known."""
    for name in rows:
        if name not in SCENARIO:
            bad = rows.index[rows[name].str.strip().str.lower().isin(("", "nan", "na", "null"))]
            if len(bad):
                raise DataError(f"{_at(path, bad[0])}: {name} is missing")


def _numbers(path: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """With whole numbers, 0 or more, where they are meant."""
    rows = rows.copy()
    for name in (name for name in WHOLE if name in rows):
        values = pd.to_numeric(rows[name], errors="coerce")
        bad = values.isna() | (values % 1 != 0) | (values < 0) | (values > 2**53)
        if bad.any():
            at = bad.idxmax()
            said = f"{name} is {rows.at[at, name]}, not a whole number from 0 on"
            raise DataError(f"{_at(path, at)}: {said}")
        rows[name] = values.astype("int64")
    return rows


def _unique(path: Path, rows: pd.DataFrame, within: list[str]) -> None:
    twice = rows.duplicated([*TRIAL, *within])
    if twice.any():
        at = twice.idxmax()
        same = (rows[[*TRIAL, *within]] == rows.loc[at, [*TRIAL, *within]]).all(axis=1)
        raise DataError(f"{_at(path, at)}: the same {_place(rows.loc[at])}, "
                        f"{_told(rows.loc[at], within)} as {same.idxmax()}")  # fmt: skip


def _counts(path: Path, rows: pd.DataFrame) -> None:
    above = rows["correct"] > rows["n"]
    if above.any():
        at = above.idxmax()
        correct, n = rows.at[at, "correct"], rows.at[at, "n"]
        raise DataError(f"{_at(path, at)}: correct is {correct}, above n, which is {n}")


def _predictions(path: Path, rows: pd.DataFrame) -> None:
    classes = set(rows["class"])
    outside = ~rows["prediction"].isin(classes)
    if outside.any():
        at = outside.idxmax()
        raise DataError(
            f"{_at(path, at)}: prediction {rows.at[at, 'prediction']!r} is none of the classes "
            f"({', '.join(_ordered(classes))})"
        )


# --- whole chains on one test set ----------------------------------------------------------------


def _told(row: "pd.Series[str]", names: Sequence[str]) -> str:
    return ", ".join(f"{name} {row[name]}" for name in names)


def _place(row: "pd.Series[str]") -> str:
    """``arm a, chain 3, generation 2``; what the table does not say is left out."""
    said = [name for name in TRIAL if str(row[name]) != OPTIONAL.get(name)]
    return _told(row, said)


def _whole_chains(path: Path, rows: pd.DataFrame) -> None:
    """Every run has the generations 0 to the last one of its scenario."""
    last = rows.groupby(SCENARIO)["generation"].max()
    if last.min() < 1:
        raise DataError(f"{path}: generation 0 alone is no loop; give two generations or more")
    for run, members in rows.groupby(RUN, sort=False):
        wanted = range(int(last[run[0], run[1]]) + 1)
        missing = sorted(set(wanted) - set(members["generation"]))
        if missing:
            first = members.iloc[0]
            names = [name for name in RUN if str(first[name]) != OPTIONAL.get(name)]
            raise DataError(
                f"{path}: {_told(first, names)} has no generation {missing[0]}, which others have "
                f"or its later ones need; it begins at {_at(path, members.index[0])}"
            )


def _whole_cells(path: Path, rows: pd.DataFrame) -> None:
    """Every trial has every class and group of its setting."""
    for _, of in rows.groupby("setting", sort=False):
        trials = of.groupby(TRIAL, sort=False).ngroups
        cells = of.drop_duplicates([*TRIAL, "class", "group"])
        for name in ("class", "group"):
            _no_stranger(path, of, name, trials)
        _enough(path, of)
        wanted = {(c, g) for c in set(of["class"]) for g in set(of["group"])}
        counted = cells.groupby(TRIAL, sort=False).size()
        short = counted.index[counted < len(wanted)]
        if len(short):
            members = cells[(cells[TRIAL] == list(short[0])).all(axis=1)]
            there = set(zip(members["class"], members["group"], strict=True))
            label, group = min(wanted - there)
            raise DataError(
                f"{_at(path, members.index[0])}: {_place(members.iloc[0])} has no row of class "
                f"{label}, group {group}"
            )


def _no_stranger(path: Path, rows: pd.DataFrame, name: str, trials: int) -> None:
    """A class or group that few trials have is a mistake, and not a hole in all others."""
    having = rows.drop_duplicates([*TRIAL, name]).groupby(name).size()
    few = having.index[having < max(trials / 2, 1)]
    if len(few):
        at = rows.index[rows[name] == few[0]][0]
        raise DataError(
            f"{_at(path, at)}: {name} {few[0]!r} is in {having[few[0]]} of {trials} trials alone "
            f"(first in {_place(rows.loc[at])}); most have {name} "
            f"{', '.join(_ordered(set(rows[name]) - set(few)))}"
        )


def _enough(path: Path, rows: pd.DataFrame) -> None:
    for name, what in (("class", "classes"), ("group", "groups")):
        if rows[name].nunique() < 2:
            raise DataError(f"{path}: one {name} alone ({rows[name].iloc[0]}); give two {what}")


def _same_test(path: Path, rows: pd.DataFrame) -> None:
    """n of a cell is one number in a scenario: one test set."""
    cell = [*SCENARIO, "class", "group"]
    first = rows.groupby(cell)["n"].transform("first")
    other = rows["n"] != first
    if other.any():
        at = other.idxmax()
        raise DataError(
            f"{_at(path, at)}: n of class {rows.at[at, 'class']}, group {rows.at[at, 'group']} is "
            f"{rows.at[at, 'n']}, elsewhere {first[at]}; an arm is judged on one test set"
        )
    empty = rows["n"] == 0
    if empty.any():
        raise DataError(f"{_at(path, empty.idxmax())}: n is 0; a cell needs test images")


def _same_images(path: Path, rows: pd.DataFrame) -> None:
    """Every trial of a scenario has the same images, each of one class and group."""
    for _, of in rows.groupby(SCENARIO, sort=False):
        trials = of.groupby(TRIAL, sort=False).ngroups
        shown = of.groupby(["image", "class", "group"], sort=False)["prediction"].size()
        odd = shown.index[shown < trials]
        if len(odd):
            here = (of[["image", "class", "group"]] == list(odd[0])).all(axis=1)
            raise DataError(
                f"{_at(path, here.idxmax())}: image {odd[0][0]} with class {odd[0][1]}, group "
                f"{odd[0][2]} is in {shown[odd[0]]} of {trials} trials; all of an arm need the "
                "same test images"
            )


def scenario_name(setting: str, arm: str) -> str:
    """How an arm in a setting is called; "" where neither has a name."""
    return ", ".join(filter(None, (setting, arm)))


def _named_apart(path: Path, rows: pd.DataFrame) -> None:
    """No two scenarios are called the same."""
    first: dict[str, tuple[str, str]] = {}
    for setting, arm in rows[SCENARIO].drop_duplicates().itertuples(index=False):
        name = scenario_name(setting, arm)
        if name in first:
            raise DataError(
                f"{path}: arm {arm!r} in setting {setting!r} and arm {first[name][1]!r} in setting "
                f"{first[name][0]!r} would both be called {name!r}; rename one"
            )
        first[name] = (setting, arm)


def _several_chains(path: Path, rows: pd.DataFrame) -> None:
    """Counts tell the error of a number by the scatter between chains alone."""
    for (setting, arm), of in rows.groupby(SCENARIO, sort=False):
        chains = set(of["chain"])
        if len(chains) < 2:
            name = scenario_name(str(setting), str(arm)) or "the table"
            raise DataError(
                f"{path}: {name} has one chain ({chains.pop()}); counts need two or more, whose "
                "scatter is the only error that they tell (predictions by image tell another)"
            )


def _ordered(names: set[str]) -> list[str]:
    """By number where all are numbers, else by name."""
    return sorted(names, key=int) if all(n.isdecimal() for n in names) else sorted(names)


def names_of(column: "pd.Series[str]") -> tuple[str, ...]:
    """The classes or groups of a column, in order."""
    return tuple(_ordered(set(column)))


def _numbered(rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[int, str]]:
    """With chains as whole numbers, as they are in the results table."""
    names = names_of(rows["chain"])
    own = all(name.isdecimal() for name in names) and len({int(name) for name in names}) == len(
        names
    )
    number = {name: int(name) if own else i for i, name in enumerate(names)}
    return rows.assign(chain=rows["chain"].map(number)), {n: name for name, n in number.items()}
