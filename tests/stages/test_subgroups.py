"""What subgroup a generated image shows: from pixels, or by a probe whose errors are counted."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ray_selfloop import seeding
from ray_selfloop.config.datasets.cifar import Cifar
from ray_selfloop.config.datasets.coloured import ColorizedDigits
from ray_selfloop.config.evaluation import Evaluation, Probe
from ray_selfloop.datasets.colours import NONE_CLEAR, read_colours
from ray_selfloop.errors import StageError
from ray_selfloop.graph import Stage
from ray_selfloop.images.imageset import ImageSet, Splits
from ray_selfloop.stages import dataset as data
from ray_selfloop.stages import probe, subgroups
from ray_selfloop.stages.inputs import COLUMNS, SPLITS, Inputs, save_array
from ray_selfloop.stages.kinds import VERSIONS
from ray_selfloop.stages.run import execute
from ray_selfloop.store.records import Record, Store

CLASSES, GROUPS = ("rows", "columns", "both"), tuple("abcde")
SETTINGS = Probe(network="lenet", max_epochs=8, batch_size=32, augment="none")


def part(per_cell: list[int], seed: int) -> ImageSet:
    """Noisy 8x8 images; the class is where lines run, the subgroup which line is bright.

    per_cell: images of each subgroup, in every class. A third of the images show the line of a
    neighbouring subgroup too, so that nobody can tell which of the two is meant.
    """
    draw = seeding.rng(seed, "part")
    cells = np.repeat(np.arange(15), np.tile(per_cell, 3))
    labels, groups = cells // 5, cells % 5
    images = draw.integers(0, 60, size=(len(cells), 3, 8, 8))
    for row, (label, group) in enumerate(zip(labels, groups, strict=True)):
        other = [group + draw.choice([-1, 1])] if draw.random() < 1 / 3 else []
        for line in (group, *other):
            images[row, :, line, :] += 120 * (label != 1)
            images[row, :, :, line] += 120 * (label != 0)
    images = np.clip(images, 0, 255).astype(np.uint8)
    return ImageSet(images, labels, groups, np.arange(len(cells)), CLASSES, GROUPS)


TRAIN, HELD_OUT = part([24] * 5, 1), part([12] * 5, 2)
SPLIT = Splits(TRAIN, HELD_OUT, part([4] * 5, 3), TRAIN.take(np.empty(0, np.int64)))


def published(store: Store, splits: Splits) -> Stage:
    """A published dataset whose subgroups a probe must read."""
    stage = Stage("dataset", VERSIONS["dataset"], {"test": int(splits.test.images.sum())}, {})
    if store.find(stage.key):
        return stage
    with store.attempt(stage.key) as folder:
        for name in SPLITS:
            for column in COLUMNS:
                save_array(folder, f"{name}_{column}", getattr(getattr(splits, name), column))
        facts = {"pooled": False, "crossed": False, "subgroups_from": "probe"}
        names = {"class_names": list(CLASSES), "subgroup_names": list(GROUPS)}
        store.publish(stage, folder, {**names, **facts}, 0.0)
    return stage


def trained(
    store: Store, splits: Splits = SPLIT, settings: Probe = SETTINGS
) -> tuple[Record, Inputs]:
    """The probe of a dataset, and the inputs of a stage that reads with it."""
    dataset = published(store, splits)
    config = {"probe": settings.model_dump(mode="json"), "seed": 5, "threads": 1}
    stage = Stage("probe", VERSIONS["probe"], config, {"dataset": dataset.key})
    record = execute(stage, store)
    reader = Stage("reader", 1, {}, {"dataset": dataset.key, "probe": stage.key})
    return record, Inputs(reader, store)


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Inputs]:
    """The probe of these tests."""
    return trained(Store(tmp_path_factory.mktemp("probe")))


# --- the probe -----------------------------------------------------------------------------------


def test_the_probe_is_counted_on_held_out_images_and_reads_them_as_it_was_counted(
    probed: tuple[Record, Inputs],
) -> None:
    record, inputs = probed
    errors = inputs.array("probe", probe.CONFUSION)
    assert errors.shape == (3, 5, 5)
    assert np.all(errors.sum(axis=2) == 12)  # every held-out image of the cell, once
    found = subgroups.reader(inputs, "cpu")(HELD_OUT.images, HELD_OUT.labels)
    for label in range(3):
        for true in range(5):
            rows = (HELD_OUT.labels == label) & (HELD_OUT.subgroups == true)
            assert np.array_equal(np.bincount(found[rows], minlength=5), errors[label, true])
    assert record.summary["accuracy"] == pytest.approx((found == HELD_OUT.subgroups).mean())
    assert 0.5 < record.summary["accuracy"] < 1
    assert record.summary["confusion"] == errors.tolist()
    assert min(record.summary["error_inflation_per_class"]) >= 1


def test_held_out_images_choose_nothing(probed: tuple[Record, Inputs]) -> None:
    record, inputs = probed
    history = json.loads(inputs.store.path(record, "history.json").read_text())
    assert [look["step"] for look in history] == [record.summary["steps"]] == [90]


def test_the_probe_is_the_same_every_time_and_never_sees_a_test_image(
    probed: tuple[Record, Inputs], tmp_path: Path
) -> None:
    record, _ = probed
    test = replace(SPLIT.test, images=255 - SPLIT.test.images, labels=SPLIT.test.labels * 0)
    other, _ = trained(Store(tmp_path), replace(SPLIT, test=test))
    assert other.inputs != record.inputs
    assert other.files == record.files  # by checksum
    assert other.summary == record.summary


def test_the_asked_class_decides_among_which_subgroups_is_chosen() -> None:
    logits = np.zeros((3, 6), np.float32)  # two classes of three subgroups
    logits[:, 1], logits[:, 5] = 3.0, 9.0
    logits[2, 3] = 10.0
    assert subgroups.within_class(logits, np.array([0, 1, 1]), 3).tolist() == [1, 2, 0]


def test_a_reading_depends_on_neither_the_batch_nor_the_order(
    probed: tuple[Record, Inputs],
) -> None:
    read = subgroups.reader(probed[1], "cpu")
    whole, order = read(HELD_OUT.images, HELD_OUT.labels), seeding.rng(0, "order").permutation(180)
    assert np.array_equal(read(HELD_OUT.images[order], HELD_OUT.labels[order]), whole[order])
    assert np.array_equal(read(HELD_OUT.images[:7], HELD_OUT.labels[:7]), whole[:7])
    assert len(read(HELD_OUT.images[:0], HELD_OUT.labels[:0])) == 0
    assert whole.min() >= 0
    assert whole.max() < 5  # never 'none clear'


def test_skewed_shares_are_recovered_behind_the_probes_errors(
    probed: tuple[Record, Inputs],
) -> None:
    _, inputs = probed
    skewed = part([400, 200, 100, 200, 100], 4)
    found = subgroups.within_class_shares(inputs, skewed.images, skewed.labels, "cpu")
    true = np.array([0.4, 0.2, 0.1, 0.2, 0.1])
    read = subgroups.reader(inputs, "cpu")(skewed.images, skewed.labels)
    raw = np.stack([np.bincount(read[skewed.labels == c], minlength=5) for c in range(3)]) / 1_000
    assert abs(found - true).mean() < 0.06  # the matrix was counted on 12 images a row
    exact = np.zeros((3, 5, 5))  # the same correction, by the matrix of these very images
    np.add.at(exact, (skewed.labels, skewed.subgroups, read), 1)
    best = subgroups.corrected_shares(raw, exact)
    np.testing.assert_allclose(best, np.tile(true, (3, 1)), atol=1e-6)
    assert abs(raw - true).max() > 0.02  # so that there was something to correct


def test_a_probe_that_sees_images_enlarged_reads_them_so(tmp_path: Path) -> None:
    large = SETTINGS.model_copy(update={"image_size": 36, "max_steps": 5})
    record, inputs = trained(Store(tmp_path), settings=large)
    found = subgroups.reader(inputs, "cpu")(HELD_OUT.images, HELD_OUT.labels)
    assert record.summary["accuracy"] == pytest.approx((found == HELD_OUT.subgroups).mean())


def test_a_subgroup_without_held_out_images_is_an_error_that_names_it(tmp_path: Path) -> None:
    bare = replace(SPLIT, held_out=part([3, 3, 0, 3, 3], 2))
    with pytest.raises(StageError, match=r"^probe: no held-out image of rows, c: its errors there"):
        trained(Store(tmp_path), bare)


# --- pixels --------------------------------------------------------------------------------------


def test_colours_are_read_from_pixels_whatever_label_was_asked_for(tmp_path: Path) -> None:
    store, config = Store(tmp_path), ColorizedDigits().model_dump(mode="json")
    stage = Stage("dataset", VERSIONS["dataset"], config, {}, {"root": None})
    assert execute(stage, store).summary["subgroups_from"] == "pixels"
    inputs = Inputs(Stage("reader", 1, {}, {"dataset": stage.key}), store)
    read, train = subgroups.reader(inputs, "cpu"), inputs.split("train")
    assert np.array_equal(read(train.images, train.labels), train.subgroups)
    assert np.array_equal(read(train.images, train.labels[::-1]), read_colours(train.images))
    assert read(np.full((1, 3, 8, 8), 9, np.uint8), np.array([0])).tolist() == [NONE_CLEAR]
    assert subgroups.confusion(inputs) is None
    shares = subgroups.within_class_shares(inputs, train.images, train.labels, "cpu")
    rows = train.labels == 4
    expected = np.bincount(train.subgroups[rows], minlength=3) / rows.sum()
    np.testing.assert_allclose(shares[4], expected)


@pytest.mark.parametrize("initialization", ["unbiased", "biased", "spurious"])
@pytest.mark.parametrize("test_colours", ["crossed", "random"])
def test_the_record_says_whether_colours_pool_and_cross(
    tmp_path: Path, initialization: str, test_colours: str
) -> None:
    settings = {"initialization": initialization, "test_colours": test_colours}
    config = ColorizedDigits.model_validate(settings).model_dump(mode="json")
    stage = Stage("dataset", VERSIONS["dataset"], config, {}, {})
    summary = execute(stage, Store(tmp_path)).summary
    assert summary["pooled"] == (initialization != "spurious")
    assert summary["crossed"] == (test_colours == "crossed")


# --- the real files ------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_default_probe_reads_real_fine_classes_far_better_than_chance(
    data_root: str, tmp_path: Path
) -> None:
    settings = Cifar(root=data_root, superclasses=("fish", "trees"))
    config = settings.model_dump(mode="json", exclude={"root", "download"})
    store, where = Store(tmp_path), {"root": data_root}
    full = {**config, "source": data.source(settings)}
    dataset = Stage("dataset", VERSIONS["dataset"], full, {}, where)
    execute(dataset, store)
    shorter = {"augment": settings.traits.augment, "max_epochs": 12}
    own = Evaluation().probe.model_copy(update=shorter)
    probe = {"probe": own.model_dump(mode="json"), "seed": 0, "threads": 1}
    summary = execute(Stage("probe", 1, probe, {"dataset": dataset.key}), store).summary
    assert summary["accuracy"] > 0.4  # chance: 0.2
    assert max(summary["error_inflation_per_class"]) < 10
