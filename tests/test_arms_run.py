"""Arms as they run: equal steps, shares that were asked for."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import MICRO

from ray_selfloop.conclusion.sentences import statements
from ray_selfloop.datasets.colours import read_colours
from ray_selfloop.graph import Place, Stage
from ray_selfloop.planning import Plan, prepare
from ray_selfloop.stages import classifier, training_set
from ray_selfloop.stages.inputs import Inputs, save_array
from ray_selfloop.stages.measures import ROWS
from ray_selfloop.stages.run import execute, run_here
from ray_selfloop.stages.samples import read_samples

ARMS = (
    "treatment", "no_synthetic", "a_a", "unfiltered", "real_skewed", "subgroup_matched",
    "random_kept", "worst_kept", "subgroup_balanced", "majority_kept",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """One generation of ten arms, with a budget in epochs."""
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


def test_the_positive_control_trains_on_each_class_s_majority_alone(run: Plan) -> None:
    assert (shares(run, "majority_kept") == [1.0, 0.0, 0.0]).all()  # red, in all classes
    kept = [trial(run, arm)["training_set"]["generated"] for arm in ("majority_kept", "treatment")]
    assert kept[0] == kept[1]


def test_resampling_does_not_move_what_is_said_of_the_filter(run: Plan) -> None:
    matched, treatment = (
        rows_of_the_filter(run, arm).to_dict("list") for arm in ("subgroup_matched", "treatment")
    )
    kept = Inputs(find(run, "generator_metrics", "subgroup_matched", 1), run.store)
    ids = kept.array("kept", "ids")
    assert len(np.unique(ids)) < len(ids), "the kept set is resampled"
    np.testing.assert_equal(matched, treatment)
    (overall,) = (v for v, c, g in zip(*matched.values(), strict=True) if c == g == "")
    summary = kept.record("kept").summary
    assert overall == pytest.approx(summary["kept"] / summary["generated"])


def test_the_worst_and_a_draw_are_as_many_of_the_same_samples_as_the_best(run: Plan) -> None:
    arms = ("treatment", "random_kept", "worst_kept")
    assert len({find(run, "samples", arm, 1).key for arm in arms}) == 1
    cuts = {arm: run.records[find(run, "kept", arm, 1).key].summary for arm in arms}
    assert len({str(cut["kept_per_class"]) for cut in cuts.values()}) == 1
    for metrics_of_cut in ("uncertainty_kept", "domain_clip_score_kept"):
        best, drawn, worst = (cuts[arm][metrics_of_cut] for arm in arms)
        assert (best < drawn < worst) if "uncertainty" in metrics_of_cut else (best > drawn > worst)
    counted = (rows_of_the_filter(run, arm) for arm in arms)
    overall = [rows[(rows["class"] == "") & (rows["subgroup"] == "")]["value"] for rows in counted]
    assert len({float(value.iloc[0]) for value in overall}) == 1


def test_parity_trains_on_every_class_and_colour_alike_and_on_as_many_images(run: Plan) -> None:
    stage = find(run, "classifier", "subgroup_balanced", 1)
    described = classifier.KIND.read(stage.config).training_set
    images, labels, mixed = training_set.read(described, Inputs(stage, run.store))
    counts = np.zeros((10, 4), np.int64)
    np.add.at(counts, (labels, read_colours(np.asarray(images[np.arange(len(images))]))), 1)
    assert counts[:, :3].max() - counts[:, :3].min() <= 1
    assert not counts[:, 3].any()
    treatment = trial(run, "treatment")["training_set"]
    assert counts.sum() == treatment["original"] + treatment["generated"]
    again, _, _ = training_set.read(described, Inputs(stage, run.store))
    rows = np.arange(0, len(images), 17)
    np.testing.assert_array_equal(images[rows], again[rows])
    assert mixed["original"] + mixed["generated"] == counts.sum()
    other = classifier.KIND.read(find(run, "classifier", "treatment", 1).config).training_set
    assert other.balance is None


def rows_of_the_filter(run: Plan, arm: str) -> pd.DataFrame:
    record = run.records[find(run, "generator_metrics", arm, 1).key]
    rows = pd.read_parquet(run.store.path(record, ROWS))
    return rows.loc[rows["metric"] == "kept_fraction", ["value", "class", "subgroup"]]


def test_a_class_whose_shares_cannot_be_read_keeps_the_original_ones(run: Plan) -> None:
    skewed = find(run, "samples", "real_skewed", 1)
    train = Inputs(skewed, run.store).split("train")
    images, labels = train.images.copy(), np.asarray(train.labels)
    images[labels == 0] = images[labels == 0].max(axis=1, keepdims=True)  # white: no colour
    images[labels == 1, 1:] = images[labels == 1, :1] = 0
    images[labels == 1, 0] = 200  # red alone
    seen = Stage("kept", 0, {"made": "here"}, {})
    with run.store.attempt(seen.key) as folder:
        save_array(folder, "images", images)
        save_array(folder, "labels", labels)
        run.store.publish(seen, folder, {}, 0.0)
    inputs = {"dataset": skewed.inputs["dataset"], "shares.1": seen.key}
    stage = Stage("samples", skewed.version, skewed.config, inputs)
    summary = execute(stage, run.store).summary
    assert summary["unread_classes"] == 1
    drawn = read_samples(Inputs(Stage("reader", 0, {}, {"samples": stage.key}), run.store))
    colours = read_colours(drawn.images)
    of = [np.bincount(colours[drawn.labels == label], minlength=3) for label in (0, 1)]
    original = train.subgroup_shares()[0]
    assert original.max() > 0.5
    assert of[0] == pytest.approx(original * of[0].sum(), abs=1)
    assert sorted(of[1]) == [0, 0, of[1].sum()]


def test_what_resampling_could_not_do_is_said_once(run: Plan) -> None:
    said = statements(run)
    assert len(set(said)) == len(said)
    for kind, arm, names in (
        ("kept", "subgroup_matched", ("repeated", "missing")),
        ("samples", "real_skewed", ("repeated", "unread_classes")),
    ):
        summary = run.records[find(run, kind, arm, 1).key].summary
        numbers = [str(summary[name]) for name in names if summary[name]]
        assert numbers or kind == "samples"
        sentences = [s for s in said if s.startswith(f"arm={arm}: ") and "queue" not in s]
        assert len(sentences) == bool(numbers)
        assert [n for s in sentences for n in re.findall(r"\b\d+\b", s)] == numbers


def test_trainings_that_patience_ended_are_counted_in_each_group(micro: list[str]) -> None:
    plan = prepare([*micro, "loop.generations=1", "axes={loop.arm: [treatment, no_synthetic]}"])
    for node in plan.graph.of_kind("classifier"):
        stopped = "schedule" in node.stage.config  # the control's training
        how = {"outcome": "early_stopped", "steps": 20} if stopped else {"outcome": "budget"}
        made = {"steps": 60, "collapsed": False, "training_set": {"statement": ""}, **how}
        with plan.store.attempt(node.stage.key) as folder:
            plan.store.publish(node.stage, folder, made, 0.0)
    plan.look_up()
    (said,) = (sentence for sentence in statements(plan) if "early" in sentence)
    assert said == (
        "base: early stopping ended 1 of 3 trainings before their budget; mean optimiser steps: "
        "treatment 60, no_synthetic 40."
    )


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
