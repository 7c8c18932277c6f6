"""Breeds: class lists from the authors' hierarchy files, subgroups, cuts and layouts."""

import json
import shutil
from pathlib import Path
from typing import Any

import imagenet_worlds as worlds
import numpy as np
import pytest

from ray_selfloop.config import load
from ray_selfloop.config.datasets.breeds import BREEDS_SUPERCLASSES, Breeds
from ray_selfloop.config.datasets.known import PLACES
from ray_selfloop.datasets import breeds, imagenet, pictures
from ray_selfloop.datasets.base import Prepared
from ray_selfloop.datasets.contents import Contents
from ray_selfloop.errors import ConfigError, DataError
from ray_selfloop.graph import Stage
from ray_selfloop.images.imageset import Ids, ImageSet, Splits
from ray_selfloop.images.pictures import Pictures
from ray_selfloop.stages import dataset as data
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.run import execute
from ray_selfloop.store.records import Store

LIVING17 = {
    "salamander": "n01630670 n01631663 n01632458 n01632777",
    "turtle": "n01664065 n01665541 n01667114 n01669191",
    "lizard": "n01675722 n01685808 n01689811 n01694178",
    "snake": "n01735189 n01740131 n01742172 n01751748",
    "spider": "n01773157 n01773797 n01774750 n01775062",
    "grouse": "n01795545 n01796340 n01797886 n01798484",
    "parrot": "n01817953 n01818515 n01819313 n01820546",
    "crab": "n01978287 n01978455 n01980166 n01981276",
    "dog": "n02086079 n02086910 n02088466 n02111500",
    "wolf": "n02114367 n02114548 n02114712 n02114855",
    "fox": "n02119022 n02119789 n02120079 n02120505",
    "domestic cat": "n02123159 n02123394 n02123597 n02124075",
    "bear": "n02132136 n02133161 n02134084 n02134418",
    "beetle": "n02167151 n02168699 n02172182 n02174001",
    "butterfly": "n02276258 n02277742 n02280649 n02281406",
    "ape": "n02480495 n02480855 n02481823 n02483362",
    "monkey": "n02490219 n02492660 n02493509 n02493793",
}
NONLIVING26 = {
    "bag": "n02769748 n03709823 n03958227 n04026417",
    "ball": "n03942813 n04023962 n04254680 n04540053",
    "boat": "n02951358 n02981792 n03447447 n04483307",
    "body armor": "n02895154 n02916936 n03000247 n03146219",
    "bottle": "n02823428 n03983396 n04557648 n04591713",
    "bus": "n03769881 n04065272 n04146614 n04487081",
    "car": "n02701002 n03777568 n03977966 n04037443",
    "chair": "n02791124 n03376595 n04099969 n04429376",
    "coat": "n03404251 n03617480 n03630383 n04532106",
    "digital computer": "n03180011 n03485407 n03642806 n03832673",
    "dwelling": "n03776460 n03781244 n03877845 n04613696",
    "fence": "n03000134 n03930313 n04326547 n04604644",
    "hat": "n02817516 n02869837 n03124170 n04259630",
    "keyboard instrument": "n02672831 n03452741 n03854065 n04515003",
    "mercantile establishment": "n02791270 n02927161 n03461385 n04200800",
    "outbuilding": "n02727426 n02793495 n02859443 n03457902",
    "percussion instrument": "n03249569 n03447721 n03721384 n04311174",
    "pot": "n02939185 n03063689 n03259280 n04398044",
    "roof": "n03220513 n04417672 n04435653 n04523525",
    "ship": "n02687172 n03673027 n03947888 n04147183",
    "skirt": "n03534580 n03770439 n03866082 n04136333",
    "stringed instrument": "n02676566 n02787622 n03272010 n04536866",
    "timepiece": "n03196217 n03197337 n03891332 n04328186",
    "truck": "n03345487 n03384352 n03930630 n04465501",
    "wind instrument": "n02804610 n03372029 n03838899 n04141076",
    "squash": "n07716358 n07716906 n07717410 n07717556",
}
"""What the authors' ``make_living17`` and ``make_nonliving26`` (robustness 1.2.1, ``split=None``)
give on the published files, here with each superclass's four by wnid."""

