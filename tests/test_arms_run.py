"""Arms as they run: equal steps, shares that were asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MICRO

from ray_selfloop.data.colorized import read_colours
from ray_selfloop.graph import Place, Stage
from ray_selfloop.planning import Plan, prepare
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.run import execute, run_here

ARMS = ("treatment", "no_synthetic", "a_a", "unfiltered", "real_skewed")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """One generation of five arms, with a budget in epochs."""
    words = [word for word in MICRO if not word.startswith(("axes", "training", "loop.gen"))]
    own = (
        f"axes={{loop.arm: [{', '.join(ARMS)}]}}",
        "loop.generations=1",
        "dataset.initialization=biased",
        "dataset.reserve=0.5",
        "training.max_epochs=3",
        "queue.volume=D0/3",
        f"storage={tmp_path_factory.mktemp('arms')}",
    )
    plan = prepare([*words, *own])
    run_here(plan.graph, plan.store)
    plan.look_up()
    return plan


def find(run: Plan, kind: str, arm: str, generation: int) -> Stage:
    (node,) = [
        node
        for node in run.graph.of_kind(kind)
        if any(of(place, arm, generation) for place in node.places)
    ]
    return node.stage


def of(place: Place, arm: str, generation: int) -> bool:
    return place.scenario == f"arm={arm}" and place.generation == generation


def trial(run: Plan, arm: str, generation: int = 1) -> dict[str, Any]:
    return dict(run.records[find(run, "classifier", arm, generation).key].summary)


def shares(run: Plan, arm: str) -> np.ndarray:
    """Colours within the class among the kept images, ``(10, 3)``."""
    inputs = Inputs(Stage("reader", 0, {}, {"self": find(run, "kept", arm, 1).key}), run.store)
    labels, colours = inputs.array("self", "labels"), read_colours(inputs.array("self", "images"))
    counts = np.zeros((10, 4))
    np.add.at(counts, (labels, colours), 1)
    return counts[:, :3] / np.maximum(counts[:, :3].sum(axis=1, keepdims=True), 1)


def test_the_control_makes_the_treatments_steps_on_the_original_data(run: Plan) -> None:
    treatment, control, null = (trial(run, arm) for arm in ("treatment", "no_synthetic", "a_a"))
    assert control["steps"] == treatment["steps"] > null["steps"] == trial(run, "a_a", 0)["steps"]
    assert control["training_set"]["generated"] == 0 < treatment["training_set"]["generated"]


def test_real_skewed_draws_real_images_with_the_unfiltered_generators_shares(run: Plan) -> None:
    samples = find(run, "samples", "real_skewed", 1)
    kept = Inputs(
        Stage("reader", 0, {}, {"self": find(run, "kept", "real_skewed", 1).key}), run.store
    )
    reserve = Inputs(samples, run.store).split("reserve").images
    known = {image.tobytes() for image in reserve}
    assert all(image.tobytes() in known for image in kept.array("self", "images"))
    size = np.bincount(kept.array("self", "labels")).min()
    assert np.abs(shares(run, "real_skewed") - shares(run, "unfiltered")).max() <= 1.5 / size


@pytest.mark.parametrize("tilt", [0.0, 1.0])
def test_a_tilted_queue_has_the_shares_that_were_asked_for(tmp_path: Path, tilt: float) -> None:
    words = [word for word in MICRO if not word.startswith(("generator", "loop.gen"))]
    own = (
        "loop.generations=1",
        "dataset={name: colorized_digits, initialization: unbiased, reserve: 0.5}",
        "generator={name: held_out_real}",
        "filter.score=none",
        f"queue={{volume: D0/3, tilt: {tilt}}}",
        f"storage={tmp_path}",
    )
    found = prepare([*words, *own])
    for node in found.graph:
        if node.stage.kind in ("dataset", "samples", "kept"):
            execute(node.stage, found.store)
    (kept,) = found.graph.of_kind("kept")
    inputs = Inputs(kept.stage, found.store)
    original = inputs.split("train").subgroup_shares()
    majority = np.eye(3)[original.argmax(axis=1)]
    wanted = (1 - tilt) * original + tilt * majority
    reader = Inputs(Stage("reader", 0, {}, {"self": kept.stage.key}), found.store)
    labels, colours = reader.array("self", "labels"), read_colours(reader.array("self", "images"))
    counts = np.zeros((10, 3))
    np.add.at(counts, (labels, colours), 1)
    assert np.abs(counts - wanted * counts.sum(axis=1, keepdims=True)).max() < 1
    drawn = Inputs(kept.stage, found.store).record("samples").summary["count"]
    assert counts.sum() == drawn
