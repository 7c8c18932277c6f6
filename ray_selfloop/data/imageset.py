"""ImageSet: images with what is known of each; the one form in which data moves through the loop.

Knows nothing of where images come from nor of who trains on them.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class ImageSet:
    """``n`` images of one shape.

    images: uint8 ``(n, C, H, W)``, 0..255.
    labels: int64 ``(n,)``, 0..len(class_names)-1.
    subgroups: int64 ``(n,)``, 0..len(subgroup_names)-1, or -1 where unknown (generated images).
    units: int64 ``(n,)``, the original image that a row shows: rows with one unit are resampled
        together (a test digit shown in three colours is one unit).
    """

    images: Images
    labels: Ids
    subgroups: Ids
    units: Ids
    class_names: tuple[str, ...]
    subgroup_names: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        n = len(self.images)
        assert self.images.dtype == np.uint8
        assert self.images.ndim == 4
        assert len(self.labels) == len(self.subgroups) == len(self.units) == n

    def __len__(self) -> int:
        return len(self.images)

    def subgroup_shares(self) -> NDArray[np.float64]:
        """Subgroup shares within each class, ``(C, G)``; NaN for a class without images."""
        counts = np.zeros((len(self.class_names), len(self.subgroup_names)))
        np.add.at(counts, (self.labels, self.subgroups), 1)
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))

    def take(self, rows: Ids) -> "ImageSet":
        """The rows in the order given, with repetition where a row is named twice."""
        return replace(
            self,
            images=self.images[rows],
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
