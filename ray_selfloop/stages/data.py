"""The dataset stage, and what can be said of a dataset before anything runs.

Decides which room reads which kind of dataset; what all kinds have in common stands here once.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter

from ray_selfloop import seeding
from ray_selfloop.config.dataset import (
    PLACES,
    Breeds,
    Cifar,
    ColorizedDigits,
    ColorizedMnist,
    Dataset,
    HardImageNet,
    ImageNetPictures,
)
from ray_selfloop.data import breeds, cifar, colorized, digits, hard_imagenet, imagenet, mnist
from ray_selfloop.data.imageset import Ids, Images, ImageSet, Splits
from ray_selfloop.data.pictures import Pictures, write_encoded
from ray_selfloop.data.split import cut_rows, stratified_cut
from ray_selfloop.graph import Stage, digest
from ray_selfloop.stages.inputs import COLUMNS, SPLITS, Inputs, save_array

Part = tuple[Images, Ids]


class Prepared(NamedTuple):
    """A dataset cut, and what its record says besides names and sizes.

    facts: must hold ``pooled`` (subgroup i means the same and has the same training share in every
    class), ``crossed`` (every test image is shown in every subgroup) and ``subgroups_from``
    (``pixels`` or ``probe``: how the subgroup of a generated image is read; ``none``: there are
    no subgroups). Of pictures also ``pictures`` (their view) and ``masks`` (whether each test
    picture has one). test_masks: those masks, encoded; empty where there are none.
    """

    splits: Splits
    facts: Mapping[str, Any]
    test_masks: Sequence[bytes]


class Kind(NamedTuple):
    """One kind of dataset.

    source: digest of the original files' content, or of the names and sizes of pictures.
    original_and_reserve: labels of D0 and of the reserve. prepare: the dataset itself. All raise
    DataError where the files are not there.
    """

    source: Callable[[Any], str]
    original_and_reserve: Callable[[Any], tuple[Ids, Ids]]
    prepare: Callable[[Any], Prepared]


def source(settings: Dataset) -> str:
    """Digest of the original files; raises DataError when they are not there.

    Of their content. Of pictures only names and sizes: hashing 20,000 of them before every command
    would take minutes, and the run works on a copy in the store that is checksummed.
    """
    return KINDS[settings.name].source(settings)


def original_and_reserve(settings: Dataset) -> tuple[Ids, Ids]:
    """Labels of D0 and of the reserve, as the dataset stage will cut them."""
    return KINDS[settings.name].original_and_reserve(settings)


def dataset(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """Cut, colour where that is asked for, and write the dataset's four parts.

    Pictures are copied as the files that they are, one at a time.
    """
    config = {name: value for name, value in stage.config.items() if name != "source"}
    places = {name: value for name, value in stage.hints.items() if name in PLACES}
    settings: Dataset = TypeAdapter(Dataset).validate_python({**config, **places})
    splits, facts, test_masks = KINDS[settings.name].prepare(settings)
    for part in SPLITS:
        _save(folder, part, getattr(splits, part))
    if test_masks:
        write_encoded(folder, "test_masks", test_masks)
    return {
        "class_names": list(splits.train.class_names),
        "subgroup_names": list(splits.train.subgroup_names),
        "sizes": {part: len(getattr(splits, part)) for part in SPLITS},
        **facts,
    }


def _save(folder: Path, part: str, images: ImageSet) -> None:
    for column in COLUMNS:
        values = getattr(images, column)
        if isinstance(values, Pictures):
            write_encoded(folder, f"{part}_{column}", values.encoded)
        else:
            save_array(folder, f"{part}_{column}", values)


# --- scans in colours ----------------------------------------------------------------------------


def _scans_source(settings: ColorizedDigits) -> str:
    if isinstance(settings, ColorizedMnist) and settings.download:
        mnist.download(settings.root)
    parts = mnist.scans(settings.root) if isinstance(settings, ColorizedMnist) else digits.scans()
    arrays = [np.ascontiguousarray(array) for part in parts for array in part]
    return digest([hashlib.sha256(array.data).hexdigest() for array in arrays])


def _scans_cut(settings: ColorizedDigits) -> tuple[Ids, Ids]:
    (_, labels), _ = _scans(settings)
    names = colorized.DIGIT_NAMES
    original, _, apart = cut_rows(labels, settings.reserve, settings.seed, names)
    return labels[original], labels[apart]


def _coloured(settings: ColorizedDigits) -> Prepared:
    colouring = colorized.Colouring(settings.initialization, settings.ratios, settings.test_colours)
    train, test = _scans(settings)
    splits = colorized.colorize(train, test, colouring, settings.reserve, settings.seed)
    facts = {
        "pooled": settings.initialization != "spurious",
        "crossed": settings.test_colours == "crossed",
        "subgroups_from": "pixels",
    }
    return Prepared(splits, facts, ())


def _scans(settings: ColorizedDigits) -> tuple[Part, Part]:
    if not isinstance(settings, ColorizedMnist):
        return digits.scans()
    train, test = mnist.scans(settings.root)
    seed = settings.seed
    return (
        _limited(train, settings.limit_train, seeding.rng(seed, "limit", "train")),
        _limited(test, settings.limit_test, seeding.rng(seed, "limit", "test")),
    )


def _limited(part: Part, size: int | None, rng: np.random.Generator) -> Part:
    images, labels = part
    if size is None or size >= len(labels):
        return part
    _, rows = stratified_cut(labels, size, rng)
    return images[rows], labels[rows]


# --- CIFAR-20/100 --------------------------------------------------------------------------------


def _cifar_source(settings: Cifar) -> str:
    if settings.download:
        cifar.download(settings.root)
    return digest(cifar.checksums(settings.root))


def _cifar_cut(settings: Cifar) -> tuple[Ids, Ids]:
    return cifar.original_and_reserve(*cifar.train_labels(settings.root), settings)


def _cifar(settings: Cifar) -> Prepared:
    splits, facts = cifar.splits(*cifar.read(settings.root), settings)
    own = {"pooled": False, "crossed": False, "subgroups_from": "probe"}
    return Prepared(splits, {**own, **facts}, ())


# --- pictures of ImageNet ------------------------------------------------------------------------


def _hard_source(settings: HardImageNet) -> str:
    listed = hard_imagenet.listed(settings)
    masks, sizes = hard_imagenet.masks_of_test(listed, settings)
    seen = list(zip(masks.names, sizes, strict=True))
    return digest([imagenet.content(listed, settings), seen])


def _hard_cut(settings: HardImageNet) -> tuple[Ids, Ids]:
    return imagenet.original_and_reserve(hard_imagenet.listed(settings), settings)


def _hard(settings: HardImageNet) -> Prepared:
    listed = hard_imagenet.listed(settings)
    splits = imagenet.splits(listed, settings)
    masks, _ = hard_imagenet.masks_of_test(listed, settings)
    hard_imagenet.check_shapes(listed, settings)
    facts = {"masks": True, "subgroups_from": "none", **hard_imagenet.facts(settings)}
    return Prepared(splits, {**_seen(settings), **facts}, masks)


def _breeds_source(settings: Breeds) -> str:
    return digest(imagenet.content(breeds.listed(settings), settings))


def _breeds_cut(settings: Breeds) -> tuple[Ids, Ids]:
    return imagenet.original_and_reserve(breeds.listed(settings), settings)


def _breeds(settings: Breeds) -> Prepared:
    splits = imagenet.splits(breeds.listed(settings), settings)
    facts = {"masks": False, "subgroups_from": "probe", **breeds.facts(settings)}
    return Prepared(splits, {**_seen(settings), **facts}, ())


def _seen(settings: ImageNetPictures) -> dict[str, Any]:
    view = imagenet.view(settings)
    return {"pooled": False, "crossed": False, "pictures": view._asdict()}


COLOURED = Kind(_scans_source, _scans_cut, _coloured)
KINDS: Mapping[str, Kind] = {
    "colorized_digits": COLOURED,
    "colorized_mnist": COLOURED,
    "cifar20_100": Kind(_cifar_source, _cifar_cut, _cifar),
    "hard_imagenet": Kind(_hard_source, _hard_cut, _hard),
    "breeds": Kind(_breeds_source, _breeds_cut, _breeds),
}
"""`dataset.name` -> what reads it."""
