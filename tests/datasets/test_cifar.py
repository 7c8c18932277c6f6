"""CIFAR-20/100: the official files and nothing else, subgroups, imbalance and cuts."""

import os
import pickle
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError

from ray_selfloop import seeding
from ray_selfloop.config import load
from ray_selfloop.config.datasets.cifar import FINE_CLASSES, Cifar, Superclass
from ray_selfloop.datasets import cifar
from ray_selfloop.datasets.base import Prepared
from ray_selfloop.datasets.contents import Contents
from ray_selfloop.errors import ConfigError, DataError
from ray_selfloop.graph import Stage
from ray_selfloop.images.imageset import Ids, ImageSet, Splits
from ray_selfloop.stages import dataset as data
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.run import execute
from ray_selfloop.store.records import Store

FINE_NAMES = tuple(sorted(name for members in FINE_CLASSES.values() for name in members))
NAMES = cifar.Names(tuple(FINE_CLASSES), FINE_NAMES)
HERE = Path("cifar-100-python/train")
PARTS = ("train", "held_out", "test", "reserve")
PER_FINE, PER_FINE_TEST = 40, 6


def file_of(per_fine: int, seed: int) -> cifar.Columns:
    """``per_fine`` random images of each fine class, in random order, under the official labels."""
    draw = seeding.rng(seed, "cifar")
    fine = draw.permutation(np.repeat(np.arange(100), per_fine))
    coarse_of = {name: c for c, members in enumerate(FINE_CLASSES.values()) for name in members}
    coarse = np.array([coarse_of[FINE_NAMES[label]] for label in fine])
    images = draw.integers(0, 256, size=(len(fine), 3, 32, 32), dtype=np.uint8)
    return cifar.Columns(images, coarse, fine)


TRAIN, TEST = file_of(PER_FINE, 1), file_of(PER_FINE_TEST, 2)


def pickled(value: Any) -> bytes:
    """As in the official files: the names of NumPy 1 (and bytes where those have Python 2's)."""
    return pickle.dumps(value, protocol=3).replace(b"numpy._core.", b"numpy.core.")


def content(columns: cifar.Columns, **changes: Any) -> bytes:
    """An official file with these columns, and ``changes`` to its entries (None: left out)."""
    entries = {
        "filenames": ["a.png"] * len(columns.fine),
        "batch_label": "training batch 1 of 1",
        "fine_labels": columns.fine.tolist(),
        "coarse_labels": columns.coarse.tolist(),
        "data": columns.images.reshape(len(columns.images), -1),
    }
    entries |= changes
    return pickled({key: value for key, value in entries.items() if value is not None})


def cut(settings: Cifar) -> Splits:
    """The dataset of these tests."""
    return cifar.splits(TRAIN, TEST, NAMES, settings)[0]


def per_cell(part: ImageSet) -> Ids:
    """Images of each class and subgroup, ``(C, 5)``."""
    cells = part.labels * 5 + part.subgroups
    return np.bincount(cells, minlength=5 * len(part.class_names)).reshape(-1, 5)


def same(one: ImageSet, other: ImageSet) -> bool:
    """Whether two sets are equal, value for value."""
    names = ("images", "labels", "subgroups", "units")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


# --- the files -----------------------------------------------------------------------------------


def test_a_file_of_the_right_form_is_read() -> None:
    found = cifar.columns(content(TEST), HERE)
    for one, other in zip(found, TEST, strict=True):
        assert np.array_equal(one, other)
    assert found.images.dtype == np.uint8
    meta = {"coarse_label_names": list(NAMES.coarse), "fine_label_names": list(NAMES.fine)}
    assert cifar.names(pickled(meta), HERE) == NAMES


