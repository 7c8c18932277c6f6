"""Which data, and how its subgroups are made.

`PLACES` say where files are; what is in the files enters a key, never where they lie.
"""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple, Self, get_args

from pydantic import Field, field_validator, model_validator

from ray_selfloop.config.base import Path, Settings


class Traits(NamedTuple):
    """What others ask of a kind of dataset.

    reader: ``module:object`` of what reads it, loaded by who needs it alone. subgroups: how the
    subgroup of a generated image is read, or ``none`` where there are no subgroups.
    """

    reader: str
    subgroups: Literal["pixels", "probe", "none"]


Share = Annotated[float, Field(ge=0, le=1)]


class ColorizedDigits(Settings):
    """scikit-learn's bundled 8x8 digit scans in three colours; needs no download."""

    traits: ClassVar[Traits] = Traits(
        reader="ray_selfloop.datasets.coloured:KIND", subgroups="pixels"
    )

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
    root: Path | None = Field(default=None, description="Unused: the scans come with scikit-learn.")

    @model_validator(mode="after")
    def _ratios_add_up(self) -> Self:
        if abs(sum(self.ratios) - 1) > 1e-9:
            raise ValueError(f"ratios must add up to 1, not {sum(self.ratios):g}")
        return self

    @property
    def read(self) -> Self:
        """With the default in the place of `ratios` where all colours are as frequent."""
        return self._defaulted(*(["ratios"] if self.initialization == "unbiased" else []))


