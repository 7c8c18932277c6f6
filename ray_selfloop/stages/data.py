"""The dataset stage, and what can be said of a dataset before anything runs.

What a kind of dataset is stands in its own file, and what all of them offer in `datasets/base`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ray_selfloop.config.datasets.known import NOT_IN_KEY, Dataset
from ray_selfloop.datasets.base import kind_of
from ray_selfloop.datasets.contents import Contents
from ray_selfloop.datasets.imagenet import CHANGED, PictureFiles
from ray_selfloop.errors import DataError
from ray_selfloop.graph import Stage
from ray_selfloop.images.imageset import Ids, ImageSet
from ray_selfloop.images.pictures import Pictures, write_encoded
from ray_selfloop.stages.inputs import COLUMNS, SPLITS, Inputs, save_array


def source(settings: Dataset, contents: Contents | None = None) -> str:
    """Digest of the original files' content; raises DataError when they are not there or damaged.

    contents: what is known of pictures' files already; all others are read, and decoded.
    """
    return kind_of(settings).source(settings, contents or Contents())


def original_and_reserve(settings: Dataset, contents: Contents | None = None) -> tuple[Ids, Ids]:
    """Labels of D0 and of the reserve, as the dataset stage will cut them."""
    return kind_of(settings).original_and_reserve(settings, contents or Contents())


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
    splits, facts, test_masks = kind_of(settings).prepare(settings, contents)
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
