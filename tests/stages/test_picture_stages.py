"""The stages of a sweep on pictures, in this process, at the smallest size.

Pins one number of the stage that no other dataset has (`latents`); see test_stage_versions.py.
"""

import json
import subprocess
import sys
import threading
from pathlib import Path

import imagenet_worlds
import numpy as np
import pytest
import tiny_hard_imagenet
from numpy.testing import assert_array_equal

from ray_selfloop.evaluation.ablation.pixels import KINDS, NOISES
from ray_selfloop.graph import Stage
from ray_selfloop.images.pictures import Pictures
from ray_selfloop.planning import Plan, prepare
from ray_selfloop.stages.ablated import COMPATS, ablated_name
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.kinds import VERSIONS
from ray_selfloop.stages.run import run_here
from ray_selfloop.stages.samples import read_samples
from ray_selfloop.store.records import Record

PINNED = {("latents", 1): 0.32954}
SHORT = (
    "loop.generations=2",
    "classifiers=[lenet]",
    "evaluation.features=[lenet]",
    "training.max_steps=12",
    "generator.steps=4",
    "generator.check_every=2",
    "generator.most_at_once=16",
    "generator.sampler_steps=2",
    "filter.clip.steps=4",
)


def ran(words: list[str]) -> Plan:
    plan = prepare(words)
    run_here(plan.graph, plan.store)
    plan.look_up()
    return plan


