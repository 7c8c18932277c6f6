"""Hard ImageNet: the official layout and nothing else, its cuts, and what of a mask is object."""

import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagenet_worlds as worlds
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torchvision import transforms

from ray_selfloop.config import load
from ray_selfloop.config.datasets.hard_imagenet import SYNSETS, HardImageNet
from ray_selfloop.config.datasets.known import PLACES
from ray_selfloop.datasets import hard_imagenet, imagenet, pictures
from ray_selfloop.datasets.base import Prepared
from ray_selfloop.datasets.contents import Contents
from ray_selfloop.errors import ConfigError, DataError
from ray_selfloop.graph import Stage
from ray_selfloop.images.imageset import ImageSet, Splits
from ray_selfloop.images.masks import mask
from ray_selfloop.images.pictures import Pictures, View
from ray_selfloop.stages import dataset as data
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.run import execute
from ray_selfloop.store.records import Store

TRAIN, VAL = 20, 6
SMALL: dict[str, Any] = {"side": 28, "frame": 32}
PARTS = ("train", "held_out", "test", "reserve")
PLAIN = View(56, 64, "stretch")


@pytest.fixture(scope="module")
def whole(data_root: str, tmp_path_factory: pytest.TempPathFactory) -> worlds.World:
    """All 15 classes; never written to."""
    folder = tmp_path_factory.mktemp("hard")
    return worlds.hard_imagenet(folder, data_root, TRAIN, VAL, tuple(SYNSETS), "jpeg")


@pytest.fixture
def few(data_root: str, tmp_path: Path) -> worlds.World:
    """Two classes, for a test to harm."""
    return worlds.hard_imagenet(tmp_path, data_root, 6, 3, ("ski", "snorkel"))


def settings(world: worlds.World, **values: Any) -> HardImageNet:
    return HardImageNet(**{**SMALL, **world.places, **values})


def two(world: worlds.World, **values: Any) -> HardImageNet:
    return settings(world, classes=("ski", "snorkel"), **values)


def prepare(found: HardImageNet) -> Prepared:
    return hard_imagenet.KIND.prepare(found, Contents())


def cut(found: HardImageNet) -> Splits:
    return pictures.splits(hard_imagenet.listed(found), found)


def names(part: ImageSet) -> list[str]:
    assert isinstance(part.images, Pictures)
    assert isinstance(part.images.encoded, pictures.PictureFiles)
    return list(part.images.encoded.names)


# --- classes and pictures ------------------------------------------------------------------------


def test_the_classes_are_the_official_ones_in_their_order(data_root: str) -> None:
    official = json.loads(
        (Path(data_root) / "hard_imagenet_classes_and_val_files.json").read_text()
    )
    assert [(row["name"], row["wnid"], row["imagenet_index"]) for row in official] == [
        (name, *synset) for name, synset in SYNSETS.items()
    ]
    for row in official:  # what masks of the official validation pictures are called
        for path in row["val_files"]:
            name = hard_imagenet.mask_name(path).removeprefix("val/")
            match = hard_imagenet.MASK_NAMES["val"].fullmatch(name)
            assert match
            assert f"val/{match[1]}/{match[2]}" == path


def test_a_picture_belongs_to_the_class_of_its_folder_and_to_no_subgroup(
    whole: worlds.World,
) -> None:
    splits = cut(settings(whole, reserve=0.3))
    for part in (getattr(splits, name) for name in PARTS):
        wnids = [name.split("/")[1] for name in names(part)]
        assert wnids == [SYNSETS[part.class_names[label]].wnid for label in part.labels]
        assert part.class_names == tuple(SYNSETS)
        assert part.subgroup_names == ()
        assert np.all(part.subgroups == -1)
        assert part.images[:2].shape == (2, 3, 28, 28)


