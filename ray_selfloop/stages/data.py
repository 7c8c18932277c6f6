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
    NOT_IN_KEY,
    Breeds,
    Cifar,
    ColorizedDigits,
    ColorizedMnist,
    Dataset,
    HardImageNet,
    ImageNetPictures,
)
from ray_selfloop.datasets import breeds, cifar, colours, digits, hard_imagenet, imagenet, mnist
from ray_selfloop.datasets.contents import Contents
from ray_selfloop.datasets.imagenet import CHANGED, PictureFiles, Whole
from ray_selfloop.errors import DataError
from ray_selfloop.graph import Stage, digest
from ray_selfloop.images.imageset import Ids, Images, ImageSet, Splits
from ray_selfloop.images.pictures import Pictures, write_encoded
from ray_selfloop.images.split import cut_rows, stratified_cut
from ray_selfloop.stages.inputs import COLUMNS, SPLITS, Inputs, save_array

Part = tuple[Images, Ids]


class Prepared(NamedTuple):
    """A dataset cut, and what its record says besides names and sizes.

    facts: must hold ``pooled`` (subgroup i means the same and has the same training share in every
    class), ``crossed`` (every test image is shown in every subgroup) and ``subgroups_from``
    (``pixels`` or ``probe``: how the subgroup of a generated image is read; ``none``: there are
    no subgroups). Of pictures also ``pictures`` (their view), ``masks`` (whether each test picture
    has one) and ``left_out`` (the damaged files that are not among them); of MNIST ``official``
    (whether its values are the published ones). test_masks: those masks, encoded; empty where there
    are none.
    """

    splits: Splits
    facts: Mapping[str, Any]
    test_masks: Sequence[bytes]


class Kind(NamedTuple):
    """One kind of dataset.

    source: digest of the original files' content. original_and_reserve: labels of D0 and of the
    reserve. prepare: the dataset itself. All raise DataError where the files are not there.
    Pictures are known by looks at their files, others are read each time.
    """

    source: Callable[[Any, Contents], str]
    original_and_reserve: Callable[[Any, Contents], tuple[Ids, Ids]]
    prepare: Callable[[Any, Contents], Prepared]


def source(settings: Dataset, contents: Contents | None = None) -> str:
    """Digest of the original files' content; raises DataError when they are not there or damaged.

    contents: what is known of pictures' files already; all others are read, and decoded.
    """
    return KINDS[settings.name].source(settings, contents or Contents())


def original_and_reserve(settings: Dataset, contents: Contents | None = None) -> tuple[Ids, Ids]:
    """Labels of D0 and of the reserve, as the dataset stage will cut them."""
    return KINDS[settings.name].original_and_reserve(settings, contents or Contents())


def class_names(settings: Dataset, contents: Contents) -> tuple[str, ...]:
    """The dataset's class names; it is cut for them, as the dataset stage will."""
    return KINDS[settings.name].prepare(settings, contents).splits.train.class_names


