"""Sweeps from Python: the tables of one that is published, and what is said of none."""

import contextlib
import io
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pytest
from extending_page import example

from ray_selfloop import api
from ray_selfloop.__main__ import main
from ray_selfloop.config.load import load
from ray_selfloop.errors import ConfigError, StorageError


@pytest.fixture(scope="module")
def folder(published: list[str]) -> Path:
    """The results of a sweep, in the storage of one that has computed them."""
    words = [*published, "name=quickstart", "axes={dataset.initialization: [unbiased]}"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["results", *words]) == 0
    return Path(load(None, words)[0].storage) / "quickstart"


def test_the_example_runs_as_it_stands(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = example("python")
    assert textwrap.indent(text, "    ") in str(api.__doc__)
    (tmp_path / "selfloop-results").symlink_to(folder.parent)
    monkeypatch.chdir(tmp_path)
    exec(text, {})
    said = capsys.readouterr().out
    assert "initialization=unbiased" in said
    assert "verdict" in said
    assert "core_seconds" in said


def test_a_sweep_is_named_by_its_folder_or_as_on_the_command_line(
    folder: Path, published: list[str]
) -> None:
    words = [*published, "name=quickstart", "axes={dataset.initialization: [unbiased]}"]
    pd.testing.assert_frame_equal(api.results(folder), api.results("quickstart", *words))
    pd.testing.assert_frame_equal(api.effects(folder), api.effects(None, *words))
    pd.testing.assert_frame_equal(api.settings(folder), api.settings(None, *words))
    pd.testing.assert_frame_equal(api.plan(folder), api.plan(None, *words))
    assert len(api.results(folder)) > 100


def test_settings_are_a_row_for_each_scenario_the_axes_first() -> None:
    found = api.settings(None, "axes={filter.drop: [0, 0.1], loop.regime: [stack, replace]}")
    assert found.index.name == "scenario"
    assert list(found.index[:2]) == ["drop=0.0,regime=stack", "drop=0.0,regime=replace"]
    assert list(found.columns[:2]) == ["filter.drop", "loop.regime"]
    assert found["filter.drop"].tolist() == [0, 0, 0.1, 0.1]
    assert set(found["loop.generations"]) == {2}


def test_what_was_judged_has_its_effect_interval_and_verdict(folder: Path) -> None:
    found = api.effects(folder)
    assert {"id", "metric", "network", "value", "low", "high", "p_holm", "verdict"} <= {*found}
    whole = found[found["kind"] == "statement"]
    assert set(whole["network"]) == {"all"}
    assert whole["verdict"].notna().all()
    assert not whole.duplicated(["id", "scenario_group", "metric", "subgroup"]).any()


def test_a_plan_counts_what_is_published(folder: Path) -> None:
    found = api.plan(folder)
    assert (found["missing"] == 0).all()
    assert (found["all"] == found["published"]).all()
    assert "generator" in set(found["stage"])


def test_a_run_of_what_is_published_returns_its_results(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.testing.assert_frame_equal(api.run(folder), api.results(folder))
    assert "results.parquet" in capsys.readouterr().out


def test_what_is_not_there_is_said(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(StorageError, match=r"quickstart/results.parquet is not there; run the swe"):
        api.results(None, f"storage={tmp_path}")
    with pytest.raises(StorageError, match=r"results.parquet is not there; give the folder with"):
        api.results(tmp_path)
    with pytest.raises(ConfigError, match=r"^'filter.drop=0': the results in .* are as they were"):
        api.results(folder, "filter.drop=0")
    with pytest.raises(ConfigError, match=r"^generations: unknown key; did you mean loop.generat"):
        api.settings(None, "generations=3")


def test_neither_ray_nor_torch_is_loaded_to_look_at_results() -> None:
    program = """
import sys
from ray_selfloop import api
api.settings("quickstart")
print(sorted({"torch", "ray", "mlflow", "sklearn", "scipy", "matplotlib"} & sys.modules.keys()))
"""
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"