def test_pictures_are_seen_as_the_reference_code_sees_them(whole: worlds.World) -> None:
    theirs = transforms.Compose([transforms.Resize((256, 256)), transforms.CenterCrop(224)])
    test = cut(settings(whole, side=224, frame=256)).test
    for row in (0, 40):
        picture = Image.open(whole.root / names(test)[row]).convert("RGB")
        assert np.array_equal(test.images[row].transpose(1, 2, 0), np.asarray(theirs(picture)))


def test_pictures_without_a_mask_are_no_part_of_it(few: worlds.World) -> None:
    lacking = next((few.masks / "train").glob("n04228054_*"))
    lacking.unlink()
    stray = few.root / "val/n04228054/ILSVRC2012_val_00000001.JPEG"
    shutil.copyfile(next(stray.parent.iterdir()), stray)
    listed = hard_imagenet.listed(two(few))
    picture = "train/n04228054/" + lacking.name.removeprefix("n04228054_")
    assert (few.root / picture).is_file()
    assert picture not in listed.train.names
    assert (len(listed.train.names), len(listed.test.names)) == (11, 6)


def test_classes_are_a_subset_in_the_official_order(whole: worlds.World) -> None:
    some = cut(settings(whole, classes=("snorkel", "ski", "patio")))
    assert some.train.class_names == ("ski", "patio", "snorkel")
    assert np.array_equal(np.bincount(some.test.labels), [VAL] * 3)
    assert settings(whole, classes=("ski", "patio")) == settings(whole, classes=("patio", "ski"))


def test_folders_may_be_links_and_litter_is_no_picture(few: worlds.World, tmp_path: Path) -> None:
    before = data.source(two(few))
    for path in (few.root / "train", few.root / "val/n04228054", few.masks):
        path.rename(tmp_path / f"moved {path.name}")
        path.symlink_to(tmp_path / f"moved {path.name}")
    one = next((few.root / "val/n04251144").iterdir())  # sorted by links, as some do
    one.rename(few.root / one.name)
    one.symlink_to(few.root / one.name)
    for home in (few.masks / "val", few.root / "train/n04228054"):
        (home / ".DS_Store").write_bytes(b"")
        (home / "._n04228054_1.JPEG").write_bytes(b"")
        (home / "Thumbs.db").write_bytes(b"")
    assert data.source(two(few)) == before


# --- cuts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reserve", [0.0, 0.5])
def test_parts_are_disjoint_exhaustive_and_stratified_by_class(
    whole: worlds.World, reserve: float
) -> None:
    splits, without = cut(settings(whole, reserve=reserve)), cut(settings(whole))
    parts = [splits.train, splits.held_out, splits.reserve]
    units = np.concatenate([part.units for part in parts])
    assert sorted(units) == list(range(15 * TRAIN))
    assert len(splits.held_out) == 30
    for part in parts[:2]:
        assert len(set(np.bincount(part.labels, minlength=15))) == 1
    assert names(splits.held_out) == names(without.held_out)
    assert names(splits.test) == names(without.test)
    assert len(splits.test) == 15 * VAL
    assert names(cut(settings(whole, seed=1)).held_out) != names(splits.held_out)
    listed = hard_imagenet.listed(settings(whole))
    for part in parts:
        assert names(part) == [listed.train.names[unit] for unit in part.units]


def test_what_is_planned_of_a_reserve_is_what_is_cut(whole: worlds.World) -> None:
    for found in (settings(whole, reserve=0.4), settings(whole, limit_train=90, reserve=0.3)):
        original, reserve = data.original_and_reserve(found)
        splits = cut(found)
        assert np.array_equal(original, splits.train.labels)
        assert np.array_equal(reserve, splits.reserve.labels)


def test_limits_are_shared_out_evenly_and_drawn_by_seed(whole: worlds.World) -> None:
    small = settings(whole, limit_train=60, limit_test=30)
    splits = cut(small)
    total = np.bincount(np.concatenate([splits.train.labels, splits.held_out.labels]))
    assert total.tolist() == [4] * 15
    assert np.bincount(splits.test.labels).tolist() == [2] * 15
    assert names(splits.test) == names(cut(small).test)
    assert names(splits.test) != names(cut(small.model_copy(update={"seed": 1})).test)
    large = settings(whole, limit_train=10**6, limit_test=10**6)
    assert names(cut(large).train) == names(cut(settings(whole)).train)