def dataset(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """Cut, colour where that is asked for, and write the dataset's four parts.

    Pictures are copied as the files that they are, one at a time, and each must be the one that
    was looked at.
    """
    config = {name: value for name, value in stage.config.items() if name != "source"}
    hints = {name: value for name, value in stage.hints.items() if name in NOT_IN_KEY}
    settings: Dataset = TypeAdapter(Dataset).validate_python({**config, **hints})
    contents = Contents(inputs.store.blobs, stage.hints.get("decoders", 1))
    _require_planned(stage, settings, contents)
    splits, facts, test_masks = KINDS[settings.name].prepare(settings, contents)
    for part in SPLITS:
        _save(folder, part, getattr(splits, part))
    if test_masks:
        write_encoded(folder, "test_masks", test_masks)
        _save_digests(folder, "test_masks", test_masks)
    return {
        "class_names": list(splits.train.class_names),
        "subgroup_names": list(splits.train.subgroup_names),
        "sizes": {part: len(getattr(splits, part)) for part in SPLITS},
        **facts,
    }


def _require_planned(stage: Stage, settings: Dataset, contents: Contents) -> None:
    """Raise DataError where this machine's files are not those that the stage's key is of."""
    planned = stage.config.get("source")
    if planned in (None, source(settings, contents)):
        return
    root = stage.hints.get("root")
    what = contents.changed[0] if contents.changed else f"what is in {root} on this machine"
    more = f" (nor are {len(contents.changed) - 1:,} more)" if contents.changed[1:] else ""
    raise DataError(f"{what} {CHANGED}{more}")


def _save_digests(folder: Path, name: str, files: object) -> None:
    """Of pictures ``<name>.sha256``: which file each row is, as `sha256sum` writes it."""
    if isinstance(files, PictureFiles):
        with (folder / f"{name}.sha256").open("w", encoding="utf-8") as file:
            for digest, own in zip(files.digests, files.names, strict=True):
                file.write(f"{digest}  {own}\n")


def _save(folder: Path, part: str, images: ImageSet) -> None:
    for column in COLUMNS:
        values = getattr(images, column)
        if isinstance(values, Pictures):
            write_encoded(folder, f"{part}_{column}", values.encoded)
            _save_digests(folder, f"{part}_{column}", values.encoded)
        else:
            save_array(folder, f"{part}_{column}", values)


# --- scans in colours ----------------------------------------------------------------------------


def _scans_source(settings: ColorizedDigits, contents: Contents) -> str:
    if isinstance(settings, ColorizedMnist) and settings.download:
        mnist.download(settings.root)
    parts = mnist.scans(settings.root) if isinstance(settings, ColorizedMnist) else digits.scans()
    arrays = [np.ascontiguousarray(array) for part in parts for array in part]
    return digest([hashlib.sha256(array.data).hexdigest() for array in arrays])


def _scans_cut(settings: ColorizedDigits, contents: Contents) -> tuple[Ids, Ids]:
    (_, labels), _ = _scans(settings)
    names = colours.DIGIT_NAMES
    original, _, apart = cut_rows(labels, settings.reserve, settings.seed, names)
    return labels[original], labels[apart]


def _coloured(settings: ColorizedDigits, contents: Contents) -> Prepared:
    colouring = colours.Colouring(settings.initialization, settings.ratios, settings.test_colours)
    train, test = _scans(settings)
    splits = colours.colorize(train, test, colouring, settings.reserve, settings.seed)
    facts = {
        "pooled": settings.initialization != "spurious",
        "crossed": settings.test_colours == "crossed",
        "subgroups_from": "pixels",
    }
    if isinstance(settings, ColorizedMnist):
        facts["official"] = _scans_source(settings, contents) == mnist.OFFICIAL
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


def _cifar_source(settings: Cifar, contents: Contents) -> str:
    if settings.download:
        cifar.download(settings.root)
    return digest(cifar.checksums(settings.root))


def _cifar_cut(settings: Cifar, contents: Contents) -> tuple[Ids, Ids]:
    return cifar.original_and_reserve(*cifar.train_labels(settings.root), settings)


def _cifar(settings: Cifar, contents: Contents) -> Prepared:
    splits, facts = cifar.splits(*cifar.read(settings.root), settings)
    own = {"pooled": False, "crossed": False, "subgroups_from": "probe"}
    return Prepared(splits, {**own, **facts}, ())


# --- pictures of ImageNet ------------------------------------------------------------------------


def _whole(settings: ImageNetPictures, contents: Contents) -> Whole:
    if isinstance(settings, HardImageNet):
        return hard_imagenet.whole(settings, contents)
    assert isinstance(settings, Breeds)
    return imagenet.whole(breeds.listed(settings), settings, contents)


def _pictures_source(settings: ImageNetPictures, contents: Contents) -> str:
    return digest(_whole(settings, contents).content)


def _pictures_cut(settings: ImageNetPictures, contents: Contents) -> tuple[Ids, Ids]:
    return imagenet.original_and_reserve(_whole(settings, contents).listed, settings)


def _hard(settings: HardImageNet, contents: Contents) -> Prepared:
    facts = {"masks": True, "subgroups_from": "none", **hard_imagenet.facts(settings)}
    return _pictures(settings, _whole(settings, contents), facts)


def _breeds(settings: Breeds, contents: Contents) -> Prepared:
    facts = {"masks": False, "subgroups_from": "probe", **breeds.facts(settings)}
    return _pictures(settings, _whole(settings, contents), facts)


def _pictures(settings: ImageNetPictures, used: Whole, facts: Mapping[str, Any]) -> Prepared:
    seen = {"pooled": False, "crossed": False, "pictures": imagenet.view(settings)._asdict()}
    found = {**seen, "left_out": used.left_out, **facts}
    masks = used.beside.files if used.beside else ()
    return Prepared(imagenet.splits(used.listed, settings), found, masks)


COLOURED = Kind(_scans_source, _scans_cut, _coloured)
KINDS: Mapping[str, Kind] = {
    "colorized_digits": COLOURED,
    "colorized_mnist": COLOURED,
    "cifar20_100": Kind(_cifar_source, _cifar_cut, _cifar),
    "hard_imagenet": Kind(_pictures_source, _pictures_cut, _hard),
    "breeds": Kind(_pictures_source, _pictures_cut, _breeds),
}
"""`dataset.name` -> what reads it."""
