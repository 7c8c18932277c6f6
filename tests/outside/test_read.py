"""What makes a table unfit to be judged, each with one message that names file and row."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ray_selfloop.cli import obey
from ray_selfloop.errors import ConfigError, DataError, SelfLoopError
from ray_selfloop.outside.read import read

Change = Callable[[pd.DataFrame], object]


def counted(chains: int = 2, generations: int = 3) -> pd.DataFrame:
    places = [
        (chain, n, label, group)
        for chain in range(chains)
        for n in range(generations)
        for label in ("cat", "dog")
        for group in ("x", "y")
    ]
    rows = pd.DataFrame(places, columns=["chain", "generation", "class", "group"])
    return rows.assign(n=50, correct=40)


def predicted() -> pd.DataFrame:
    rows = counted().drop(columns=["n", "correct"])
    return rows.assign(image=rows["class"] + rows["group"], prediction=rows["class"])


def put(row: int, column: str, value: object) -> Change:
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        rows = rows.astype(object)
        rows.loc[row, column] = value
        return rows

    return change


def without(*rows: int) -> Change:
    return lambda table: table.drop(index=list(rows))


BROKEN: dict[str, tuple[Change, str]] = {
    "a missing column": (lambda t: t.drop(columns="group"), "has no column group; it has chain"),
    "half of a form": (lambda t: t.drop(columns="n"), "has a column correct and no column n"),
    "no form": (lambda t: t.drop(columns=["n", "correct"]), "neither n and correct nor image"),
    "two forms": (lambda t: t.assign(image=1, prediction="cat"), "mixes two forms: n, correct"),
    "a count above n": (put(4, "correct", 51), "line 6: correct is 51, above n, which is 50"),
    "a negative count": (put(4, "correct", -1), "line 6: correct is -1, not a whole number"),
    "half a count": (put(4, "correct", 1.5), "line 6: correct is 1.5, not a whole number"),
    "a count in words": (put(4, "n", "many"), "line 6: n is many, not a whole number"),
    "half a generation": (put(0, "generation", 0.5), "line 2: generation is 0.5, not a whole"),
    "an empty cell": (put(3, "correct", None), "line 5: correct is missing"),
    "a NaN": (put(3, "group", "NaN"), "line 5: group is missing"),
    "a row twice": (lambda t: pd.concat([t, t.iloc[[5]]]), "line 26: the same chain 0, generation"),
    "one chain": (lambda t: t[t["chain"] == 0], "the table has one chain (0); counts need two"),
    "two scenarios of one name": (
        lambda t: pd.concat([t.assign(setting="s, p", arm=""), t.assign(setting="s", arm="p")]),
        "would both be called 's, p'; rename one",
    ),
    "a missing generation": (without(4, 5, 6, 7), "chain 0 has no generation 1"),
    "a missing cell": (without(6), "chain 0, generation 1 has no row of class dog, group x"),
    "a strange group": (put(6, "group", "z"), "line 8: group 'z' is in 1 of 6 trials alone"),
    "other test images": (put(6, "n", 49), "line 8: n of class dog, group x is 49, elsewhere 50"),
    "an empty cell of images": (lambda t: t.assign(n=0, correct=0), "line 2: n is 0"),
    "one group": (lambda t: t[t["group"] == "x"], "one group alone (x)"),
    "one generation": (lambda t: t[t["generation"] == 0], "generation 0 alone is no loop"),
    "no rows": (lambda t: t[:0], "has no rows"),
}  # fmt: skip
PREDICTED: dict[str, tuple[Change, str]] = {
    "a strange prediction": (put(2, "prediction", "cow"), "line 4: prediction 'cow' is none of"),
    "an image of its own": (put(2, "image", "other"), "in 1 of 6 trials; all of an arm need"),
    "an image twice": (lambda t: pd.concat([t, t.iloc[[5]]]), "line 26: the same chain 0"),
}


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_whole_table_is_read_from_either_kind_of_file(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"whole.{form}"
    counted().to_csv(path, index=False) if form == "csv" else counted().to_parquet(path)
    table = read(path)
    assert not table.predicted
    assert table.rows["correct"].sum() == 40 * 24


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_table_of_counts_has_one_message(tmp_path: Path, name: str) -> None:
    change, message = BROKEN[name]
    _refused(tmp_path, change(counted()), message)


@pytest.mark.parametrize("name", PREDICTED)
def test_a_broken_table_of_predictions_has_one_message(tmp_path: Path, name: str) -> None:
    change, message = PREDICTED[name]
    _refused(tmp_path, change(predicted()), message)


def _refused(folder: Path, rows: object, message: str) -> None:
    path = folder / "theirs.csv"
    assert isinstance(rows, pd.DataFrame)
    rows.to_csv(path, index=False)
    with pytest.raises(SelfLoopError) as found:
        obey(["judge", str(path)])
    assert message in str(found.value)
    assert str(path) in str(found.value)
    assert "\n" not in str(found.value)
    assert found.value.exit_code == 2
    assert list(folder.iterdir()) == [path]


def test_a_row_of_a_parquet_table_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "theirs.parquet"
    counted().assign(correct=[40] * 23 + [51]).to_parquet(path)
    with pytest.raises(DataError, match="row 24: correct is 51"):
        read(path)


def test_what_is_no_table_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no file"):
        read(tmp_path / "nothing.csv")
    text = tmp_path / "table.xlsx"
    text.write_text("chain")
    with pytest.raises(DataError, match=r"give a \.csv or \.parquet file"):
        read(text)
    text = tmp_path / "table.parquet"
    text.write_text("chain")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        read(text)
    text = tmp_path / "empty.csv"
    text.write_text("")
    with pytest.raises(DataError, match="cannot be read as csv"):
        read(text)


def test_columns_are_read_under_other_names(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    counted().rename(columns={"chain": "run", "generation": "epoch"}).to_csv(path, index=False)
    table = read(path, ["run=chain", "epoch=generation"])
    assert set(table.rows["generation"]) == {0, 1, 2}
    with pytest.raises(DataError, match="no column 'walk'"):
        read(path, ["walk=chain"])
    with pytest.raises(ConfigError, match="write theirs=ours, with ours one of chain"):
        read(path, ["run=chian"])


def test_a_chain_may_be_called_by_a_digit_that_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    table = counted()
    table.assign(chain=table["chain"].map({0: "\u00b2", 1: "b"})).to_csv(path, index=False)
    assert set(read(path).chains.values()) == {"\u00b2", "b"}
