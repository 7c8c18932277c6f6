"""The search for learning rate and weight decay as settings and as a stage: draws and keys."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TWO_STARTS

from ray_selfloop import loop
from ray_selfloop.config import load
from ray_selfloop.config.tune import Between, Tune
from ray_selfloop.errors import ConfigError, StageError
from ray_selfloop.graph import Graph
from ray_selfloop.planning import prepare
from ray_selfloop.stages.chain import chains
from ray_selfloop.stages.run import run_here
from ray_selfloop.stages.search import HALVED, candidates, sentence

NETWORKS = ("lenet", "mobilenet_v3_small")


def graph(*words: str) -> Graph:
    """The stages of two settings with overrides."""
    found = Graph()
    for scenario in load.load(TWO_STARTS, words)[1]:
        for chain in chains(scenario):
            loop.add_chain(chain, "digest of the scans", found)
    return found


def keys(*words: str, kind: str = "") -> set[str]:
    return {node.stage.key for node in graph(*words) if not kind or node.stage.kind == kind}


@pytest.mark.parametrize("samples", [2, 12, 33])
def test_candidates_cover_each_range_evenly_on_the_log_scale(samples: int) -> None:
    settings = Tune(samples=samples)
    drawn = candidates(settings)
    assert [candidate.number for candidate in drawn] == list(range(samples))
    for name, between in (
        ("learning_rate", settings.learning_rates),
        ("weight_decay", settings.weight_decays),
    ):
        values = np.array([candidate.values[name] for candidate in drawn])
        place = np.log(values / between.low) / math.log(between.high / between.low) * samples
        assert sorted(np.floor(place + 1e-9).clip(0, samples - 1)) == pytest.approx(
            range(samples), abs=1
        )
        assert (values >= between.low).all()
        assert (values <= between.high).all()


def test_candidates_depend_on_their_seed_alone() -> None:
    assert candidates(Tune(seed=3)) == candidates(Tune(seed=3))
    assert candidates(Tune(seed=3)) != candidates(Tune(seed=4))


def test_a_range_of_null_is_not_searched() -> None:
    drawn = candidates(Tune(weight_decays=None))
    assert all(set(candidate.values) == {"learning_rate"} for candidate in drawn)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("tune.learning_rates={low: 1e-2, high: 1e-3}",),
            "tune.learning_rates: low must be below high (found 0.01 and 0.001)",
        ),
        (("tune.learning_rates={low: 1e-2}",), "tune.learning_rates.high: this key is required"),
        (("tune.weight_decays={low: 0, high: 1}",), "tune.weight_decays.low: must be greater than"),
        (("tune.samples=1",), "tune.samples: must be greater than or equal to 2 (found 1)"),
        (("tune.reduction_factor=1",), "tune.reduction_factor: must be greater than or equal to 2"),
        (("tune.grace=0",), "tune.grace: must be greater than 0 (found 0)"),
        (("tune.sample=3",), "tune.sample: unknown key; did you mean tune.samples?"),
        (("tune=yes",), "tune: must be a group of settings"),
        (
            ("tune.learning_rates=null", "tune.weight_decays=null"),
            "tune: learning_rates and weight_decays are both null: nothing to search",
        ),
        (
            ("tune={}", "training.learning_rate=1e-3"),
            "training.learning_rate: fixed at 0.001, but tune.learning_rates searches it",
        ),
        (
            ("tune={}", "training_of.lenet.weight_decay=1e-4"),
            "training.weight_decay: fixed at 0.0001, but tune.weight_decays searches it",
        ),
    ],
)
def test_a_fault_in_the_block(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load.load(TWO_STARTS, words)
    assert said in str(caught.value)


def test_without_the_block_there_is_no_search_and_no_key_has_changed() -> None:
    assert keys("tune=null") == keys()
    assert not graph().of_kind("search")
    for node in graph().of_kind("classifier"):
        assert "search" not in node.stage.inputs
        assert node.stage.config["training"]["learning_rate"] is None
        assert node.stage.config["training"]["weight_decay"] == 0.0
        assert "image_size" not in node.stage.config["training"]


def test_one_search_for_an_architecture_and_a_dataset() -> None:
    found = graph("tune={}", "loop.loop_seeds=[0, 1, 2]")
    searches = {node.stage.key: node.stage for node in found.of_kind("search")}
    assert len(searches) == len(NETWORKS) * 2  # initialisations
    of: dict[tuple[str, str], set[str]] = {}
    for node in found.of_kind("classifier"):
        search = searches[node.stage.inputs["search"]]
        assert search.config["network"] == node.stage.config["network"]
        assert search.inputs == {"dataset": node.stage.inputs["dataset"]}
        where = node.stage.config["network"], node.stage.inputs["dataset"]
        of.setdefault(where, set()).add(search.key)
    assert all(len(used) == 1 for used in of.values())
    assert len(of) == len(searches)


@pytest.mark.parametrize(
    "word",
    ["tune.samples=13", "tune.seed=1", "tune.grace=0.2", "training.batch_size=16"],
)
def test_what_the_search_depends_on_changes_its_key_and_every_trial(word: str) -> None:
    for kind in ("search", "classifier"):
        assert keys("tune={}", kind=kind).isdisjoint(keys("tune={}", word, kind=kind))


@pytest.mark.parametrize("word", ["loop.generations=5", "filter.drop=0.2", "loop.loop_seeds=[7]"])
def test_growing_a_sweep_keeps_its_searches(word: str) -> None:
    assert keys("tune={}", word, kind="search") == keys("tune={}", kind="search")


def test_an_image_size_that_is_set_is_part_of_the_key() -> None:
    assert keys("training.image_size=64", kind="classifier").isdisjoint(keys(kind="classifier"))


def test_a_stage_without_ray_says_so(micro: list[str]) -> None:
    plan = prepare([*micro, "tune={}"])
    with pytest.raises(StageError, match=r"`tune`\) runs on Ray Tune"):
        run_here(plan.graph, plan.store)


def test_what_was_found_is_one_sentence(tmp_path: Path) -> None:
    row: dict[str, Any] = {"outcome": "budget"}
    summary = {
        "chosen": {"learning_rate": 0.00244, "weight_decay": 1e-4},
        "held_out_accuracy": 0.9,
        "at_edge": ["weight_decay"],
        "tried": [row, {"outcome": HALVED}, {"outcome": HALVED}],
    }
    assert sentence("lenet", summary) == (
        "lenet: learning rate 0.00244, weight decay 0.0001 (held-out accuracy 0.900; 3 tried, "
        "2 given up early; the weight decay lies at the edge of what was tried: widen the range)"
    )


def test_a_range_that_is_one_point_is_refused() -> None:
    with pytest.raises(ValueError, match="low must be below high"):
        Between(low=1e-3, high=1e-3)
