"""Hard ImageNet: which of its classes and training images."""

from typing import ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from ray_selfloop.config.base import Path
from ray_selfloop.config.datasets.base import FRAMED, Traits, some
from ray_selfloop.config.datasets.imagenet import ImageNetPictures
from ray_selfloop.config.datasets.pictures import SEEN

HardClass = Literal[
    "dog sled",
    "howler monkey",
    "seat belt",
    "ski",
    "sunglasses",
    "swimming cap",
    "balance beam",
    "horizontal bar",
    "patio",
    "hockey puck",
    "miniskirt",
    "keyboard space bar",
    "volleyball",
    "baseball player",
    "snorkel",
]


class HardImageNet(ImageNetPictures):
    """Hard ImageNet: 15 ImageNet classes with strong spurious cues, and a mask of every object.

    It has no subgroups. The test images are ImageNet's validation pictures that have a mask.
    """

    traits: ClassVar[Traits] = Traits(
        title="Hard ImageNet",
        reader="ray_selfloop.datasets.hard_imagenet:KIND",
        pictures=True,
        masks=True,
        augment=FRAMED,
        places=frozenset({"root", "masks"}),
        other={
            "classes": lambda d: some(d.classes, get_args(HardClass), "classes"),
            "subset": lambda d: f"{d.subset} subset",
        },
        fewer=SEEN,
        paper="hard_imagenet",
        figures={"overall": "9", "ablations": "8", "grid": "12"},
        weights="imagenet",
        accuracy=0.9,
    )

    name: Literal["hard_imagenet"] = "hard_imagenet"
    masks: Path | None = Field(
        default=None,
        description="Hard ImageNet's own folder: train/ and val/ with one mask per picture, and "
        "meta/; null: hardImageNet inside `root`. In a Ray job: absolute.",
    )
    fit: Literal["stretch", "crop"] = Field(
        default="stretch",
        description="`stretch` (as the reference code): to frame x frame whatever the picture's "
        "shape. `crop`: its shorter side to frame.",
    )
    classes: tuple[HardClass, ...] | None = Field(
        default=None,
        min_length=2,
        description="Only these classes; always in the official order. null: all 15.",
    )
    subset: Literal["all", "balanced"] = Field(
        default="all",
        description="Training images. `all`: every one that has a mask. `balanced`: of each class "
        "the first and last 100 in the official ranking by the strength of its spurious cues.",
    )

    @field_validator("classes")
    @classmethod
    def _each_once(cls, names: tuple[HardClass, ...] | None) -> tuple[HardClass, ...] | None:
        if names is None:
            return None
        if len(set(names)) != len(names):
            raise ValueError("a class is listed twice")
        return tuple(name for name in get_args(HardClass) if name in names)

    @model_validator(mode="after")
    def _limits_reach_every_class(self) -> Self:
        self._require_limits(2, 1, "classes", len(self.class_names))
        return self

    @property
    def class_names(self) -> tuple[HardClass, ...]:
        """The classes used, in the official order."""
        return self.classes or get_args(HardClass)
