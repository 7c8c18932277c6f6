"""Small folders in the official layouts, made of real pictures; for tests alone.

Tiny ImageNet's four classes that are also Hard ImageNet's give pictures and boxes (64 x 64); a mask
is its picture's box, filled. `samples` are single pictures of usual size of all 15 classes.
"""

import io
import pickle
import shutil
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image, ImageDraw

from ray_selfloop.config.datasets.hard_imagenet import SYNSETS
from ray_selfloop.datasets import breeds

TINY = ("sunglasses", "miniskirt", "volleyball", "snorkel")
"""Hard ImageNet's classes that Tiny ImageNet has, in the official order."""

WNIDS: dict[str, str] = {name: synset.wnid for name, synset in SYNSETS.items()}
NUMBERS: dict[str, int] = {name: synset.number for name, synset in SYNSETS.items()}

Box = tuple[int, int, int, int]
MaskForm = Literal["png", "jpeg"]


class Real(NamedTuple):
    """A real picture of 64 x 64, and its object's box: left, top, right, bottom, all inside."""

    path: Path
    box: Box


@cache
def real(data: str, split: str, wnid: str) -> list[Real]:
    """Tiny ImageNet's pictures of a class: 500 for ``train``, 50 for ``val``."""
    home = Path(data) / "tiny-imagenet-hard4" / split
    own = home / wnid if split == "train" else home
    table = own / (f"{wnid}_boxes.txt" if split == "train" else "val_annotations.txt")
    rows = [line.split() for line in table.read_text().splitlines()]
    rows = [[name, wnid, *box] for name, *box in rows] if split == "train" else rows
    return [
        Real(own / "images" / name, (int(box[0]), int(box[1]), int(box[2]), int(box[3])))
        for name, of, *box in rows
        if of == wnid
    ]


def samples(data: str) -> dict[str, Path]:
    """One picture of usual size for each of the 15 classes; the seat belt's is gray."""
    home = Path(data) / "imagenet-sample-images"
    return {name: next(home.glob(f"{wnid}_*")) for name, wnid in WNIDS.items()}


def drawn(size: tuple[int, int], boxes: Iterable[Box]) -> Image.Image:
    """A mask of 0 and 255 with filled boxes."""
    mask = Image.new("L", size)
    for box in boxes:
        ImageDraw.Draw(mask).rectangle(box, fill=255)
    return mask


def saved(picture: Image.Image, form: str, **options: object) -> bytes:
    """A picture as a file's bytes."""
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


class World(NamedTuple):
    """ImageNet's folder, and Hard ImageNet's; as settings of the dataset."""

    root: Path
    masks: Path

    @property
    def places(self) -> dict[str, str]:
        """Where the files are."""
        return {"root": str(self.root), "masks": str(self.masks)}


def _names(split: str, wnid: str, count: int) -> list[str]:
    """Official names; those of the validation set are numbered through all classes."""
    if split == "train":
        return [f"{wnid}_{i * 7 + 1}.JPEG" for i in range(count)]
    first = int(wnid[1:]) % 30_000
    return [f"ILSVRC2012_val_{first + i:08d}.JPEG" for i in range(count)]


def hard_imagenet(
    folder: Path,
    data: str,
    train: int,
    val: int,
    classes: Sequence[str] = TINY,
    form: MaskForm = "png",
) -> World:
    """Both official folders with ``train`` and ``val`` pictures of each of the classes.

    Classes outside `TINY` are shown by pictures of those four, so that all 15 can be had. A mask is
    named .JPEG whatever its form. The ranking is by name.
    """
    world = World(folder / "imagenet", folder / "hardImageNet")
    ranking = {}
    for c, name in enumerate(classes):
        wnid, shown = WNIDS[name], WNIDS[name if name in TINY else TINY[c % 4]]
        for split, count in (("train", train), ("val", val)):
            home = world.root / split / wnid
            home.mkdir(parents=True)
            (world.masks / split).mkdir(parents=True, exist_ok=True)
            names = _names(split, wnid, count)
            sources = real(data, split, shown)
            for i, own in enumerate(names):
                source = sources[i % len(sources)]
                shutil.copyfile(source.path, home / own)
                encoded = saved(drawn((64, 64), [source.box]), form)
                (world.masks / split / f"{wnid}_{own}").write_bytes(encoded)
            if split == "train":
                paths = [f"train/{wnid}/{own}" for own in names]
                ranking[NUMBERS[name]] = paths
    (world.masks / "meta").mkdir()
    (world.masks / "meta/paths_by_rank.pkl").write_bytes(pickle.dumps(ranking))
    return world


def breeds_world(
    folder: Path, data: str, superclasses: Sequence[str], train: int, val: int
) -> dict[str, str]:
    """ImageNet's folder with the subclasses of these superclasses; as settings of the dataset.

    Subclass g of every superclass is shown by the g-th class of `TINY`, superclass c by other
    pictures of it than superclass c + 1.
    """
    places = {"root": str(folder / "imagenet"), "hierarchy": str(Path(data) / "breeds")}
    hierarchy = breeds.read(Path(places["hierarchy"]))
    members = breeds.members(hierarchy, "living17") | breeds.members(hierarchy, "nonliving26")
    named = {hierarchy.names[node]: wnids for node, wnids in members.items()}
    for c, name in enumerate(superclasses):
        for g, wnid in enumerate(named[name]):
            for split, count in (("train", train), ("val", val)):
                home = Path(places["root"]) / split / wnid
                home.mkdir(parents=True)
                sources = real(data, split, WNIDS[TINY[g]])
                for i, own in enumerate(_names(split, wnid, count)):
                    source = sources[(c * count + i) % len(sources)]
                    shutil.copyfile(source.path, home / own)
    return places