OFFICIAL = {"living17": LIVING17, "nonliving26": NONLIVING26}
TRAIN, VAL = 20, 3
SMALL: dict[str, Any] = {"side": 28, "frame": 32}
PARTS = ("train", "held_out", "test", "reserve")


@pytest.fixture(scope="module")
def places(data_root: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Three superclasses; never written to."""
    folder = tmp_path_factory.mktemp("breeds")
    return worlds.breeds_world(folder, data_root, ("fox", "bear", "ape"), TRAIN, VAL)


@pytest.fixture
def few(data_root: str, tmp_path: Path) -> Breeds:
    """Two superclasses, for a test to harm."""
    names = ("fox", "bear")
    return settings(worlds.breeds_world(tmp_path, data_root, names, 3, 2), superclasses=names)


def settings(places: dict[str, str], **values: Any) -> Breeds:
    return Breeds(**{"superclasses": ("fox", "bear", "ape"), **SMALL, **places, **values})


def prepare(found: Breeds) -> Prepared:
    return breeds.KIND.prepare(found, Contents())


def cut(found: Breeds) -> Splits:
    return pictures.splits(breeds.listed(found), found)


def names(part: ImageSet) -> list[str]:
    assert isinstance(part.images, Pictures)
    assert isinstance(part.images.encoded, pictures.PictureFiles)
    return list(part.images.encoded.names)


def per_cell(part: ImageSet) -> Ids:
    """Pictures of each class and subgroup, ``(C, 4)``."""
    cells = part.labels * 4 + part.subgroups
    return np.bincount(cells, minlength=4 * len(part.class_names)).reshape(-1, 4)


# --- class lists ---------------------------------------------------------------------------------


@pytest.mark.parametrize("benchmark", OFFICIAL)
def test_the_class_lists_are_the_authors(data_root: str, benchmark: Any) -> None:
    found, _ = breeds.groups(Breeds(benchmark=benchmark, hierarchy=f"{data_root}/breeds"))
    assert {name: " ".join(wnids) for name, wnids in found.items()} == OFFICIAL[benchmark]
    assert list(found) == list(OFFICIAL[benchmark]) == list(BREEDS_SUPERCLASSES[benchmark])


@pytest.mark.parametrize("benchmark", OFFICIAL)
def test_every_subclass_is_a_class_of_imagenet_under_its_superclass_alone(
    data_root: str, benchmark: Any
) -> None:
    hierarchy = breeds.read(Path(data_root) / "breeds")
    found = breeds.members(hierarchy, benchmark)
    every = [wnid for wnids in found.values() for wnid in wnids]
    assert len(every) == len(set(every)) == 4 * len(found)
    for node, wnids in found.items():
        assert set(wnids) <= hierarchy.below(node) & set(hierarchy.classes)
        assert hierarchy.depths()[node] == 5


def test_a_subset_of_superclasses_has_the_same_subclasses(data_root: str) -> None:
    some, _ = breeds.groups(Breeds(hierarchy=f"{data_root}/breeds", superclasses=("monkey", "dog")))
    assert {name: " ".join(wnids) for name, wnids in some.items()} == {
        name: LIVING17[name] for name in ("dog", "monkey")
    }


def test_the_depth_of_a_node_is_its_longest_way_from_the_top() -> None:
    top = breeds.TOP
    children = {top: ["a", "b"], "a": ["c"], "b": ["d"], "d": ["c"], "c": ["e"], "x": ["c", "y"]}
    found = breeds.Hierarchy(children, {}, ["e", "y"])
    assert found.depths() == {top: 0, "a": 1, "b": 1, "d": 2, "c": 3, "e": 4}
    assert found.below("b") == {"b", "d", "c", "e"}
    assert found.below("x") == {"x", "c", "y", "e"}


def test_a_record_names_the_subclasses(data_root: str) -> None:
    facts = breeds.facts(
        Breeds(hierarchy=f"{data_root}/breeds", superclasses=("fox", "domestic cat"))
    )
    assert facts == {
        "fine_names": {
            "fox": ["red fox", "kit fox", "Arctic fox", "grey fox"],
            "domestic cat": ["tiger cat", "Persian cat", "Siamese cat", "Egyptian cat"],
        },
        "wnids": {name: LIVING17[name].split() for name in ("fox", "domestic cat")},
    }


# --- the hierarchy files -------------------------------------------------------------------------


@pytest.fixture
def hierarchy(data_root: str, tmp_path: Path) -> Path:
    """A copy of the three files, to harm."""
    folder = tmp_path / "hierarchy"
    folder.mkdir()
    for path in (Path(data_root) / "breeds").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("name", breeds.FILES)
def test_a_missing_hierarchy_file_is_named_with_how_to_get_it(hierarchy: Path, name: str) -> None:
    (hierarchy / name).unlink()
    with pytest.raises(DataError) as caught:
        data.source(Breeds(hierarchy=str(hierarchy)))
    assert str(caught.value) == (
        f"Breeds: {hierarchy}/{name} is missing. Get it: `git clone "
        "https://github.com/MadryLab/BREEDS-Benchmarks`, folder imagenet_class_hierarchy/modified."
    )


def test_files_that_are_not_named_are_looked_for_where_a_clone_inside_root_has_them() -> None:
    for values, where in (({}, "data"), ({"root": "/images"}, "/images")):
        with pytest.raises(
            DataError, match=rf"^Breeds: {where}/BREEDS-Benchmarks/imagenet_class_h"
        ):
            breeds.groups(Breeds(**values))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "class_hierarchy.txt",
            "a b\na\n",
            "class_hierarchy.txt, line 2: must be two entries, not",
        ),
        (
            "node_names.txt",
            "n1 no tab\n",
            "node_names.txt, line 1: must be two entries, not 'n1 no",
        ),
        (
            "dataset_class_info.json",
            "{",
            "dataset_class_info.json must be a list of [index, wnid, ",
        ),
        ("dataset_class_info.json", "[[1, 2]]", "dataset_class_info.json must be a list of [index"),
        ("dataset_class_info.json", "3", "dataset_class_info.json must be a list of [index, wnid,"),
        ("class_hierarchy.txt", "", "does not give living17's 17 superclasses (ape is at fault): "),
    ],
)
def test_a_hierarchy_file_of_another_form_is_named(
    hierarchy: Path, name: str, content: str, message: str
) -> None:
    (hierarchy / name).write_text(content)
    with pytest.raises(DataError) as caught:
        breeds.groups(Breeds(hierarchy=str(hierarchy)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_circle_in_the_hierarchy_is_refused(hierarchy: Path) -> None:
    with (hierarchy / "class_hierarchy.txt").open("a") as file:
        file.write("n02131653 n00004258\n")  # a bear above all living things
    with pytest.raises(DataError, match=r"class_hierarchy\.txt has a circle: \[.*n02131653"):
        breeds.groups(Breeds(hierarchy=str(hierarchy)))


def test_another_hierarchy_is_not_taken_for_the_authors(hierarchy: Path) -> None:
    """With one superclass more the draws of all that follow would change."""
    with (hierarchy / "class_hierarchy.txt").open("a") as file:
        for wnid in LIVING17["fox"].split():
            file.write(f"n02131653 {wnid}\n")
    found, _ = breeds.groups(Breeds(hierarchy=str(hierarchy)))
    assert list(found) == list(LIVING17)  # the same superclasses with other subclasses
    lines = (hierarchy / "node_names.txt").read_text().replace("\tbear\n", "\tursine\n")
    (hierarchy / "node_names.txt").write_text(lines)
    with pytest.raises(DataError) as caught:
        breeds.groups(Breeds(hierarchy=str(hierarchy)))
    assert str(caught.value) == (
        f"Breeds: the hierarchy in {hierarchy} does not give living17's 17 superclasses (bear is "
        "at fault): use the authors' edited one. Get it: `git clone "
        "https://github.com/MadryLab/BREEDS-Benchmarks`, folder imagenet_class_hierarchy/modified"
    )


# --- classes, subgroups and cuts -----------------------------------------------------------------


def test_a_class_is_a_superclass_and_a_subgroup_the_folder_of_its_picture(
    places: dict[str, str],
) -> None:
    found = settings(places, reserve=0.3)
    splits, facts = cut(found), breeds.facts(found)
    for part in (getattr(splits, name) for name in PARTS):
        wnids = [name.split("/")[1] for name in names(part)]
        cells = zip(part.labels, part.subgroups, strict=True)
        assert wnids == [facts["wnids"][part.class_names[c]][g] for c, g in cells]
        assert part.class_names == ("fox", "bear", "ape")
        assert part.subgroup_names == ("subclass 1", "subclass 2", "subclass 3", "subclass 4")
    assert {name.split("/")[0] for name in names(splits.test)} == {"val"}


@pytest.mark.parametrize("reserve", [0.0, 0.5])
def test_parts_are_disjoint_exhaustive_and_stratified_by_subclass(
    places: dict[str, str], reserve: float
) -> None:
    splits = cut(settings(places, reserve=reserve))
    parts = [splits.train, splits.held_out, splits.reserve]
    assert sorted(np.concatenate([part.units for part in parts])) == list(range(12 * TRAIN))
    assert per_cell(splits.held_out).tolist() == [[TRAIN // 10] * 4] * 3
    assert per_cell(splits.train).tolist() == [[round((1 - reserve) * 0.9 * TRAIN)] * 4] * 3
    assert per_cell(splits.test).tolist() == [[VAL] * 4] * 3
    listed = breeds.listed(settings(places))
    for part in parts:
        assert names(part) == [listed.train.names[unit] for unit in part.units]


def test_what_is_planned_is_what_is_cut_and_limits_are_shared_out(places: dict[str, str]) -> None:
    small = settings(places, limit_train=120, limit_test=12, reserve=0.5)
    splits = cut(small)
    total = per_cell(splits.train) + per_cell(splits.held_out) + per_cell(splits.reserve)
    assert total.tolist() == [[10] * 4] * 3
    assert per_cell(splits.held_out).tolist() == per_cell(splits.test).tolist() == [[1] * 4] * 3
    original, reserve = data.original_and_reserve(small)
    assert np.array_equal(original, splits.train.labels)
    assert np.array_equal(reserve, splits.reserve.labels)
    assert names(cut(small).train) == names(splits.train)
    assert names(cut(small.model_copy(update={"seed": 1})).train) != names(splits.train)


def test_shares_of_the_subgroups_are_those_of_the_pictures(few: Breeds) -> None:
    assert few.root
    for path in sorted(Path(few.root, "train", LIVING17["bear"].split()[3]).iterdir())[:1]:
        path.unlink()
    shares = cut(few.model_copy(update={"seed": 3})).test.subgroup_shares()
    assert shares.tolist() == [[0.25] * 4] * 2
    splits = cut(few)
    total = per_cell(splits.train) + per_cell(splits.held_out)
    assert total.tolist() == [[3, 3, 3, 3], [3, 3, 3, 2]]


# --- layouts and the source ----------------------------------------------------------------------


def test_the_first_missing_folder_of_pictures_is_named(few: Breeds) -> None:
    assert few.root
    root, wnid = Path(few.root), LIVING17["bear"].split()[1]
    for harm, message in (
        (root / "val" / wnid, f"{root}/val/{wnid} is missing. {imagenet.FETCH}."),
        (root / "train", f"{root}/train is missing. {imagenet.FETCH}."),
        (root, f"{root} is missing. {imagenet.FETCH}."),
    ):
        shutil.rmtree(harm)
        for ask in (data.source, data.original_and_reserve, prepare):
            with pytest.raises(DataError) as caught:
                ask(few)
            assert str(caught.value) == f"ImageNet is not complete: {message}"


def test_a_subclass_with_a_single_picture_is_named(few: Breeds) -> None:
    assert few.root
    wnid = LIVING17["fox"].split()[2]
    for path in sorted(Path(few.root, "train", wnid).iterdir())[1:]:
        path.unlink()
    with pytest.raises(DataError) as caught:
        cut(few)
    assert str(caught.value) == (
        f"the train pictures are 1 of fox: Arctic fox ({wnid}) and must be 2 or more; add some"
    )


def test_the_source_changes_with_the_pictures_and_with_the_subclasses(
    few: Breeds, hierarchy: Path
) -> None:
    assert few.root
    before = data.source(few)
    assert data.source(few.model_copy(update={"hierarchy": str(hierarchy)})) == before
    with next(Path(few.root, "val", LIVING17["fox"].split()[0]).iterdir()).open("ab") as file:
        file.write(b"\0")
    after = data.source(few)
    assert after != before
    info = json.loads((hierarchy / "dataset_class_info.json").read_text())
    (hierarchy / "dataset_class_info.json").write_text(json.dumps(info, indent=1))
    assert data.source(few.model_copy(update={"hierarchy": str(hierarchy)})) == after


# --- the stage and settings ----------------------------------------------------------------------


def test_the_stage_publishes_breeds_as_pictures(few: Breeds, tmp_path: Path) -> None:
    config = few.model_dump(mode="json", exclude=set(PLACES))
    hints = {"root": few.root, "hierarchy": few.hierarchy}
    stage = Stage("dataset", 2, {**config, "source": data.source(few)}, {}, hints)
    expected = cut(few)
    pixels = expected.test.images[:]
    store = Store(tmp_path / "store")
    record = execute(stage, store)
    assert few.root
    shutil.rmtree(few.root)
    inputs = Inputs(Stage("reader", 1, {}, {"dataset": stage.key}), store)
    read = inputs.split("test")
    assert np.array_equal(read.images[:], pixels)
    assert np.array_equal(read.subgroups, expected.test.subgroups)
    assert not any("masks" in file for file in record.files)
    assert record.summary == {
        "class_names": ["fox", "bear"],
        "subgroup_names": ["subclass 1", "subclass 2", "subclass 3", "subclass 4"],
        "sizes": {"train": 22, "held_out": 2, "test": 16, "reserve": 0},
        "pooled": False,
        "crossed": False,
        "pictures": {"side": 28, "frame": 32, "fit": "crop"},
        "left_out": [],
        "masks": False,
        "subgroups_from": "probe",
        **breeds.facts(few),
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset.side=300"], "dataset: side must be at most frame (256), not 300"),
        (["dataset.benchmark=entity13"], "dataset.benchmark: must be 'living17' or 'nonliving26'"),
        (["dataset.superclasses=[dog]"], "dataset.superclasses: must have at least 2 items"),
        (["dataset.superclasses=[dog, dog]"], "dataset.superclasses: a superclass is listed twi"),
        (["dataset.superclasses=[dog, foxx]"], "did you mean fox?"),
        (["dataset.superclasses=[dog, bag]"], "dataset: bag is none of living17: salamander, tu"),
        (["dataset.masks=x"], "dataset.masks: unknown key"),
        (
            ["dataset.limit_train=679"],
            "dataset: limit_train must be at least 680 here, 10 for each of 68 subclasses (found",
        ),
        (
            ["dataset.limit_test=67"],
            "dataset: limit_test must be at least 68 here, 1 for each of 68 subclasses (found 67)",
        ),
    ],
)
def test_a_breeds_setting_that_cannot_be_is_named(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load.load(None, ["axes={}", "dataset={name: breeds}", *words])
    assert message in str(caught.value)


def test_the_superclasses_of_a_benchmark_in_any_order_are_one_dataset() -> None:
    one = Breeds(benchmark="nonliving26", superclasses=("truck", "bag"))
    assert one == Breeds(benchmark="nonliving26", superclasses=("bag", "truck"))
    assert one.class_names == ("bag", "truck")
