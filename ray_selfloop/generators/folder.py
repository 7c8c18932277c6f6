"""Images that another program has made, one folder for each generation and class.

Nothing is trained: what such a generator has learned from the loop is its owner's business. Files
count by their content, in the order of their names; a folder that changes after a sweep was planned
is refused.
"""

import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from ray_selfloop import seeding
from ray_selfloop.config.generators.folder import FolderOfImages
from ray_selfloop.datasets.contents import Contents, several
from ray_selfloop.datasets.pictures import CHANGED
from ray_selfloop.errors import DataError
from ray_selfloop.generators.base import Demand, Generator, Scene, Turn
from ray_selfloop.graph import digest
from ray_selfloop.images.imageset import Ids, Images, ImageSource
from ray_selfloop.images.pictures import Pictures, opened, rgb

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
Stamp = tuple[str, int, int, int]


def check(settings: FolderOfImages, demand: Callable[[], Demand]) -> None:
    """Raise DataError where a generation lacks a class, or images of it."""
    asked = demand()
    names = asked.class_names()
    slashed = [name for name in names if "/" in name]
    if slashed:
        raise DataError(
            f"generator.root: a class folder cannot be called {slashed[0]!r}; rename that class in "
            "the dataset"
        )
    for generation in range(1, asked.generations + 1):
        found = _files(settings, generation)
        for name, draws in zip(names, asked.draws, strict=False):
            _require(_of(settings, generation), name, len(found.get(name, ())), int(draws))


def _require(folder: Path, name: str, have: int, draws: int) -> None:
    if have < draws:
        raise DataError(
            f"generator.root: {folder / name} has {have} of the {draws} images of class {name!r} "
            "that a generation draws; add images, or lower queue.volume or filter.drop"
        )


def content(settings: FolderOfImages, generation: int) -> dict[str, str]:
    """Class -> digest of one generation's images; raises DataError where one is damaged."""
    folder = _of(settings, generation)
    return {
        name: _digest(folder / name, tuple(_stamp(folder / name / file) for file in files))
        for name, files in _files(settings, generation).items()
    }


def _of(settings: FolderOfImages, generation: int) -> Path:
    return Path(settings.root) / settings.generation.replace("{}", str(generation))


def _files(settings: FolderOfImages, generation: int) -> dict[str, list[str]]:
    """Class -> names of its images, sorted; raises DataError without a folder of the generation."""
    folder = _of(settings, generation)
    if not folder.is_dir():
        raise DataError(
            f"generator.root: there is no folder {folder} for generation {generation}; it must "
            "hold one folder per class, named as the dataset names it"
        )
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    return {
        name: sorted(f for f in os.listdir(folder / name) if f.lower().endswith(ENDINGS))
        for name in classes
    }


def _stamp(path: Path) -> Stamp:
    at = path.stat()
    return path.name, at.st_size, at.st_mtime_ns, at.st_ctime_ns


@lru_cache(maxsize=4_096)
def _digest(folder: Path, stamps: tuple[Stamp, ...]) -> str:
    """Of images in the order of their names; read once while they are what their stamps say."""
    names = [name for name, *_ in stamps]
    looks = Contents().of(folder, names)
    damaged = [name for name, look in zip(names, looks, strict=True) if look.damage]
    if damaged:
        why = looks[names.index(damaged[0])].damage
        raise DataError(f"generator.root: {several(folder, damaged)}{why}")
    return digest([look.sha256 for look in looks])


class FolderSampler:
    """Draws a generation's images, none twice; see ``generators.Sampler``.

    The order of a class's images is drawn by the turn's seed, whatever is asked for first.
    """

    def __init__(self, settings: FolderOfImages, scene: Scene, turn: Turn) -> None:
        self.view, self.shape, self.turn = scene.view, scene.original.images.shape[1:], turn
        folder, found = _of(settings, turn.generation), _files(settings, turn.generation)
        self.paths = np.empty(len(turn.labels), object)
        for label, name in enumerate(scene.class_names):
            mine, files = np.flatnonzero(turn.labels == label), found.get(name, [])
            _require(folder, name, len(files), len(mine))
            draw = seeding.rng(turn.seed, "folder", turn.generation, label)
            order = draw.permutation(len(files))
            self.paths[mine] = [folder / name / files[row] for row in order[: len(mine)]]

    def sample(self, ids: Ids, labels: Ids, seed: int) -> ImageSource:
        """Image ``i`` is the file that the turn gave to id ``i``; ``seed`` has no part in it."""
        assert np.array_equal(self.turn.labels[ids], labels), "labels are the turn's"
        paths: list[Path] = list(self.paths[ids])
        if self.view:
            return Pictures([path.read_bytes() for path in paths], self.view)
        return np.stack([self._array(path) for path in paths])

    def _array(self, path: Path) -> Images:
        """``(C, H, W)`` of a file that has the dataset's own size: nothing is resized."""
        picture = rgb(opened(path.read_bytes(), str(path)))
        channels, height, width = self.shape
        if picture.size != (width, height):
            raise DataError(
                f"generator.root: {path} has {picture.width} x {picture.height} pixels, the "
                f"dataset's images {width} x {height}; give images of that size"
            )
        assert channels == 3, "every dataset has colours"
        return np.asarray(picture).transpose(2, 0, 1)


def sampler(scene: Scene, settings: FolderOfImages) -> FolderSampler:
    """Raises DataError where the images are too few, or not those that the sweep was planned on."""
    assert scene.turn is not None, "it draws by turn"
    planned: Mapping[str, str] = scene.content
    found = content(settings, scene.turn.generation)
    if found != planned:
        other = min(n for n in {*found, *planned} if found.get(n) != planned.get(n))
        where = _of(settings, scene.turn.generation) / other
        raise DataError(f"generator.root: what is in {where} {CHANGED}")
    return FolderSampler(settings, scene, scene.turn)


GENERATOR = Generator(sampler=sampler)
