"""The dataset stage, and what can be said of a dataset before anything runs."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ray_selfloop import seeding
from ray_selfloop.config.dataset import ColorizedDigits, ColorizedMnist
from ray_selfloop.data import colorized, digits, mnist
from ray_selfloop.data.imageset import Ids, Images
from ray_selfloop.data.split import stratified_cut
from ray_selfloop.graph import Stage, digest
from ray_selfloop.stages.inputs import COLUMNS, SPLITS, Inputs, save_array

Part = tuple[Images, Ids]


def source(settings: ColorizedDigits) -> str:
    """Digest of the original files' content; raises DataError when they are not there."""
    if isinstance(settings, ColorizedMnist) and settings.download:
        mnist.download(settings.root)
    parts = mnist.scans(settings.root) if isinstance(settings, ColorizedMnist) else digits.scans()
    arrays = [np.ascontiguousarray(array) for part in parts for array in part]
    return digest([hashlib.sha256(array.data).hexdigest() for array in arrays])


def original_and_reserve(settings: ColorizedDigits) -> tuple[Ids, Ids]:
    """Labels of D0 and of the reserve, as the dataset stage will cut them."""
    (_, labels), _ = _scans(settings.model_dump(), {"root": settings.root})
    original, _, apart = colorized.cut_rows(labels, settings.reserve, settings.seed)
    return labels[original], labels[apart]


def dataset(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """Cut, colour and write the dataset's four parts."""
    config = stage.config
    colouring = colorized.Colouring(
        config["initialization"], tuple(config["ratios"]), config["test_colours"]
    )
    train, test = _scans(config, stage.hints)
    splits = colorized.colorize(train, test, colouring, config["reserve"], config["seed"])
    for part in SPLITS:
        for column in COLUMNS:
            save_array(folder, f"{part}_{column}", getattr(getattr(splits, part), column))
    return {
        "class_names": list(splits.train.class_names),
        "subgroup_names": list(splits.train.subgroup_names),
        "sizes": {part: len(getattr(splits, part)) for part in SPLITS},
    }


def _scans(config: Mapping[str, Any], hints: Mapping[str, Any]) -> tuple[Part, Part]:
    if config["name"] == "colorized_digits":
        return digits.scans()
    train, test = mnist.scans(hints["root"])
    seed = config["seed"]
    return (
        _limited(train, config["limit_train"], seeding.rng(seed, "limit", "train")),
        _limited(test, config["limit_test"], seeding.rng(seed, "limit", "test")),
    )


def _limited(part: Part, size: int | None, rng: np.random.Generator) -> Part:
    images, labels = part
    if size is None or size >= len(labels):
        return part
    _, rows = stratified_cut(labels, size, rng)
    return images[rows], labels[rows]
