"""The tables that a sweep leaves: their columns are as docs/results.md tells them, and answer."""

import contextlib
import io
import re
from pathlib import Path

import pandas as pd
import pytest
from conftest import MICRO

from ray_selfloop import api
from ray_selfloop.__main__ import main
from ray_selfloop.conclusion import tables
from ray_selfloop.evaluation.rows import COLUMNS
from ray_selfloop.planning import prepare
from ray_selfloop.stages.run import run_here

PAGE = Path(__file__).parents[2] / "docs" / "results.md"
SMALL = (
    "name=mine",
    "loop.generations=1",
    "loop.loop_seeds=[0,1,2]",
    "generator.max_steps=10",
    "axes={filter.drop: [0.1, 0.5], loop.arm: [treatment, no_synthetic]}",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a small sweep over an axis, as its commands write them."""
    around = tmp_path_factory.mktemp("mine")
    words = [*MICRO, *SMALL, f"storage={around / 'selfloop-results'}"]
    plan = prepare(words)
    run_here(plan.graph, plan.store)
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["report", *words]) == 0
    return around / "selfloop-results" / "mine"


def examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.M)


def test_the_page_of_tables_is_fresh() -> None:
    """Renew it by: python -m ray_selfloop.conclusion.tables docs/results.md"""
    text = PAGE.read_text(encoding="utf-8")
    assert tables.in_page(text) == text


@pytest.mark.slow
def test_every_column_is_told_and_every_column_that_is_told_is_there(folder: Path) -> None:
    found, axes = api.results(folder), ["filter.drop", "loop.arm"]
    assert list(found.columns) == [*tables.RESULTS, *axes]
    assert list(api.effects(folder).columns) == [*tables.EFFECTS, "filter.drop"]
    assert list(COLUMNS) == list(tables.RESULTS)[: len(COLUMNS)]


@pytest.mark.slow
def test_words_of_both_tables_are_those_that_are_told(folder: Path) -> None:
    found, judged = api.results(folder), api.effects(folder)
    assert set(found["level"]) == set(tables.LEVELS)
    assert set(found["interval"]) | set(judged["interval"]) <= {"", *tables.INTERVALS}
    assert set(judged["kind"]) <= set(tables.KINDS)
    assert not found[["classifier", "class", "subgroup"]].eq("").any(axis=None)
    assert not judged[["network", "subgroup"]].eq("").any(axis=None)
    assert found["filter.drop"].dtype == judged["filter.drop"].dtype == "float64"


@pytest.mark.slow
def test_the_level_of_a_row_tells_trials_chains_and_means_apart(folder: Path) -> None:
    found = api.results(folder)
    of = {level: found[found["level"] == level] for level in tables.LEVELS}
    assert of[tables.TRIAL]["seed"].notna().all()
    assert (of[tables.CHAIN]["split"] != "test").all()
    assert of[tables.MEAN][["loop_seed", "seed"]].isna().all(axis=None)
    assert set(of[tables.DATA]["metric"]) == {"support"}
    mean = of[tables.MEAN]
    several = mean[mean["low"].notna() & ~mean["metric"].str.contains("_floor")]
    assert set(several["interval"]) == {tables.IMAGES}
    none = found[found["low"].isna() & found["high"].isna()]
    assert set(none["interval"]) == {""}


@pytest.mark.slow
def test_effects_hold_a_row_of_every_kind_of_this_sweep(folder: Path) -> None:
    found = api.effects(folder)
    assert {"statement", "network", "part", "A", "rest", "axis"} == set(found["kind"])
    chains = found[found["level"] == tables.CHAIN]
    assert set(chains["loop_seed"]) == {0, 1, 2}
    assert set(chains["kind"]) == {"axis"}
    rests = found[found["kind"] == "rest"]
    assert set(rests["verdict"]) == {""}
    assert rests["reason"].str.startswith("where B moves: ").all()
    by_group = found[found["scenario_group"] == "drop=0.5"]
    assert set(by_group["filter.drop"]) == {0.5}


@pytest.mark.slow
def test_a_difference_is_the_mean_of_its_chains_and_of_its_changes(folder: Path) -> None:
    found = api.effects(folder)
    axis = found[(found["kind"] == "axis") & (found["metric"] == "md") & (found["arm"] != "")]
    whole = axis[axis["level"] == tables.MEAN]
    (difference,) = whole[(whole["against"] != "") & (whole["control"] == "")]["value"]
    own = whole[(whole["against"] == "") & (whole["arm"] == "treatment")].set_index("filter.drop")
    assert difference == pytest.approx(own["value"][0.5] - own["value"][0.1])
    chains = axis[(axis["level"] == tables.CHAIN) & (axis["against"] != "")]
    assert difference == pytest.approx(chains[chains["control"] == ""]["value"].mean())


@pytest.mark.slow
def test_the_examples_run_as_they_stand(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.parents[1])
    drawn, asked = examples()
    for text in (drawn, asked):
        assert len([line for line in text.splitlines() if line and "import" not in line]) <= 5
    exec(drawn, {})
    assert Path("md.png").stat().st_size > 5000
    exec(asked, {})
    said = capsys.readouterr().out.splitlines()
    rows = [line for line in said if "lenet" in line]
    assert len(rows) >= 1
    assert all(" 0.1 " in row and " 0.5 " in row for row in rows)


@pytest.mark.slow
def test_tables_of_an_older_version_are_read_with_the_same_words(
    folder: Path, tmp_path: Path
) -> None:
    """They leave empty what is of all, and have no level; what a sweep has, `report` rebuilds."""
    now = api.results(folder)
    words = ["classifier", "class", "subgroup"]
    old = now[list(COLUMNS)].assign(**{name: now[name].replace("all", "") for name in words})
    old.to_parquet(tmp_path / "results.parquet")
    read = api.results(tmp_path)
    pd.testing.assert_frame_equal(read, now[[*tables.RESULTS]])
    effects = api.effects(folder)
    columns = ["id", "network", "subgroup", "value"]
    before = effects[columns].replace({"network": {"all": ""}, "subgroup": {"all": ""}})
    before.to_parquet(tmp_path / "effects.parquet")
    pd.testing.assert_frame_equal(api.effects(tmp_path), effects[columns])


@pytest.mark.slow
def test_the_page_shows_the_axis_and_its_comparison(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert 'id="axes"' in page
    assert "filter.drop: 0.1, 0.5" in page
    assert re.search(r"the change of MD at 0.5 against 0.1: lenet [+-]", page)
