"""Which data, and how its subgroups are made.

`root` and `download` say where files are; what is in the files enters a key by content.
"""

import math
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from ray_selfloop.config.base import Settings

Share = Annotated[float, Field(ge=0, le=1)]


class ColorizedDigits(Settings):
    """scikit-learn's bundled 8x8 digit scans in three colours; needs no download."""

    name: Literal["colorized_digits"] = "colorized_digits"
    initialization: Literal["unbiased", "biased", "spurious"] = Field(
        default="unbiased",
        description="`unbiased`: equal colour shares. `biased`: `ratios` in every class. "
        "`spurious`: `ratios` rotated by the class, so that colour tells the class.",
    )
    ratios: tuple[Share, Share, Share] = Field(
        default=(0.7, 0.2, 0.1), description="Shares of red, blue, green; they add up to 1."
    )
    test_colours: Literal["crossed", "random"] = Field(
        default="crossed",
        description="`crossed`: every test image in every colour. `random`: shares as in training.",
    )
    reserve: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the training images set apart for the held_out_real control.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        description="Of the held-out cut and the colours: one dataset for all chains of a sweep.",
    )
    root: str | None = Field(default=None, description="Unused: the scans come with scikit-learn.")

    @model_validator(mode="after")
    def _ratios_add_up(self) -> Self:
        if abs(sum(self.ratios) - 1) > 1e-9:
            raise ValueError(f"ratios must add up to 1, not {sum(self.ratios):g}")
        return self


class ColorizedMnist(ColorizedDigits):
    """MNIST in three colours."""

    name: Literal["colorized_mnist"] = "colorized_mnist"  # type: ignore[assignment]
    root: str | None = Field(
        default=None,
        description="Folder that holds MNIST/raw; null: ./data. In a Ray job: absolute.",
    )
    download: bool = Field(default=False, description="Fetch MNIST when files are missing.")
    limit_train: int | None = Field(
        default=None,
        ge=100,
        description="Use only this many of the official training images (stratified, seeded).",
    )
    limit_test: int | None = Field(
        default=None, ge=100, description="Use only this many of the official test images."
    )


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

Superclass = Literal[
    "aquatic_mammals",
    "fish",
    "flowers",
    "food_containers",
    "fruit_and_vegetables",
    "household_electrical_devices",
    "household_furniture",
    "insects",
    "large_carnivores",
    "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores",
    "medium_mammals",
    "non-insect_invertebrates",
    "people",
    "reptiles",
    "small_mammals",
    "trees",
    "vehicles_1",
    "vehicles_2",
]


class Cifar(Settings):
    """CIFAR-20/100: CIFAR-100 with its own superclasses as classes, fine classes as subgroups.

    Class names in prompts and results have no underscores ("aquatic mammals"). Subgroup g of a
    class is the g-th of its five fine classes by the alphabet, "fine 1" to "fine 5" in the results;
    which those are stands in the dataset record's `fine_names`.
    """

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
        gt=0,
        lt=1,
        description="`imbalanced`: share of a minority fine class's training images that stays.",
    )
    superclasses: tuple[Superclass, ...] | None = Field(
        default=None,
        min_length=2,
        description="Only these superclasses, by their official names; always in the official "
        "order. null: all 20.",
    )
    reserve: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the training images set apart for the held_out_real control.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        description="Of the minority classes, the limits and the cuts: one dataset for all chains "
        "of a sweep.",
    )
    root: str | None = Field(
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
        if names is None:
            return None
        if len(set(names)) != len(names):
            raise ValueError("a superclass is listed twice")
        return tuple(name for name in get_args(Superclass) if name in names)

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
    def classes(self) -> tuple[Superclass, ...]:
        """The superclasses used, in the official order."""
        return self.superclasses or get_args(Superclass)


Dataset = Annotated[ColorizedDigits | ColorizedMnist | Cifar, Field(discriminator="name")]
