"""What the datasets cut from ImageNet have in common."""

from abc import abstractmethod

from pydantic import Field

from ray_selfloop.config.base import Path
from ray_selfloop.config.datasets.base import limited
from ray_selfloop.config.datasets.pictures import PictureDataset

VALIDATION = 50  # ImageNet's validation images of each class


class ImageNetPictures(PictureDataset):
    """Test pictures are ImageNet's validation pictures."""

    root: Path | None = Field(
        default=None,
        description="ImageNet's folder: train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, val sorted into "
        "wnids; null: ./data. In a Ray job: absolute.",
    )

    @property
    def test_images(self) -> list[list[float]]:
        """Of each class, and each of its subgroups."""
        columns, classes = max(1, self.groups), len(self.class_names)
        cells = limited([VALIDATION] * columns * classes, self.limit_test)
        return [cells[:columns] for _ in range(classes)]

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """The classes used, in the official order."""
