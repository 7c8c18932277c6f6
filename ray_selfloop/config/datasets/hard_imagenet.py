"""Hard ImageNet: which of its classes and training images."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from ray_selfloop.config.base import Path
from ray_selfloop.config.datasets.base import FRAMED, Traits, in_order, some
from ray_selfloop.config.datasets.imagenet import ImageNetPictures
from ray_selfloop.config.datasets.pictures import SEEN


class Synset(NamedTuple):
    """A class of ImageNet: its WordNet id, and its number 0..999 among the thousand."""

    wnid: str
    number: int


SYNSETS: Mapping[str, Synset] = {
    "dog sled": Synset("n03218198", 537),
    "howler monkey": Synset("n02492660", 379),
    "seat belt": Synset("n04162706", 785),
    "ski": Synset("n04228054", 795),
    "sunglasses": Synset("n04356056", 837),
    "swimming cap": Synset("n02807133", 433),
    "balance beam": Synset("n02777292", 416),
    "horizontal bar": Synset("n03535780", 602),
    "patio": Synset("n03899768", 706),
    "hockey puck": Synset("n04019541", 746),
    "miniskirt": Synset("n03770439", 655),
    "keyboard space bar": Synset("n04264628", 810),
    "volleyball": Synset("n04540053", 890),
    "baseball player": Synset("n09835506", 981),
    "snorkel": Synset("n04251144", 801),
}
"""The classes in the official order: the label of a class is its place here."""

if TYPE_CHECKING:
    HardClass = str
else:
    HardClass = Literal[tuple(SYNSETS)]


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
            "classes": lambda d: some(d.classes, tuple(SYNSETS), "classes"),
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
        return in_order(names, tuple(SYNSETS), "class")

    @model_validator(mode="after")
    def _limits_reach_every_class(self) -> Self:
        self._require_limits(2, 1, "classes", len(self.class_names))
        return self

    @property
    def class_names(self) -> tuple[HardClass, ...]:
        return self.classes or tuple(SYNSETS)
