"""What lies beside the results: the settings as run, the program; what MLflow is told."""

import re
from pathlib import Path

import pytest
import yaml
from conftest import TWO_STARTS

from ray_selfloop import __version__
from ray_selfloop.conclusion import asrun
from ray_selfloop.config import load
from ray_selfloop.tracking.layout import MOST_PARAMS

SHIPPED = [path.stem for path in load.shipped()]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_settings_as_run_are_a_sweep_file_of_the_same_sweep(name: str, tmp_path: Path) -> None:
    sweep, scenarios = load.load(name, ())
    (tmp_path / "config.yaml").write_text(asrun.settings_text(sweep), encoding="utf-8")
    again, same = load.load(str(tmp_path / "config.yaml"), ())
    assert again == sweep
    assert same == scenarios


def test_an_axis_over_kinds_is_the_same_sweep_too(tmp_path: Path) -> None:
    axes = "axes={filter.clip.kind: [domain, open_clip], generator.name: [duplicate_real]}"
    sweep, scenarios = load.load(None, ["generator={}", axes])
    (tmp_path / "config.yaml").write_text(asrun.settings_text(sweep), encoding="utf-8")
    assert load.load(str(tmp_path / "config.yaml"), ())[1] == scenarios


def test_every_setting_is_there_and_no_password() -> None:
    sweep, _ = load.load(None, ["tracking.uri=http://me:secret@host"])
    text = asrun.settings_text(sweep)
    assert "secret" not in text
    tree = yaml.safe_load(text)
    assert set(tree) == set(type(sweep).model_fields)
    assert tree["evaluation"]["level"] == sweep.evaluation.level
    assert text.startswith(f"# ray-selfloop {__version__}")


def test_mlflow_is_told_what_differs_from_the_defaults_and_not_what_may_grow() -> None:
    _, scenarios = load.load(TWO_STARTS, ["filter.drop=0.3", "training_of.lenet.max_steps=7"])
    told = asrun.differing(scenarios[1])
    assert told["filter.drop"] == "0.3"
    assert told["training_of.lenet.max_steps"] == "7"
    assert told["dataset.initialization"] == "biased"
    assert not {*asrun.GROWING, "name", "storage"} & set(told)
    assert len(told) < MOST_PARAMS


def test_mlflow_is_told_the_version_and_the_commit() -> None:
    told = asrun.tags()
    assert told["version"] == __version__
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?)?", told.get(asrun.COMMIT_TAG, ""))
