"""Generators: what they are given, and what every one of them offers once it is trained.

No generator sees a subgroup or a test image; the types here leave no room for either.
"""

from typing import NamedTuple, Protocol

from ray_selfloop.images.imageset import Ids, ImageSource


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