def test_limits_and_reserves_that_leave_a_class_bare_are_refused(few: worlds.World) -> None:
    wnid = "n04228054"
    for path in sorted((few.masks / "train").glob(f"{wnid}_*"))[2:]:
        path.unlink()  # 2 and 6 are left
    (few.masks / "val" / f"{wnid}_ILSVRC2012_val_00000007.JPEG").write_bytes(b"")
    with pytest.raises(DataError, match=r"ILSVRC2012_val_00000007\.JPEG is missing, one of 1 "):
        cut(two(few))
    (few.masks / "val" / f"{wnid}_ILSVRC2012_val_00000007.JPEG").unlink()
    assert len(cut(two(few)).train) == 7
    with pytest.raises(ConfigError, match=r"^dataset.reserve: 0.8 of 7 images leaves no original"):
        cut(two(few, reserve=0.8))
    next((few.masks / "train").glob(f"{wnid}_*")).unlink()
    with pytest.raises(DataError) as caught:
        cut(two(few))
    assert str(caught.value) == "the train pictures are 1 of ski and must be 2 or more; add some"


def test_a_limit_that_cannot_hold_every_class_is_refused(data_root: str, tmp_path: Path) -> None:
    world = worlds.hard_imagenet(tmp_path, data_root, 40, 2, ("ski", "snorkel"))
    for path in sorted((world.masks / "train").glob("n04228054_*"))[4:]:
        path.unlink()  # 4 of ski, 40 of snorkel
    with pytest.raises(ConfigError) as caught:
        cut(two(world, limit_train=10))
    assert str(caught.value) == (
        "dataset.limit_train: 10 pictures are 1 of ski, which needs 2; raise it, or use fewer "
        "classes"
    )
    assert len(cut(two(world, limit_train=40)).train) == 36


# --- the balanced subset -------------------------------------------------------------------------


def numbered(count: int) -> list[str]:
    """Ranked by number, downwards."""
    return [f"train/n04228054/n04228054_{i * 7 + 1}.JPEG" for i in reversed(range(count))]


def write_ranking(world: worlds.World, ranking: Any, name: str = "meta/paths_by_rank.pkl") -> None:
    (world.masks / name).write_bytes(pickle.dumps(ranking))


def test_the_balanced_subset_is_both_ends_of_the_ranking(data_root: str, tmp_path: Path) -> None:
    world = worlds.hard_imagenet(tmp_path, data_root, 260, 2, ("ski", "snorkel"))
    every = numbered(260)
    snorkels = [path.replace("n04228054", "n04251144") for path in every]
    for name in ("meta/paths_by_rank.pkl", "paths_by_rank2.pkl"):
        write_ranking(world, {795: every, 801: snorkels[:150]}, name)
        listed = hard_imagenet.listed(two(world, subset="balanced"))
        assert sorted(listed.train.names) == sorted([*every[:100], *every[-100:], *snorkels[:150]])
        assert len(listed.test.names) == 4
        (world.masks / name).unlink()
    write_ranking(world, {795: every, 801: ["/some/where/" + path for path in snorkels]})
    lacking = world.masks / "train" / ("n04228054_" + every[3].rpartition("/")[2])
    lacking.unlink()  # it has no substitute, as in the official loader
    listed = hard_imagenet.listed(two(world, subset="balanced"))
    assert np.bincount(listed.train.cells).tolist() == [199, 200]
    assert data.source(two(world, subset="balanced")) != data.source(two(world))


def test_of_two_rankings_the_official_loaders_counts(few: worlds.World) -> None:
    paths = {s.number: [f"train/{s.wnid}/{s.wnid}_1.JPEG"] for s in SYNSETS.values()}
    write_ranking(few, paths, "paths_by_rank2.pkl")
    assert len(hard_imagenet.listed(two(few, subset="balanced")).train.names) == 2
    (few.masks / "paths_by_rank2.pkl").unlink()
    assert len(hard_imagenet.listed(two(few, subset="balanced")).train.names) == 12