class ColorizedMnist(ColorizedDigits):
    """MNIST in three colours."""

    name: Literal["colorized_mnist"] = "colorized_mnist"  # type: ignore[assignment]
    root: Path | None = Field(
        default=None,
        description="Folder that holds MNIST/raw; null: ./data. In a Ray job: absolute.",
    )
    download: bool = Field(default=False, description="Fetch MNIST when files are missing.")
    limit_train: int | None = Field(
        default=None,
        ge=200,
        description="Use only this many of the official training images (stratified, seeded); a "
        "tenth of them is held out, two digits of each class at least.",
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

    traits: ClassVar[Traits] = Traits(reader="ray_selfloop.datasets.cifar:KIND", subgroups="probe")

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
    def read(self) -> Self:
        """With the default in the place of `minority_kept` where there is no minority."""
        return self._defaulted(*(["minority_kept"] if self.variant == "full" else []))

    @property
    def classes(self) -> tuple[Superclass, ...]:
        """The superclasses used, in the official order."""
        return self.superclasses or get_args(Superclass)


class ImageNetPictures(Settings):
    """What the datasets cut from ImageNet have in common: pictures of any size, decoded by need."""

    root: Path | None = Field(
        default=None,
        description="ImageNet's folder: train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, val sorted into "
        "wnids; null: ./data. In a Ray job: absolute.",
    )
    side: int = Field(
        default=224,
        ge=8,
        le=1024,
        description="Pixels of a picture as classifiers and filter see it: the centre of `frame`.",
    )
    frame: int = Field(
        default=256,
        ge=8,
        le=1024,
        description="Pixels that a picture is resized to (bilinear) before its centre is cut out.",
    )
    fit: Literal["stretch", "crop"] = Field(
        default="crop",
        description="`stretch`: to frame x frame whatever the picture's shape. `crop`: its shorter "
        "side to frame.",
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
        description="Of the limits and the cuts: one dataset for all chains of a sweep.",
    )
    limit_train: int | None = Field(
        default=None,
        ge=10,
        description="Use only this many of the training images (stratified, seeded); a tenth of "
        "them is held out.",
    )
    limit_test: int | None = Field(
        default=None, ge=10, description="Use only this many test images (stratified, seeded)."
    )
    damaged: Literal["refuse", "leave_out"] = Field(
        default="refuse",
        description="What to do where a picture or a mask is damaged. `refuse`: name it and stop, "
        "before anything runs. `leave_out`: go on without it; the record and the report name it. "
        "Damaged is what cannot be read, what no decoder reads without a warning, and what differs "
        "from a SHA256SUMS (as `sha256sum` writes it) beside `train` and `val`.",
    )

    @model_validator(mode="after")
    def _side_within_frame(self) -> Self:
        if self.side > self.frame:
            raise ValueError(f"side must be at most frame ({self.frame}), not {self.side}")
        return self

    def _require_limits(self, train: int, test: int, cells: str, count: int) -> None:
        """Raise where a limit is under what each of ``count`` cells needs."""
        for name, each in {"limit_train": train, "limit_test": test}.items():
            found = getattr(self, name)
            if found is not None and found < each * count:
                raise ValueError(
                    f"{name} must be at least {each * count} here, {each} for each of {count} "
                    f"{cells} (found {found})"
                )


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
        reader="ray_selfloop.datasets.hard_imagenet:KIND", subgroups="none"
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


LivingSuperclass = Literal[
    "salamander",
    "turtle",
    "lizard",
    "snake",
    "spider",
    "grouse",
    "parrot",
    "crab",
    "dog",
    "wolf",
    "fox",
    "domestic cat",
    "bear",
    "beetle",
    "butterfly",
    "ape",
    "monkey",
]

NonlivingSuperclass = Literal[
    "bag",
    "ball",
    "boat",
    "body armor",
    "bottle",
    "bus",
    "car",
    "chair",
    "coat",
    "digital computer",
    "dwelling",
    "fence",
    "hat",
    "keyboard instrument",
    "mercantile establishment",
    "outbuilding",
    "percussion instrument",
    "pot",
    "roof",
    "ship",
    "skirt",
    "stringed instrument",
    "timepiece",
    "truck",
    "wind instrument",
    "squash",
]

BreedsSuperclass = Literal[LivingSuperclass, NonlivingSuperclass]

BREEDS_SUPERCLASSES: Mapping[str, tuple[str, ...]] = {
    "living17": get_args(LivingSuperclass),
    "nonliving26": get_args(NonlivingSuperclass),
}
"""`benchmark` -> its superclasses in the official order, which is that of their WordNet ids."""


class Breeds(ImageNetPictures):
    """Breeds: superclasses of ImageNet's hierarchy, each with four ImageNet classes as subgroups.

    Subgroup g of a class is the g-th of its four subclasses in the order of their WordNet ids,
    "subclass 1" to "subclass 4" in the results; which those are stands in the dataset record's
    `fine_names`. Source and target domain are not told apart: all four are in training and test.
    """

    traits: ClassVar[Traits] = Traits(reader="ray_selfloop.datasets.breeds:KIND", subgroups="probe")

    name: Literal["breeds"] = "breeds"
    benchmark: Literal["living17", "nonliving26"] = Field(
        default="living17",
        description="`living17`: 17 superclasses of animals. `nonliving26`: 26 of things.",
    )
    hierarchy: Path | None = Field(
        default=None,
        description="Folder with class_hierarchy.txt, dataset_class_info.json and node_names.txt, "
        "the BREEDS authors' edited hierarchy; null: "
        "BREEDS-Benchmarks/imagenet_class_hierarchy/modified inside `root`. In a Ray job: "
        "absolute.",
    )
    superclasses: tuple[BreedsSuperclass, ...] | None = Field(
        default=None,
        min_length=2,
        description="Only these superclasses; always in the official order. null: all.",
    )

    @field_validator("superclasses")
    @classmethod
    def _each_once(
        cls, names: tuple[BreedsSuperclass, ...] | None
    ) -> tuple[BreedsSuperclass, ...] | None:
        if names is None:
            return None
        if len(set(names)) != len(names):
            raise ValueError("a superclass is listed twice")
        return tuple(name for name in get_args(BreedsSuperclass) if name in names)

    @model_validator(mode="after")
    def _superclasses_of_the_benchmark(self) -> Self:
        known = BREEDS_SUPERCLASSES[self.benchmark]
        strange = [name for name in self.superclasses or () if name not in known]
        if strange:
            raise ValueError(f"{strange[0]} is none of {self.benchmark}: {', '.join(known)}")
        return self

    @model_validator(mode="after")
    def _limits_reach_every_subclass(self) -> Self:
        # so that the held-out tenth has an image of each, which the subgroup probe needs
        self._require_limits(10, 1, "subclasses", 4 * len(self.class_names))
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """The superclasses used, in the official order."""
        return self.superclasses or BREEDS_SUPERCLASSES[self.benchmark]


PLACES = frozenset({"root", "download", "masks", "hierarchy"})
"""The fields of a dataset that say where files are; what is in the files enters a key."""

NOT_IN_KEY = PLACES | {"damaged"}
"""Those, and what is done with damaged files: which are left out is told by the data's source."""

Dataset = Annotated[
    ColorizedDigits | ColorizedMnist | Cifar | HardImageNet | Breeds, Field(discriminator="name")
]
