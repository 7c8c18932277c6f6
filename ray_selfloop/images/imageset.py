"""ImageSet: images with what is known of each; the one form in which data moves through the loop.

Knows nothing of where images come from nor of who trains on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Ids = NDArray[np.int64]


class ImageSource(Protocol):
    """Images that are read by row: an array, or pictures that are decoded when asked for.

    Reads as uint8 ``(n, C, H, W)``; ``source[rows]`` is an array of those rows.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


class Joined:
    """Rows of several sources as one: part ``p`` gives its ``rows``, one part after another."""

    def __init__(self, parts: Sequence[tuple[ImageSource, Ids]]) -> None:
        self.parts = [(source, np.asarray(rows, np.int64)) for source, rows in parts]
        self._ends = np.cumsum([len(rows) for _, rows in self.parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.parts[0][0].shape[1:])

    def __getitem__(self, rows: Any) -> Images:
        """uint8 ``(b, C, H, W)``; of a single row ``(C, H, W)``."""
        chosen = np.arange(len(self))[rows]
        flat = np.atleast_1d(chosen)
        images = np.empty((len(flat), *self.shape[1:]), np.uint8)
        of = np.searchsorted(self._ends, flat, side="right")
        for p in np.unique(of):
            source, own = self.parts[p]
            here = np.flatnonzero(of == p)
            first = self._ends[p] - len(own)
            images[here] = source[own[flat[here] - first]]
        return images if chosen.ndim else images[0]


def join(parts: Sequence[tuple[ImageSource, Ids]]) -> ImageSource:
    """Rows of several sources as one source: an array where all are arrays, else by need.

    All rows of a single source in their order are that source, as it lies there.
    """
    source, rows = parts[0]
    if len(parts) == 1 and np.array_equal(rows, np.arange(len(source))):
        return source
    if all(isinstance(source, np.ndarray) for source, _ in parts):
        return np.concatenate([source[rows] for source, rows in parts])
    return Joined(parts)


@dataclass(frozen=True)
class ImageSet:
    """``n`` images of one shape.

    images: uint8 ``(n, C, H, W)``, 0..255.
    labels: int64 ``(n,)``, 0..len(class_names)-1.
    subgroups: int64 ``(n,)``, 0..len(subgroup_names)-1, or -1 where unknown (generated images).
    units: int64 ``(n,)``, the original image that a row shows: rows with one unit are resampled
        together (a test digit shown in three colours is one unit).
    """

    images: ImageSource
    labels: Ids
    subgroups: Ids
    units: Ids
    class_names: tuple[str, ...]
    subgroup_names: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        n = len(self.images)
        assert len(self.images.shape) == 4
        assert getattr(self.images, "dtype", np.uint8) == np.uint8
        assert len(self.labels) == len(self.subgroups) == len(self.units) == n

    def __len__(self) -> int:
        return len(self.images)

    def subgroup_shares(self) -> NDArray[np.float64]:
        """Subgroup shares within each class, ``(C, G)``; NaN for a class without images.

        ``(C, 0)`` where there are no subgroups.
        """
        if not self.subgroup_names:
            return np.empty((len(self.class_names), 0))
        counts = np.zeros((len(self.class_names), len(self.subgroup_names)))
        np.add.at(counts, (self.labels, self.subgroups), 1)
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))

    def take(self, rows: Ids) -> "ImageSet":
        """The rows in the order given, with repetition where a row is named twice."""
        return replace(
            self,
            images=join([(self.images, rows)]),
            labels=self.labels[rows],
            subgroups=self.subgroups[rows],
            units=self.units[rows],
        )


@dataclass(frozen=True)
class Splits:
    """One dataset, cut once.

    train: D0, what generators and classifiers train on.
    held_out: real images for early stopping alone, distributed like ``train``.
    test: evaluation alone.
    reserve: real images set apart for the ``held_out_real`` control; may be empty.
    """

    train: ImageSet
    held_out: ImageSet
    test: ImageSet
    reserve: ImageSet
