"""The least value of every setting runs: none that is allowed and always fails later.

All least values of a group at once, in this process: what runs together is no dead end alone.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MICRO

from ray_selfloop.config.datasets.cifar import Cifar
from ray_selfloop.config.datasets.coloured import ColorizedMnist
from ray_selfloop.config.filter import Filter
from ray_selfloop.config.generators.ddpm import Ddpm
from ray_selfloop.config.generators.gan import ConditionalGan
from ray_selfloop.config.sweep import Sweep
from ray_selfloop.filtering.cut import draws_needed
from ray_selfloop.generators import ddpm
from ray_selfloop.images.split import apportion, cut_rows
from ray_selfloop.planning import prepare
from ray_selfloop.running import Run
from ray_selfloop.stages.run import run_here

ROOT = Sweep.model_json_schema()
KINDS = {"dataset": "ColorizedDigits", "generator": "ConditionalGan", "clip": "DomainClip"}
GROUPS = ("dataset", "generator", "queue", "filter", "training", "evaluation", "compute")
DDPM = "generator={name: ddpm}"
TINY = 1e-6  # above a bound that is itself excluded
MNIST = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)  # official training digits


def members(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A setting's own schema, or those of a union."""
    while "$ref" in schema:
        schema = ROOT["$defs"][schema["$ref"].rpartition("/")[2]]
    return [m for part in schema["anyOf"] for m in members(part)] if "anyOf" in schema else [schema]


def least(path: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Dotted key -> its least value, of every setting below a group that is a number."""
    name = path.rpartition(".")[2]
    known = ROOT["$defs"][KINDS[name]] if name in KINDS else members(schema)[0]
    for inner, field in known.get("properties", {}).items():
        yield from least(f"{path}.{inner}", field)
    for member in members(schema) if name not in KINDS else ():
        if member.get("type") in ("integer", "number"):
            step = 1 if member["type"] == "integer" else TINY
            if {"minimum", "exclusiveMinimum"} & member.keys():
                yield path, member.get("minimum", member.get("exclusiveMinimum", 0) + step)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """The words of a small sweep, and a storage with its stages, of which a group changes some."""
    folder = tmp_path_factory.mktemp("usual")
    words = [*MICRO, "loop.generations=1", "queue.volume=30"]
    plan = prepare([*words, f"storage={folder}"])
    run_here(plan.graph, plan.store)
    return words, folder


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_all_least_values_of_a_group_run_together(
    usual: tuple[list[str], Path], group: str, tmp_path: Path
) -> None:
    run_with_least(group, *usual, tmp_path)


@pytest.mark.slow
def test_all_least_values_of_the_diffusion_model_run_together(
    usual: tuple[list[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, "generator", "Ddpm")
    words, folder = usual
    own = [word for word in words if not word.startswith("generator")]
    run_with_least("generator", [*own, DDPM], folder, tmp_path)


def run_with_least(group: str, words: list[str], folder: Path, tmp_path: Path) -> None:
    values = dict(least(group, ROOT["properties"][group]))
    assert values
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    changed = [f"{key}={value}" for key, value in values.items()]
    plan = prepare([*words, f"storage={tmp_path}", *changed])
    run_here(plan.graph, plan.store)
    plan.look_up()
    Run(plan).measure_here()
    assert set(plan.records) == set(plan.graph.nodes)


def test_the_fewest_digits_leave_two_of_each_class_held_out() -> None:
    """The generator's stopping criterion compares classes that have two."""
    bounds = ColorizedMnist.model_json_schema()["properties"]["limit_train"]["anyOf"][0]
    labels = np.repeat(np.arange(10), apportion(bounds["minimum"], MNIST))
    _, held, _ = cut_rows(labels, 0.0, 0, [str(n) for n in range(10)])
    assert np.bincount(labels[held], minlength=10).min() == 2


def test_the_largest_share_dropped_takes_a_thousand_draws_a_sample() -> None:
    most = Filter.model_json_schema()["properties"]["drop"].get("maximum", 1.0)
    assert draws_needed(1_000, most) <= 1_000_000


def test_the_mildest_minority_has_a_held_out_image() -> None:
    """The probe of subgroups counts its errors on them."""
    bounds = Cifar.model_json_schema()["properties"]["minority_kept"]
    kept = bounds.get("minimum", 1e-6)
    labels = np.repeat(np.arange(100), [round(kept * 500)] * 40 + [500] * 60)
    _, held, _ = cut_rows(labels, 0.0, 0, [str(n) for n in range(100)])
    assert np.bincount(labels[held], minlength=100).min() > 0


def test_a_solver_has_no_more_steps_than_there_are_noise_levels() -> None:
    assert (
        Ddpm.model_json_schema()["properties"]["sampler_steps"]["maximum"]
        == ddpm.NOISE["num_train_timesteps"]
    )


def test_a_batch_holds_a_group() -> None:
    schema = ConditionalGan.model_json_schema()["properties"]
    assert schema["batch_size"]["minimum"] == schema["group_size"]["minimum"]