class Call:
    """Pickled as a call: what unpickling it would do."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def test_a_ranking_that_would_run_something_is_refused_before_it_does(few: worlds.World) -> None:
    harm = few.masks / "harm"
    write_ranking(few, {795: numbered(3), 801: Call(os.mkdir, str(harm))})
    with pytest.raises(DataError) as caught:
        hard_imagenet.listed(two(few, subset="balanced"))
    path = few.masks / "meta/paths_by_rank.pkl"
    assert str(caught.value) == f"Hard ImageNet: {path} is refused: it asks for posix.mkdir"
    assert not harm.exists()
    pickle.loads(path.read_bytes())  # noqa: S301  (our own bytes: the harm is real)
    assert harm.exists()


@pytest.mark.parametrize(
    "wicked",
    [
        "../train/n04228054/n04228054_1.JPEG",
        "train/n04228054/../n04228054_1.JPEG",
        "train/../../etc/passwd",
        "/etc/passwd",
        "train/n04251144/n04251144_1.JPEG",
        "train/n04228054/n04228054_1.JPEG/x",
        "val/n04228054/n04228054_1.JPEG",
        b"train/n04228054/n04228054_1.JPEG",
        3,
        None,
    ],
)
def test_a_ranking_of_anything_but_the_classs_own_pictures_is_refused(
    few: worlds.World, wicked: object
) -> None:
    write_ranking(few, {795: [*numbered(2), wicked]})
    with pytest.raises(DataError, match=r"paths_by_rank\.pkl is refused: it ranks .* under n042"):
        hard_imagenet.ranking(few.masks)


@pytest.mark.parametrize("harmed", [b"", b"no pickle", pickle.dumps([1, 2]), b"\x80\x04}."])
def test_a_file_that_is_no_ranking_is_refused(few: worlds.World, harmed: bytes) -> None:
    (few.masks / "meta/paths_by_rank.pkl").write_bytes(harmed)
    with pytest.raises(
        DataError, match=r"^Hard ImageNet: .*(is refused: |names no picture of ski)"
    ):
        hard_imagenet.listed(two(few, subset="balanced"))


def test_no_pickle_is_opened_for_all_pictures(few: worlds.World) -> None:
    (few.masks / "meta/paths_by_rank.pkl").write_bytes(b"no pickle")
    assert len(hard_imagenet.listed(two(few)).train.names) == 12
    shutil.rmtree(few.masks / "meta")
    assert len(hard_imagenet.listed(two(few)).train.names) == 12
    with pytest.raises(DataError) as caught:
        hard_imagenet.listed(two(few, subset="balanced"))
    assert str(caught.value) == (
        f"Hard ImageNet is not complete: {few.masks}/meta/paths_by_rank.pkl is missing (nor is it "
        f"{few.masks}/paths_by_rank2.pkl); dataset.subset=balanced needs it. "
        f"{hard_imagenet.FETCH}."
    )


# --- wrong and partial layouts -------------------------------------------------------------------

IMAGENET, HARD = imagenet.FETCH, hard_imagenet.FETCH


def flatten_val(world: worlds.World) -> None:
    for path in list((world.root / "val").glob("*/*")):
        path.rename(world.root / "val" / path.name)
    for path in (world.root / "val").iterdir():
        if path.is_dir():
            path.rmdir()


def without(*parts: str) -> Callable[[worlds.World], None]:
    """Take away a file or folder."""

    def remove(world: worlds.World) -> None:
        for part in parts:
            for path in list(world.root.parent.glob(part)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    return remove


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (without("hardImageNet"), "Hard ImageNet is not complete: {masks} is missing. " + HARD),
        (without("hardImageNet/val"), "Hard ImageNet is not complete: {masks}/val is missing. "),
        (
            without("hardImageNet/train/n04228054_*"),
            "Hard ImageNet is not complete: {masks}/train holds no mask of ski "
            f"(n04228054_*.JPEG). {HARD}.",
        ),
        (without("imagenet"), f"ImageNet is not complete: {{root}} is missing. {IMAGENET}."),
        (without("imagenet/train"), "ImageNet is not complete: {root}/train is missing. Get it: r"),
        (
            without("imagenet/val/n04251144"),
            f"ImageNet is not complete: {{root}}/val/n04251144 is missing. {IMAGENET}.",
        ),
        (
            without("imagenet/val/n04251144/*"),
            "ImageNet is not complete: {root}/val/n04251144 holds no picture. ",
        ),
        (
            without("imagenet/train/n04228054/*_8.JPEG", "imagenet/train/n04228054/*_15.JPEG"),
            "ImageNet is not complete: {root}/train/n04228054/n04228054_15.JPEG is missing, one of "
            f"2 pictures of ski that have a mask in {{masks}}/train. {IMAGENET}.",
        ),
        (
            flatten_val,
            "ImageNet: {root}/val/n04228054 is missing: {root}/val holds its pictures side by side,"
            " not in one folder per class. Sort it: `cd {root}/val && wget -qO- https://raw.githubu"
            "sercontent.com/soumith/imagenetloader.torch/master/valprep.sh | bash`.",
        ),
    ],
)
def test_the_first_thing_missing_is_named_with_how_to_get_it(
    few: worlds.World, harm: Callable[[worlds.World], None], message: str
) -> None:
    harm(few)
    expected = message.replace("{root}", str(few.root)).replace("{masks}", str(few.masks))
    for ask in (data.source, data.original_and_reserve, prepare):
        with pytest.raises(DataError) as caught:
            ask(two(few))
        assert str(caught.value).startswith(expected)
        assert "\n" not in str(caught.value)


def test_the_commands_that_fetch_it_are_the_official_ones() -> None:
    assert "https://image-net.org" in IMAGENET
    assert "`kaggle competitions download -c imagenet-object-localization-challenge`" in IMAGENET
    assert "https://github.com/mmoayeri/HardImageNet" in HARD
    assert "-o hardImageNet.zip && unzip hardImageNet.zip" in HARD


def test_folders_that_are_not_named_are_looked_for_in_one_place() -> None:
    for values, where in (
        ({}, "data/hardImageNet"),
        ({"root": "/images"}, "/images/hardImageNet"),
        ({"root": "/images", "masks": "/masks"}, "/masks"),
    ):
        assert hard_imagenet.folder_of(HardImageNet(**values)) == Path(where)


@pytest.mark.parametrize(
    "name",
    [
        ".._ILSVRC2012_val_00000001.JPEG",
        "n04228054_.._ILSVRC2012_val_00000001.JPEG",
        "n01440764_ILSVRC2012_val_00000001.JPEG",  # a tench
        "n04228054_n04228054_1.JPEG",  # a training picture's
        "n04228054_ILSVRC2012_val_00000001.png",
        "mask.JPEG",
    ],
)
def test_a_file_that_is_no_mask_by_its_name_is_refused(few: worlds.World, name: str) -> None:
    (few.masks / "val" / name).write_bytes(b"")
    with pytest.raises(DataError) as caught:
        hard_imagenet.listed(two(few))
    assert str(caught.value) == (
        f"Hard ImageNet: {few.masks}/val/{name} is no mask of its: one is called <wnid of one of "
        "the 15 classes>_<name of its picture>.JPEG; move it away"
    )


@pytest.mark.parametrize("which", ["mask", "picture"])
def test_a_link_that_leads_out_of_the_dataset_is_refused(
    few: worlds.World, tmp_path: Path, which: str
) -> None:
    folder = few.masks / "val" if which == "mask" else few.root / "val/n04228054"
    path = next(folder.glob("*ILSVRC*"))
    path.rename(tmp_path / "elsewhere.JPEG")
    path.symlink_to(tmp_path / "elsewhere.JPEG")
    with pytest.raises(DataError, match=f"^{path} is a link that leads out of its dataset, to "):
        hard_imagenet.listed(two(few))


# --- the source ----------------------------------------------------------------------------------


def test_the_source_is_the_names_and_content_of_what_is_used(
    few: worlds.World, tmp_path: Path
) -> None:
    before = data.source(two(few))
    moved = worlds.World(tmp_path / "a" / "imagenet", tmp_path / "b")
    shutil.copytree(few.root, moved.root)
    shutil.copytree(few.masks, moved.masks)
    assert data.source(two(moved)) == before
    shutil.copyfile(
        moved.root / "train/n04228054/n04228054_1.JPEG",
        moved.root / "train/n04228054/n04228054_9999.JPEG",
    )
    assert data.source(two(moved)) == before  # it has no mask
    for path in (
        "imagenet/train/n04228054/n04228054_1.JPEG",
        "imagenet/val/n04251144/" + next((few.root / "val/n04251144").iterdir()).name,
        "../b/val/" + next((few.masks / "val").iterdir()).name,
    ):
        with (tmp_path / "a" / path).open("ab") as file:
            file.write(b"\0")
        after = data.source(two(moved))
        assert after != before
        before = after


# --- masks ---------------------------------------------------------------------------------------


def ellipse(size: tuple[int, int] = (500, 375)) -> Image.Image:
    picture = Image.new("L", size)
    ImageDraw.Draw(picture).ellipse((100, 80, 300, 250), fill=255)
    ImageDraw.Draw(picture).line((400, 20, 480, 350), fill=255, width=2)
    return picture


def values_of(picture: Image.Image, factor: int) -> Image.Image:
    """255 becomes ``factor``."""
    return Image.fromarray((np.asarray(picture) // 255 * factor).astype(np.uint8))


KINDS = ("PNG", "JPEG")
SIGHT = View(224, 256, "stretch")
FORMS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "gray": lambda picture: picture,
    "0 and 1": lambda picture: values_of(picture, 1),
    "RGB": lambda picture: picture.convert("RGB"),
    "one channel of three": lambda picture: Image.merge(
        "RGB", (values_of(picture, 0), picture, values_of(picture, 0))
    ),
    "RGBA": lambda picture: picture.convert("RGBA"),
    "gray and transparent": lambda picture: picture.convert("LA"),
    "one bit": lambda picture: picture.convert("1"),
    "palette": lambda picture: picture.quantize(2),
    "16 bits": lambda picture: Image.fromarray(np.asarray(picture).astype(np.uint16) * 257),
}


def theirs(encoded: bytes) -> NDArray[np.bool_]:
    """The reference code's steps: PIL, torchvision, one channel of three, above zero."""
    steps = [transforms.Resize((256, 256)), transforms.CenterCrop(224), transforms.ToTensor()]
    values = transforms.Compose(steps)(Image.open(io.BytesIO(encoded)))
    return np.asarray(values[:3] > 0).any(axis=0)