class Call:
    """Pickled as a call: what unpickling it would do."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize("inside", [True, False])
def test_a_file_that_would_run_something_is_refused_before_it_does(
    tmp_path: Path, inside: bool
) -> None:
    harm = Call(os.mkdir, str(tmp_path / "harm"))
    wicked = content(TEST, filenames=harm) if inside else pickled(harm)
    with pytest.raises(DataError) as caught:
        cifar.columns(wicked, HERE)
    assert str(caught.value) == f"CIFAR-100: {HERE} is refused: it asks for posix.mkdir"
    assert not (tmp_path / "harm").exists()
    pickle.loads(wicked)  # noqa: S301  (our own bytes: the harm is real)
    assert (tmp_path / "harm").exists()


@pytest.mark.parametrize("function", [eval, np.load, np.frombuffer, getattr, pickle.loads])
def test_no_function_beside_the_making_of_arrays_is_known(function: Any) -> None:
    with pytest.raises(DataError, match=r"is refused: it asks for "):
        cifar.columns(pickled(Call(function, "x")), HERE)


@pytest.mark.parametrize(
    "harmed",
    [b"", b"no pickle", content(TEST)[:-1], content(TEST)[:5_000], pickled([1, 2]), b"\x80\x02."],
)
def test_what_is_no_pickled_dictionary_is_refused(harmed: bytes) -> None:
    with pytest.raises(DataError, match=f"^CIFAR-100: {HERE} is refused: "):
        cifar.columns(harmed, HERE)


def test_missing_files_are_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        data.source(Cifar(root=str(tmp_path)))
    assert str(caught.value) == (
        f"CIFAR-100 is not complete: {tmp_path}/cifar-100-python/train is missing. Unpack "
        "cifar-100-python.tar.gz (the python version, https://www.cs.toronto.edu/~kriz/cifar.html) "
        f"into {tmp_path}, or set dataset.download=true."
    )


def test_a_download_that_cannot_be_stored_is_an_error_that_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=f"^CIFAR-100 could not be downloaded to {tmp_path}/file: "):
        data.source(Cifar(root=str(tmp_path / "file"), download=True))


def prepared(found: Cifar) -> Prepared:
    return cifar.KIND.prepare(found, Contents())


def test_a_file_with_another_checksum_is_refused_before_it_is_unpickled(tmp_path: Path) -> None:
    (tmp_path / cifar.FOLDER).mkdir()
    for part in cifar.MD5:
        (tmp_path / cifar.FOLDER / part).write_bytes(pickled(Call(os.mkdir, str(tmp_path / "x"))))
    settings = Cifar(root=str(tmp_path))
    for ask in (data.source, data.original_and_reserve, prepared):
        with pytest.raises(DataError, match=r"train is damaged or not the official file: its md5 "):
            ask(settings)
    assert not (tmp_path / "x").exists()


# --- classes and subgroups -----------------------------------------------------------------------


def test_a_class_is_the_files_own_coarse_label_and_a_subgroup_its_fine_class() -> None:
    splits, facts = cifar.splits(TRAIN, TEST, NAMES, Cifar(reserve=0.3))
    for part in PARTS:
        rows, file = getattr(splits, part), TEST if part == "test" else TRAIN
        assert np.array_equal(rows.labels, file.coarse[rows.units])
        assert np.array_equal(rows.images, file.images[rows.units])
        fine = [NAMES.fine[label].replace("_", " ") for label in file.fine[rows.units]]
        cells = zip(rows.labels, rows.subgroups, strict=True)
        assert fine == [facts["fine_names"][rows.class_names[c]][g] for c, g in cells]
        assert rows.subgroup_names == ("fine 1", "fine 2", "fine 3", "fine 4", "fine 5")
    assert all(members == sorted(members) for members in facts["fine_names"].values())
    assert "large man-made outdoor things" in splits.train.class_names
    assert not any("_" in name for name in splits.train.class_names)


def test_superclasses_are_a_subset_in_the_official_order() -> None:
    some = cut(Cifar(superclasses=("trees", "fish", "people")))
    assert some.train.class_names == ("fish", "people", "trees")
    for part in PARTS:
        rows, file = getattr(some, part), TEST if part == "test" else TRAIN
        wanted = np.array([1, 14, 17])[rows.labels]
        assert np.array_equal(file.coarse[rows.units], wanted)
    assert len(some.train) + len(some.held_out) == 3 * 5 * PER_FINE
    assert len(some.test) == 3 * 5 * PER_FINE_TEST


# --- imbalance and limits ------------------------------------------------------------------------


def test_the_imbalanced_variant_thins_out_two_fine_classes_of_training_alone() -> None:
    settings = Cifar(variant="imbalanced", reserve=0.2)
    splits, facts = cifar.splits(TRAIN, TEST, NAMES, settings)
    total = sum(per_cell(getattr(splits, part)) for part in ("train", "held_out", "reserve"))
    for label, name in enumerate(splits.train.class_names):
        poor = [fine in facts["minority"][name] for fine in facts["fine_names"][name]]
        assert sum(poor) == 2
        assert total[label].tolist() == [PER_FINE // 4 if few else PER_FINE for few in poor]
    for part in ("train", "held_out", "reserve"):  # imbalanced like training, up to rounding
        found = per_cell(getattr(splits, part))
        assert np.all(np.abs(found - total * found.sum() / total.sum()) < 2)
    assert np.all(per_cell(splits.test) == PER_FINE_TEST)
    assert same(splits.test, cut(Cifar()).test)


def test_minority_classes_are_drawn_by_seed_and_do_not_depend_on_the_other_superclasses() -> None:
    def drawn(**values: Any) -> dict[str, list[str]]:
        settings = Cifar(variant="imbalanced", **values)
        return dict(cifar.splits(TRAIN, TEST, NAMES, settings)[1]["minority"])

    assert drawn() == drawn()
    assert drawn() != drawn(seed=1)
    some = drawn(superclasses=("people", "trees"))
    assert some == {name: drawn()[name] for name in ("people", "trees")}
    assert len({tuple(sorted(drawn(seed=s, superclasses=("fish", "people"))["fish"]))
                for s in range(60)}) == 10  # fmt: skip  # every pair of five comes up
    assert cifar.splits(TRAIN, TEST, NAMES, Cifar())[1]["minority"] == {}


def test_listed_minority_classes_are_those_that_lose_images() -> None:
    splits = cut(
        Cifar(
            variant="imbalanced",
            superclasses=("fish", "trees"),
            minority={"fish": ("shark", "ray"), "trees": ("oak_tree", "pine_tree")},
            minority_kept=0.5,
        )
    )
    total = per_cell(splits.train) + per_cell(splits.held_out)
    full, half = PER_FINE, PER_FINE // 2
    assert total.tolist() == [[full, full, half, half, full], [full, half, full, half, full]]


def test_limits_keep_the_shares_of_the_fine_classes_and_count_what_is_used() -> None:
    two: tuple[Superclass, ...] = ("fish", "trees")
    for variant in ("full", "imbalanced"):
        whole = Cifar(variant=variant, superclasses=two)
        small = cut(whole.model_copy(update={"limit_train": 150, "limit_test": 20}))
        total, used = (per_cell(s.train) + per_cell(s.held_out) for s in (cut(whole), small))
        assert used.sum() == 150
        assert len(small.held_out) == 15
        assert np.all(np.abs(used - total * 150 / total.sum()) < 1)
        assert np.all(per_cell(small.test) == 2)
    assert same(cut(whole.model_copy(update={"limit_train": 10**6})).train, cut(whole).train)


def test_a_limit_that_leaves_a_fine_class_bare_is_refused() -> None:
    with pytest.raises(ValidationError, match="limit_train must be at least 1000 here"):
        Cifar(limit_train=999)
    assert len(cut(Cifar(limit_train=1000)).held_out) == 100
    with pytest.raises(ConfigError, match=r"^dataset.reserve: 0.99 of 3600 images leaves no ori"):
        cut(Cifar(reserve=0.99))


# --- cuts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reserve", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("variant", ["full", "imbalanced"])
def test_parts_are_disjoint_exhaustive_and_stratified_by_fine_class(
    reserve: float, variant: Any
) -> None:
    found, whole = cut(Cifar(reserve=reserve, variant=variant)), cut(Cifar(variant=variant))
    parts = [found.train, found.held_out, found.reserve]
    units = np.concatenate([part.units for part in parts])
    assert len(np.unique(units)) == len(units)
    assert set(units) == set(whole.train.units) | set(whole.held_out.units)
    assert same(found.held_out, whole.held_out)
    assert same(found.test, whole.test)
    assert len(found.held_out) == round(0.1 * len(units))
    assert len(found.reserve) == round(reserve * (len(units) - len(found.held_out)))
    total = sum(per_cell(part) for part in parts)
    for part in parts:
        assert np.all(np.abs(per_cell(part) - total * len(part) / len(units)) < 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_planned_of_a_reserve_is_what_is_cut(seed: int) -> None:
    settings = Cifar(variant="imbalanced", reserve=0.4, seed=seed, limit_train=2_800)
    bare = TRAIN._replace(images=np.empty((0, 3, 32, 32), np.uint8))
    original, reserve = cifar.original_and_reserve(bare, NAMES, settings)
    assert np.array_equal(original, cut(settings).train.labels)
    assert np.array_equal(reserve, cut(settings).reserve.labels)


# --- settings ------------------------------------------------------------------------------------


def test_the_names_that_a_sweep_may_give_are_the_keys_of_the_table() -> None:
    assert get_args(Superclass) == tuple(FINE_CLASSES)
    assert len(FINE_NAMES) == len(set(FINE_NAMES)) == 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset.superclasses=[fish]"], "dataset.superclasses: must have at least 2 items"),
        (["dataset.superclasses=[fish, fish]"], "dataset.superclasses: a superclass is listed twi"),
        (["dataset.superclasses=[fish, tree]"], "did you mean trees?"),
        (["dataset.variant=balanced"], "dataset.variant: must be 'full' or 'imbalanced'"),
        (["dataset.minority={fish: [ray, shark]}"], "minority has no meaning under variant full"),
        (
            ["dataset.variant=imbalanced", "dataset.minority={fish: [ray, shark]}"],
            "minority must name each superclass that is used; at fault: aquatic_mammals",
        ),
        (
            [
                "dataset.variant=imbalanced",
                "dataset.superclasses=[fish, people]",
                "dataset.minority={fish: [ray, sharc], people: [boy, girl]}",
            ],
            "minority.fish: must be two of aquarium_fish, flatfish, ray, shark, trout, not ray and "
            "sharc",
        ),
        (["dataset.minority={fis: [ray, shark]}"], "did you mean fish?"),
        (["dataset.minority={fish: [ray]}"], "dataset.minority.fish.1: this entry is required"),
        (
            ["dataset.minority_kept=0"],
            "dataset.minority_kept: must be greater than or equal to 0.02",
        ),
        (["dataset.ratios=[1, 0, 0]"], "dataset.ratios: unknown key"),
    ],
)
def test_a_setting_that_cannot_be_is_named(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load.load(None, ["axes={}", "dataset={name: cifar20_100}", *words])
    assert message in str(caught.value)


def test_superclasses_in_any_order_are_one_dataset() -> None:
    assert Cifar(superclasses=("trees", "fish")) == Cifar(superclasses=("fish", "trees"))


# --- the real files ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def official(data_root: str) -> tuple[cifar.Columns, cifar.Columns, cifar.Names]:
    """The real data set, read once."""
    return cifar.read(data_root)


def test_real_cifar_is_what_it_is_known_to_be(
    official: tuple[cifar.Columns, cifar.Columns, cifar.Names],
) -> None:
    train, test, names = official
    assert train.images.shape == (50_000, 3, 32, 32)
    assert test.images.shape == (10_000, 3, 32, 32)
    assert train.fine[:5].tolist() == [19, 29, 0, 11, 1]
    assert train.coarse[:5].tolist() == [11, 15, 4, 14, 1]
    means = train.images.mean(axis=(0, 2, 3)) / 255
    assert means == pytest.approx([0.5071, 0.4865, 0.4409], abs=1e-4)
    assert cifar.fine_classes(train, names) == cifar.fine_classes(test, names) == FINE_CLASSES


def test_real_superclasses_have_2500_training_and_500_test_images_of_five_fine_classes(
    official: tuple[cifar.Columns, cifar.Columns, cifar.Names],
) -> None:
    splits, _ = cifar.splits(*official, Cifar())
    assert np.all(per_cell(splits.train) == 450)
    assert np.all(per_cell(splits.held_out) == 50)
    assert np.all(per_cell(splits.test) == 100)
    assert len(splits.test.class_names) == 20


def test_torchvision_reads_the_same_images_and_labels(
    data_root: str, official: tuple[cifar.Columns, cifar.Columns, cifar.Names]
) -> None:
    from torchvision.datasets import CIFAR100

    oracle, (_, test, names) = CIFAR100(data_root, train=False), official
    assert np.array_equal(oracle.data, test.images.transpose(0, 2, 3, 1))
    assert oracle.targets == test.fine.tolist()
    assert tuple(oracle.classes) == names.fine


def test_the_dataset_stage_publishes_it_with_what_readers_need(
    data_root: str, tmp_path: Path
) -> None:
    settings = Cifar(root=data_root, superclasses=("fish", "people"), limit_train=500, reserve=0.5)
    config = settings.model_dump(mode="json", exclude={"root", "download"})
    stage = Stage(
        "dataset", 2, {**config, "source": data.source(settings)}, {}, {"root": data_root}
    )
    store = Store(tmp_path)
    record = execute(stage, store)
    inputs = Inputs(Stage("reader", 1, {}, {"dataset": stage.key}), store)
    original, reserve = data.original_and_reserve(settings)
    assert np.array_equal(inputs.split("train").labels, original)
    assert np.array_equal(inputs.split("reserve").labels, reserve)
    summary = {key: record.summary[key] for key in ("pooled", "crossed", "subgroups_from")}
    assert summary == {"pooled": False, "crossed": False, "subgroups_from": "probe"}
    assert record.summary["sizes"] == {"train": 225, "held_out": 50, "test": 1000, "reserve": 225}
    assert record.summary["fine_names"]["people"] == ["baby", "boy", "girl", "man", "woman"]
