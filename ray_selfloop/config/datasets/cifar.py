"""CIFAR-20/100: which superclasses and which of their images."""

import math
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from ray_selfloop.config.base import Path
from ray_selfloop.config.datasets.base import (
    DatasetSettings,
    Reserve,
    Traits,
    in_order,
    limited,
    some,
)

GROUPS = 5  # fine classes of a superclass
FINE_TEST = 100  # test images of each fine class

FINE_CLASSES = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
"""CIFAR-100's superclasses in their official order, each with its fine classes by the alphabet."""

if TYPE_CHECKING:
    Superclass = str
else:
    Superclass = Literal[tuple(FINE_CLASSES)]


def _uneven(settings: "Cifar", words: str) -> str:
    """The words where classes lose images."""
    return words if settings.variant == "imbalanced" else ""


class Cifar(DatasetSettings):
    """CIFAR-20/100: CIFAR-100 with its own superclasses as classes, fine classes as subgroups.

    Class names in prompts and results have no underscores ("aquatic mammals"). Subgroup g of a
    class is the g-th of its five fine classes by the alphabet, "fine 1" to "fine 5" in the results;
    which those are stands in the dataset record's `fine_names`.
    """

    traits: ClassVar[Traits] = Traits(
        title="CIFAR-20/100",
        reader="ray_selfloop.datasets.cifar:KIND",
        subgroups="probe",
        augment="crop_flip",
        places=frozenset({"root", "download"}),
        other={
            "superclasses": lambda d: some(d.superclasses, [*FINE_CLASSES], "superclasses"),
            "minority": lambda d: _uneven(d, "minority chosen by name"),
            "minority_kept": lambda d: _uneven(
                d, f"{100 * d.minority_kept:g} % of the minority kept"
            ),
        },
        starts=("variant",),
        paper="cifar",
        unpublished=("imbalanced",),
        figures={"pretrained": "6", "scratch": "5", "grid": "11"},
        weights="both",
        accuracy=0.6,
    )

    name: Literal["cifar20_100"] = "cifar20_100"
    variant: Literal["full", "imbalanced"] = Field(
        default="full",
        description="`full`: every official training image. `imbalanced`: of two fine classes of "
        "every superclass only `minority_kept` of the training images; the test set stays whole.",
    )
    minority: dict[Superclass, tuple[str, str]] = Field(
        default_factory=dict,
        description="`imbalanced`: the two fine classes of every superclass that lose images, like "
        "{fish: [ray, shark], ...}, in the official names; {}: drawn by `seed`.",
    )
    minority_kept: float = Field(
        default=0.25,
        ge=0.02,
        lt=1,
        description="`imbalanced`: share of a minority fine class's training images that stays; "
        "2 % of 500 are ten, of which one is held out.",
    )
    superclasses: tuple[Superclass, ...] | None = Field(
        default=None,
        min_length=2,
        description="Only these superclasses, by their official names; always in the official "
        "order. null: all 20.",
    )
    reserve: Reserve = 0.0
    seed: int = Field(
        default=0,
        ge=0,
        description="Of the minority classes, the limits and the cuts: one dataset for all chains "
        "of a sweep.",
    )
    root: Path | None = Field(
        default=None,
        description="Folder that holds cifar-100-python (the official python version: train, test, "
        "meta); null: ./data. In a Ray job: absolute.",
    )
    download: bool = Field(default=False, description="Fetch CIFAR-100 when files are missing.")
    limit_train: int | None = Field(
        default=None,
        ge=100,
        description="Use only this many training images of the superclasses and variant chosen "
        "(stratified by fine class, seeded); a tenth of them is held out.",
    )
    limit_test: int | None = Field(
        default=None,
        ge=100,
        description="Use only this many of the superclasses' test images (stratified, seeded).",
    )

    @field_validator("superclasses")
    @classmethod
    def _each_once(cls, names: tuple[Superclass, ...] | None) -> tuple[Superclass, ...] | None:
        return in_order(names, FINE_CLASSES, "superclass")

    @model_validator(mode="after")
    def _minority_is_there(self) -> Self:
        if not self.minority:
            return self
        if self.variant == "full":
            raise ValueError("minority has no meaning under variant full; set variant=imbalanced")
        odd = sorted(set(self.minority) ^ set(self.classes))
        if odd:
            raise ValueError(f"minority must name each superclass that is used; at fault: {odd[0]}")
        for superclass, (one, other) in self.minority.items():
            known = FINE_CLASSES[superclass]
            if one == other or not {one, other} <= set(known):
                raise ValueError(
                    f"minority.{superclass}: must be two of {', '.join(known)}, "
                    f"not {one} and {other}"
                )
        return self

    @model_validator(mode="after")
    def _every_fine_class_has_a_held_out_image(self) -> Self:
        kept = self.minority_kept if self.variant == "imbalanced" else 1.0
        share = kept / (3 + 2 * kept)  # of a superclass's images, the smallest fine class's
        least = math.ceil(10 / share) * len(self.classes)
        if self.limit_train is not None and self.limit_train < least:
            raise ValueError(
                f"limit_train must be at least {least} here, so that each fine class of "
                f"{len(self.classes)} superclasses has an image among the held-out tenth "
                f"(found {self.limit_train})"
            )
        return self

    @property
    def read(self) -> Self:
        """With the default in the place of `minority_kept` where there is no minority."""
        return self._defaulted(*(["minority_kept"] if self.variant == "full" else []))

    @property
    def classes(self) -> tuple[Superclass, ...]:
        return self.superclasses or tuple(FINE_CLASSES)

    @property
    def start(self) -> str:
        return "" if self.variant == "full" else self.variant

    @property
    def groups(self) -> int:
        return GROUPS

    @property
    def test_images(self) -> list[list[float]]:
        """By superclass and fine class."""
        cells = limited([FINE_TEST] * GROUPS * len(self.classes), self.limit_test)
        return [cells[:GROUPS] for _ in self.classes]