@pytest.mark.parametrize("form", FORMS)
def test_a_mask_without_loss_is_the_same_in_every_form(form: str) -> None:
    expected = theirs(worlds.saved(ellipse(), "PNG"))
    assert 0.1 < expected.mean() < 0.4
    encoded = worlds.saved(FORMS[form](ellipse()), "PNG")
    assert np.array_equal(mask(encoded, SIGHT, False, "a"), expected)


@pytest.mark.parametrize(
    ("form", "kind"),
    [(form, kind) for form in ("gray", "0 and 1", "RGB", "one channel of three") for kind in KINDS]
    + [("one bit", "PNG"), ("palette", "PNG")],
)
def test_for_reference_a_mask_is_what_the_reference_code_makes_of_it(form: str, kind: str) -> None:
    encoded = worlds.saved(FORMS[form](ellipse()), kind)
    assert np.array_equal(mask(encoded, SIGHT, True, "a"), theirs(encoded))


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95])
@pytest.mark.parametrize("form", ["gray", "RGB"])
def test_compression_noise_is_no_object(quality: int, form: str) -> None:
    """By the reference it is: it adds 4 to 131 % to the object."""
    clean = mask(worlds.saved(ellipse(), "PNG"), SIGHT, True, "a")
    encoded = worlds.saved(FORMS[form](ellipse()), "JPEG", quality=quality)
    assert np.array_equal(mask(encoded, SIGHT, False, "a"), clean)
    noisy = mask(encoded, SIGHT, True, "a")
    assert np.all(noisy[clean])
    assert noisy.sum() > 1.03 * clean.sum()


