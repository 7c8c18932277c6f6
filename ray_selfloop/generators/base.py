"""Generators: what they are given, and what every one of them offers.

A generator's file holds one `Generator`: how it is trained, how it draws. Its settings' traits name
it. No generator sees a subgroup or a test image; the types here leave no room for either.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from ray_selfloop.config.generators.base import GeneratorSettings
from ray_selfloop.images.imageset import Ids, ImageSource, join
from ray_selfloop.images.pictures import View

if TYPE_CHECKING:  # planning a control needs no torch
    import torch
    from torch import Tensor

    from ray_selfloop.generators.diffusion.checkpoint import Place
    from ray_selfloop.generators.diffusion.workers import World


class TrainingImages(NamedTuple):
    """What a generator may see: ``images`` uint8 ``(n, C, H, W)`` and ``labels`` int64 ``(n,)``."""

    images: ImageSource
    labels: Ids


class Sampler(Protocol):
    """Draws images of asked classes."""

    def sample(self, ids: Ids, labels: Ids, seed: int) -> ImageSource:
        """``(b,)`` sample ids and labels -> uint8 ``(b, C, H, W)``, real pictures still encoded.

        Image ``i`` is a function of the generator, ``seed``, its id and its label alone (up to
        the arithmetic of one batch shape: callers keep to a single shape and pad the last batch).
        """
        ...


class Part(NamedTuple):
    """Rows of one set of images: the original data, or what one generation has kept.

    name: ``dataset``, or the generation's number. images, labels: of the whole set. cached: the
    folder in which `Generator.cache` has written for the whole set; None where it was not asked.
    """

    name: str
    images: ImageSource
    labels: Ids
    rows: Ids
    cached: Path | None


@dataclass(frozen=True)
class Lesson:
    """What one training is given.

    parts: the training set. held_out: real images for a stopping rule and for looks alone;
    held_out_cached: as of a part. previous: the weights of the generation before, where training
    goes on from them. world: the processes that share the training; the first one's result counts.
    """

    parts: Sequence[Part]
    held_out: TrainingImages
    class_names: tuple[str, ...]
    seed: int
    device: "torch.device"
    previous: "dict[str, Tensor] | None"
    held_out_cached: Path | None
    checkpoints: "Place"
    world: "World"

    @cached_property
    def data(self) -> TrainingImages:
        labels = np.concatenate([part.labels[part.rows] for part in self.parts])
        return TrainingImages(join([(part.images, part.rows) for part in self.parts]), labels)


class Trained(NamedTuple):
    """What one training leaves.

    weights: all that drawing needs. history: one entry per look. outcome: one word, how it ended
    (``converged``, ``budget``, ``completed``, ``diverged``, ``collapsed``). facts: what else its
    record says; JSON.
    """

    weights: "Mapping[str, Tensor]"
    history: list[dict[str, float]]
    outcome: str
    facts: Mapping[str, Any] = {}


class Turn(NamedTuple):
    """Of a generator that draws by turn, `Traits.by_turn`.

    generation: 1 is the first. seed: of the chain, the same for all its generations. labels: of
    every sample id ``0..n-1`` of this generation.
    """

    generation: int
    seed: int
    labels: Ids


@dataclass(frozen=True)
class Scene:
    """What a generator is given to draw.

    original, reserve: real images. view: how the dataset's pictures are seen; None where images
    are arrays. weights: what `Generator.train` left; None where nothing is trained. content: what
    `Traits.content` said when the sweep was planned; None without.
    """

    original: TrainingImages
    reserve: TrainingImages
    class_names: tuple[str, ...]
    view: View | None
    device: "torch.device"
    weights: "dict[str, Tensor] | None"
    turn: Turn | None
    content: Any


@dataclass(frozen=True, kw_only=True)
class Generator:
    """One kind of generator; every function takes its settings last.

    sampler: what draws. train: None where nothing is trained. cache: writes into a folder what a
    training reads of each image of a whole set, where the settings say that it ``caches``.
    file: the name under which weights are published.
    """

    sampler: Callable[[Scene, Any], Sampler]
    train: Callable[[Lesson, Any], Trained] | None = None
    cache: "Callable[[ImageSource, Path, torch.device, Any], None] | None" = None
    file: str = "weights.safetensors"


@dataclass(frozen=True)
class Demand:
    """What a sweep will ask of a generator; its ``check`` is given a function that tells it.

    draws: images of each class that one generation draws, before the filter. reserve: images of
    each class in the reserve. class_names: told when asked for, since the dataset is cut for it.
    """

    draws: Ids
    reserve: Ids
    generations: int
    class_names: Callable[[], tuple[str, ...]]


def worker(settings: GeneratorSettings) -> Generator:
    found: Generator = resolve_name(settings.traits.worker)
    return found