@pytest.fixture(scope="module")
def words(data_root: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("pictures")
    words = tiny_hard_imagenet.words(folder, data_root, 30, 10)
    return [*words, *SHORT, f"storage={folder / 'store'}"]


@pytest.fixture(scope="module")
def plan(words: list[str]) -> Plan:
    """Two generations; they take ten seconds, so that only slow tests ask for them."""
    return ran(words)


def of(plan: Plan, kind: str, generation: int = 0) -> tuple[Inputs, Record]:
    """What reads the stage of a kind and generation as ``self``, and its record."""
    (node,) = [n for n in plan.graph.of_kind(kind) if n.places[0].generation == generation]
    key = node.stage.key
    hints = {"dataset": next(n.stage.key for n in plan.graph.of_kind("dataset"))}
    return Inputs(Stage("reader", 0, {}, {"self": key, **hints}), plan.store), plan.records[key]


@pytest.mark.slow
def test_what_is_kept_is_the_files_that_were_drawn(plan: Plan) -> None:
    inputs, _ = of(plan, "samples", 1)
    drawn = read_samples(inputs, "self")
    kept, record = of(plan, "kept", 1)
    images, ids = kept.images("self"), kept.array("self", "ids")
    assert isinstance(images, Pictures)
    assert isinstance(drawn.images, Pictures)
    assert record.summary["kept"] == len(ids) == len(images)
    assert [images.encoded[i] for i in range(len(ids))] == [
        drawn.images.encoded[int(row)] for row in np.searchsorted(drawn.ids, ids)
    ]
    assert images.shape[1:] == (3, 32, 32)


@pytest.mark.slow
def test_a_trial_is_tested_on_every_picture_without_its_object(plan: Plan) -> None:
    inputs, record = of(plan, "classifier", 2)
    for kind in (*KINDS, *NOISES):
        for compat in COMPATS:
            predicted = inputs.array("self", ablated_name(kind, compat))
            assert predicted.shape == (40,)
            undefined = record.summary["ablation_undefined"][compat][kind]
            assert int((predicted == -1).sum()) == undefined
        assert undefined == 0  # in the reference every picture counts
    assert not (inputs.array("self", "predictions") == -1).any()


@pytest.mark.slow
def test_a_generator_trains_on_original_and_queue(plan: Plan) -> None:
    _, first = of(plan, "generator", 1)
    _, second = of(plan, "generator", 2)
    assert first.summary["training_set"]["by_generation"] == {}
    assert second.summary["training_set"]["by_generation"] == {"1": 36}
    assert second.summary["training_set"]["original"] == 108


@pytest.mark.slow
def test_latents_move_only_with_their_version(plan: Plan) -> None:
    inputs, record = of(plan, "latents", 0)
    mean = np.load(inputs.store.path(record, "set/latents_mean.npy"))
    held_out = np.load(inputs.store.path(record, "held_out/latents_mean.npy"))
    assert (len(mean), len(held_out)) == (108, 12)
    found = float(np.sqrt((mean.astype(np.float64) ** 2).mean()))
    assert found == pytest.approx(PINNED["latents", VERSIONS["latents"]], rel=0.02)


@pytest.mark.slow
def test_cached_latents_and_encoding_on_the_fly_train_alike(plan: Plan, words: list[str]) -> None:
    fly = ran([*words, "loop.generations=1", "generator.cache_latents=false"])
    curves = []
    for each in (plan, fly):
        inputs, record = of(each, "generator", 1)
        curves.append(inputs.store.path(record, "history.json").read_text())
    assert not fly.graph.of_kind("latents")
    one, other = (losses(curve) for curve in curves)
    assert one == pytest.approx(other, abs=1e-4)


@pytest.mark.slow
def test_a_killed_fine_tune_goes_on_and_ends_as_an_undisturbed_one(
    words: list[str], tmp_path: Path
) -> None:
    long = ["generator.steps=60", "generator.checkpoint_every=5", "loop.generations=1"]
    long = [*words, *long, "generator.check_every=20"]
    script = (
        "import sys; from ray_selfloop.planning import prepare;"
        "from ray_selfloop.stages.run import run_here;"
        "plan = prepare(sys.argv[1:]); run_here(plan.graph, plan.store)"
    )
    storage, tick = tmp_path / "killed", threading.Event()
    process = subprocess.Popen([sys.executable, "-c", script, *long, f"storage={storage}"])
    while not list(storage.glob("unfinished/*/checkpoint.bin")):
        assert process.poll() is None, "it ended too early"
        tick.wait(0.02)
    process.kill()
    process.wait()
    assert not list(storage.glob("stages/generator/*/record.json"))
    resumed = ran([*long, f"storage={storage}"])
    _, one = of(resumed, "generator", 1)
    _, other = of(ran([*long, f"storage={tmp_path / 'undisturbed'}"]), "generator", 1)
    assert one.files == other.files
    assert not list(storage.glob("unfinished/*"))


def losses(history: str) -> list[float]:
    return [row[name] for row in json.loads(history) for name in ("train_loss", "held_out_loss")]


@pytest.mark.parametrize(
    "arm", ["duplicate_real", "held_out_real", pytest.param("unfiltered", marks=pytest.mark.slow)]
)
def test_arms_run_on_pictures(words: list[str], arm: str) -> None:
    found = ran([*words, f"loop.arm={arm}", "loop.generations=1", "dataset.reserve=0.5"])
    kept, record = of(found, "kept", 1)
    assert record.summary["kept"] == record.summary["generated"]
    images = kept.images("self")
    assert isinstance(images, Pictures)
    original = kept.split("reserve" if arm == "held_out_real" else "train", "dataset").images
    assert isinstance(original, Pictures)
    known = set(original.encoded)
    copied = [images.encoded[i] in known for i in range(len(images))]
    assert all(copied) if arm != "unfiltered" else not any(copied)


def test_real_pictures_reach_the_next_training_as_they_are(words: list[str]) -> None:
    found = ran([*words, "loop.arm=duplicate_real", "loop.generations=1", "dataset.reserve=0.5"])
    kept, _ = of(found, "kept", 1)
    train = kept.split("train", "dataset")
    assert isinstance(train.images, Pictures)
    place = {encoded: i for i, encoded in enumerate(train.images.encoded)}
    images, labels = kept.images("self"), kept.array("self", "labels")
    assert isinstance(images, Pictures)
    rows = np.array([place[images.encoded[i]] for i in range(len(images))])
    assert_array_equal(images[np.arange(len(images))], train.images[rows])
    assert_array_equal(labels, train.labels[rows])


@pytest.mark.slow
def test_breeds_subgroups_are_read_by_a_probe(data_root: str, tmp_path: Path) -> None:
    classes = ("dog", "ape")
    places = imagenet_worlds.breeds_world(tmp_path / "data", data_root, classes, 20, 8)
    base = tiny_hard_imagenet.words(tmp_path, data_root, 2, 1)[-1]
    plain = [w for w in tiny_hard_imagenet.WORDS[1:] if not w.startswith("dataset.classes")]
    probe = ("network=lenet", "pretrained=false", "max_epochs=2", "learning_rate=0.003")
    words = ["breeds", *plain, *SHORT, base, *(f"dataset.{k}={v}" for k, v in places.items())]
    words += ["dataset.superclasses=[dog, ape]", "loop.generations=1", "evaluation.samples=30"]
    words += [f"evaluation.probe.{word}" for word in probe]
    found = ran([*words, f"storage={tmp_path / 'store'}"])
    _, dataset = of(found, "dataset")
    assert dataset.summary["class_names"] == ["dog", "ape"]
    assert dataset.summary["subgroup_names"] == [f"subclass {g}" for g in (1, 2, 3, 4)]
    _, kept = of(found, "kept", 1)
    assert np.array(kept.summary["shares_before"]).shape == (2, 4)
    assert not any("ablation" in node.stage.config for node in found.graph.of_kind("classifier"))