def test_a_faint_jpeg_keeps_its_object() -> None:
    clean = mask(worlds.saved(ellipse(), "PNG"), SIGHT, True, "a")
    faint = worlds.saved(FORMS["0 and 1"](ellipse()), "JPEG", quality=95)
    found = mask(faint, SIGHT, False, "a")
    assert (found & clean).sum() / (found | clean).sum() > 0.9


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_masks_of_nothing_and_of_everything_are_that(kind: str, reference: bool) -> None:
    for value in (0, 1, 255):
        encoded = worlds.saved(Image.new("L", (500, 375), value), kind, quality=95)
        assert np.all(mask(encoded, SIGHT, reference, "a") == (value > 0))


@pytest.mark.parametrize("fit", ["stretch", "crop"])
@pytest.mark.parametrize("size", [(500, 375), (375, 500), (64, 64)])
def test_a_mask_lies_over_its_picture_in_every_view(fit: Any, size: tuple[int, int]) -> None:
    """A picture that is white where its mask is object, in the same view."""
    width, height = size
    for box in ((0, 0, 20, height - 1), (width // 3, height // 4, width // 2, height // 3)):
        drawn = worlds.drawn(size, [box])
        picture = worlds.saved(drawn.convert("RGB"), "PNG")
        view = View(90, 100, fit)
        seen = Pictures([picture], view)[0].max(axis=0)
        found = mask(worlds.saved(drawn, "PNG"), view, False, "a")
        assert found.shape == (90, 90)
        assert np.array_equal(found, seen > 0)
        assert np.all(found[seen > 127])


def test_no_object_pixel_of_a_real_box_is_left_out(data_root: str) -> None:
    for real in worlds.real(data_root, "train", SYNSETS["volleyball"].wnid)[:40]:
        for form in ("PNG", "JPEG"):
            encoded = worlds.saved(worlds.drawn((64, 64), [real.box]), form, quality=95)
            left, top, right, bottom = real.box
            expected = np.zeros((64, 64), bool)
            expected[top : bottom + 1, left : right + 1] = True
            assert np.array_equal(mask(encoded, View(64, 64, "crop"), False, "a"), expected)
            assert np.array_equal(mask(encoded, PLAIN, False, "a"), expected[4:60, 4:60])


def test_a_mask_that_cannot_be_read_is_named() -> None:
    with pytest.raises(DataError, match=r"^mask 3 is no readable JPEG, PNG or WebP picture"):
        mask(b"no picture", SIGHT, False, "mask 3")


def test_a_mask_of_another_shape_is_stretched_or_refused(few: worlds.World) -> None:
    path = sorted((few.masks / "val").glob("n04251144_*"))[1]
    path.write_bytes(worlds.saved(Image.new("L", (128, 64), 255), "PNG"))
    assert len(prepare(two(few)).test_masks) == 6
    picture = few.root / "val/n04251144" / path.name.removeprefix("n04251144_")
    with pytest.raises(DataError) as caught:
        prepare(two(few, fit="crop"))
    assert str(caught.value) == (
        f"Hard ImageNet: the mask {path} is 128 x 64, its picture 64 x 64: under dataset.fit=crop "
        "both must have one shape; set dataset.fit=stretch"
    )
    assert picture.is_file()
    path.write_bytes(worlds.saved(Image.new("L", (128, 128), 255), "PNG"))
    assert len(prepare(two(few, fit="crop")).test_masks) == 6


# --- the stage -----------------------------------------------------------------------------------


def stage_of(found: HardImageNet) -> Stage:
    config = found.model_dump(mode="json", exclude=set(PLACES))
    hints = {"root": found.root, "masks": found.masks, "decoders": 2}
    return Stage("dataset", 2, {**config, "source": data.source(found)}, {}, hints)


def test_the_stage_publishes_the_files_as_they_are_and_reads_them_without_the_originals(
    few: worlds.World, tmp_path: Path
) -> None:
    found = two(few, reserve=0.4)
    expected = cut(found)
    pixels = {part: getattr(expected, part).images[:] for part in PARTS}
    originals = {
        part: [(few.root / name).read_bytes() for name in names(getattr(expected, part))]
        for part in PARTS
    }
    masks = [
        (few.masks / hard_imagenet.mask_name(name)).read_bytes() for name in names(expected.test)
    ]
    stage, store = stage_of(found), Store(tmp_path / "store")
    record = execute(stage, store)
    shutil.rmtree(few.root)
    shutil.rmtree(few.masks)
    inputs = Inputs(Stage("reader", 1, {}, {"dataset": stage.key}), store)
    for part in PARTS:
        read = inputs.split(part)
        assert isinstance(read.images, Pictures)
        assert list(read.images.encoded) == originals[part]
        assert np.array_equal(read.images[:], pixels[part])
        for column in ("labels", "subgroups", "units"):
            assert np.array_equal(getattr(read, column), getattr(getattr(expected, part), column))
    assert list(inputs.encoded("dataset", "test_masks")) == masks
    assert record.summary == {
        "class_names": ["ski", "snorkel"],
        "subgroup_names": [],
        "sizes": {"train": 7, "held_out": 1, "test": 6, "reserve": 4},
        "pooled": False,
        "crossed": False,
        "pictures": {"side": 28, "frame": 32, "fit": "stretch"},
        "left_out": [],
        "masks": True,
        "subgroups_from": "none",
        "wnids": {"ski": ["n04228054"], "snorkel": ["n04251144"]},
    }


@pytest.mark.parametrize("which", ["picture", "mask"])
def test_an_unreadable_picture_ends_the_stage_in_one_line_that_names_it(
    few: worlds.World, tmp_path: Path, which: str
) -> None:
    folder = few.masks / "val" if which == "mask" else few.root / "train/n04228054"
    path = sorted(folder.iterdir())[2]
    path.write_bytes(path.read_bytes()[:-5] if which == "picture" else b"")
    with pytest.raises(DataError, match=f"^{path} is no readable JPEG, PNG or WebP picture: "):
        execute(stage_of(two(few)), Store(tmp_path / "store"))


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset.side=257"], "dataset: side must be at most frame (256), not 257"),
        (["dataset.frame=100"], "dataset: side must be at most frame (100), not 224"),
        (["dataset.fit=pad"], "dataset.fit: must be 'stretch' or 'crop'"),
        (["dataset.download=true"], "dataset.download: unknown key"),
        (["dataset.classes=[ski]"], "dataset.classes: must have at least 2 items"),
        (["dataset.classes=[ski, ski]"], "dataset.classes: a class is listed twice"),
        (["dataset.classes=[ski, snorkle]"], "did you mean snorkel?"),
        (["dataset.subset=half"], "dataset.subset: must be 'all' or 'balanced'"),
        (["dataset.limit_train=9"], "dataset.limit_train: must be greater than or equal to 10"),
        (
            ["dataset.limit_train=29"],
            "dataset: limit_train must be at least 30 here, 2 for each of 15 classes (found 29)",
        ),
        (
            ["dataset.limit_test=14"],
            "dataset: limit_test must be at least 15 here, 1 for each of 15 classes (found 14)",
        ),
    ],
)
def test_a_hard_imagenet_setting_that_cannot_be_is_named(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load.load(None, ["axes={}", "dataset={name: hard_imagenet}", *words])
    assert message in str(caught.value)
