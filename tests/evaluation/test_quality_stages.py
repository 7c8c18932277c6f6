"""The stages behind generator quality: the real side once, and every generation against it."""

import numpy as np
import pandas as pd
import pytest
import worlds

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.errors import DataError
from ray_selfloop.evaluation import inception
from ray_selfloop.evaluation.frechet import frechet_between, moments
from ray_selfloop.graph import Stage
from ray_selfloop.images.features import gray8, pixels8
from ray_selfloop.planning import prepare
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.kinds import VERSIONS
from ray_selfloop.stages.measures import ROWS
from ray_selfloop.stages.run import execute, run_here
from ray_selfloop.store.records import Store


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """Two generations of a micro-sweep with a classification accuracy score."""
    from conftest import MICRO

    storage = tmp_path_factory.mktemp("quality")
    plan = prepare([*MICRO, "evaluation.cas_epochs=1", f"storage={storage}"])
    run_here(plan.graph, plan.store)
    return plan


def rows_of(plan, generation):
    (node,) = [
        n for n in plan.graph.of_kind("generator_metrics") if n.places[0].generation == generation
    ]
    record = plan.store.get(node.stage.key)
    return record, pd.read_parquet(plan.store.path(record, ROWS))


def value(rows, metric, split="generated"):
    chosen = rows[(rows["metric"] == metric) & (rows["split"] == split) & (rows["class"] == "")]
    (found,) = chosen[chosen["subgroup"] == ""]["value"]
    return found


def test_without_weights_there_is_no_fid_and_the_record_says_why(computed):
    record, rows = rows_of(computed, 1)
    assert record.summary["fid_absent"] == inception.absence(None)
    assert not rows["metric"].str.fullmatch("fid|kid|.*inception.*").any()
    value(rows, "frechet_distance/pixels8")


def test_the_judges_accuracy_is_that_of_its_own_training(computed):
    (judge,) = [
        node.stage
        for node in computed.graph.of_kind("classifier")
        if node.places[0].generation == 0
    ]
    expected = computed.store.get(judge.key).summary["held_out_accuracy"]
    for generation in (1, 2):
        _, rows = rows_of(computed, generation)
        assert value(rows, "judge_accuracy") == pytest.approx(expected)


def test_the_accuracy_score_is_there_where_it_is_asked_for(computed):
    _, rows = rows_of(computed, 2)
    assert 0 <= value(rows, "cas") <= 1
    expected = min(value(rows, "cas") / value(rows, "judge_accuracy"), 1.0)
    assert value(rows, "cas_relative") == pytest.approx(expected)
    assert Evaluation().cas_epochs == 0


def test_a_filling_queue_is_measured_on_as_many_images_every_generation(computed):
    sizes = [value(rows_of(computed, n)[1], "samples", "queue") for n in (1, 2)]
    assert sizes[0] == sizes[1]
    assert sizes[0] == value(rows_of(computed, 2)[1], "samples", "kept")


def test_the_real_side_is_measured_once_for_a_dataset_and_once_for_a_judge():
    from conftest import MICRO

    plan = prepare([*MICRO, "loop.loop_seeds=[0, 1]"])
    inputs = [sorted(node.stage.inputs) for node in plan.graph.of_kind("reference")]
    assert inputs.count(["dataset"]) == 1
    assert inputs.count(["dataset", "judge.0"]) == 2


@pytest.fixture
def dataset(tmp_path):
    return worlds.published_pictures(Store(tmp_path))


def reference(dataset, sha256=None, path=None):
    config = {"evaluation": {"neighbours": 3}, "inception": sha256, "threads": 1}
    hints = {"inception": path} if path else {}
    return Stage("reference", VERSIONS["reference"], config, {"dataset": dataset.key}, hints)


def test_what_is_kept_of_the_real_side_gives_the_same_distances(dataset):
    store, data = dataset
    stage = reference(data)
    record = execute(stage, store)
    assert (record.summary["features"], record.summary["inception"]) == (["pixels8"], None)
    kept = Inputs(Stage("reader", 0, {}, {"self": stage.key, "dataset": data.key}), store)
    train, held_out = (pixels8(kept.split(part).images) for part in ("train", "held_out"))
    mean, factor = (kept.array("self", f"pixels8_{part}") for part in ("mean", "factor"))
    stored = frechet_between(type(moments(train))(mean, factor), moments(held_out))
    assert stored == pytest.approx(worlds.frechet_distance(train, held_out), rel=1e-5)
    rows = kept.array("self", "pixels8_train")
    assert rows.dtype == np.float32
    assert sorted(map(tuple, rows)) == sorted(map(tuple, train.astype(np.float32)))
    assert len(kept.array("self", "pixels8_reach")) == 8


def test_the_real_side_has_the_features_that_settings_name(dataset):
    store, data = dataset
    plain = reference(data)
    config = {**plain.config, "evaluation": {"neighbours": 3, "features": ["gray8", "pixels8"]}}
    stage = Stage("reference", plain.version, config, {"dataset": data.key})
    assert execute(stage, store).summary["features"] == ["gray8", "pixels8"]
    kept = Inputs(Stage("reader", 0, {}, {"self": stage.key, "dataset": data.key}), store)
    found = kept.array("self", "gray8_held_out")
    expected = gray8(kept.split("held_out").images).astype(np.float32)
    assert sorted(map(tuple, found)) == sorted(map(tuple, expected))


def test_weights_of_another_file_than_the_plan_names_are_refused(dataset, tmp_path):
    store, data = dataset
    with pytest.raises(DataError, match="cannot be read"):
        execute(reference(data, "0" * 64, str(tmp_path / "gone.pth")), store)
