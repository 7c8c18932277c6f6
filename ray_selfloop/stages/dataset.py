"""The original data: cut, coloured where that is asked for, and published in four parts.

What a kind of dataset is stands in its own file, and what all of them offer in `datasets/base`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from ray_selfloop.config.datasets.known import NOT_IN_KEY, PLACES, Dataset
from ray_selfloop.datasets.base import kind_of
from ray_selfloop.datasets.contents import Contents
from ray_selfloop.datasets.pictures import CHANGED, PictureFiles
from ray_selfloop.errors import DataError
from ray_selfloop.images.imageset import Ids, ImageSet
from ray_selfloop.images.pictures import Pictures, write_encoded
from ray_selfloop.stages import kind
from ray_selfloop.stages.chain import Chain, Who
from ray_selfloop.stages.inputs import COLUMNS, SPLITS, save_array
from ray_selfloop.stages.kind import Kind, Places, Summary, Work

DATA = "data"  # where original data lie unless the sweep says otherwise


class Settings(kind.Settings):
    """Beside these the fields of the dataset's own settings, but for those that are places.

    source: digest of the files' content.
    """

    model_config = ConfigDict(extra="allow")

    source: str | None = None

    def dataset(self, places: Places) -> Dataset:
        """The dataset, with where its files lie on this cluster."""
        known = {name: place for name, place in places.named.items() if name in NOT_IN_KEY}
        found: Dataset = TypeAdapter(Dataset).validate_python({**self.own, **known})
        return found

    @property
    def own(self) -> Mapping[str, Any]:
        return self.model_extra or {}


def settings(chain: Chain, n: int, who: Who) -> Settings:
    own = chain.sweep.dataset.model_dump(mode="json", exclude=set(NOT_IN_KEY))
    return Settings(**own, source=chain.source)


def places(chain: Chain, who: Who) -> Mapping[str, Any]:
    """Where the original data lie, for a worker in another folder, and what to do with damage."""
    dataset = chain.sweep.dataset
    named = {name: getattr(dataset, name, None) for name in PLACES - {"download"}}
    absolute = {name: os.path.abspath(place) for name, place in named.items() if place}
    damage = dataset.model_dump(mode="json", include={"damaged"})
    return {"root": os.path.abspath(DATA), **absolute, **damage}


def source(settings: Dataset, contents: Contents | None = None) -> str:
    """Digest of the original files' content; raises DataError when they are not there or damaged.

    contents: what is known of pictures' files already; all others are read, and decoded.
    """
    return kind_of(settings).source(settings, contents or Contents())


def original_and_reserve(settings: Dataset, contents: Contents | None = None) -> tuple[Ids, Ids]:
    """Labels of D0 and of the reserve, as the dataset stage will cut them."""
    return kind_of(settings).original_and_reserve(settings, contents or Contents())


def class_names(settings: Dataset, contents: Contents) -> tuple[str, ...]:
    """The dataset's class names; it is cut for them, as the dataset stage will."""
    return kind_of(settings).prepare(settings, contents).splits.train.class_names


def run(work: Work[Settings]) -> Summary:
    """Cut, colour where that is asked for, and write the dataset's four parts.

    Pictures are copied as the files that they are, one at a time, and each must be the one that
    was looked at.
    """
    settings = work.settings.dataset(work.places)
    contents = Contents(work.inputs.store.blobs, work.places.decoders)
    _require_planned(work, source(settings, contents), contents)
    splits, facts, test_masks = kind_of(settings).prepare(settings, contents)
    for part in SPLITS:
        _save(work.folder, part, getattr(splits, part))
    if test_masks:
        write_encoded(work.folder, "test_masks", test_masks)
        _save_digests(work.folder, "test_masks", test_masks)
    return {
        "class_names": list(splits.train.class_names),
        "subgroup_names": list(splits.train.subgroup_names),
        "sizes": {part: len(getattr(splits, part)) for part in SPLITS},
        **facts,
    }


def _require_planned(work: Work[Settings], found: str, contents: Contents) -> None:
    """Raise DataError where this machine's files are not those that the stage's key is of."""
    if work.settings.source in (None, found):
        return
    root = work.places.named.get("root")
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


KIND = Kind(
    "dataset",
    version=2,
    holds=Settings,
    run="ray_selfloop.stages.dataset:run",
    settings=settings,
    places=places,
    threaded=False,
    of_data=True,
)
