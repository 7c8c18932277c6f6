"""Breeds: which benchmark, and which of its superclasses."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from ray_selfloop.config.base import Path
from ray_selfloop.config.datasets.base import FRAMED, Traits, in_order, some
from ray_selfloop.config.datasets.imagenet import ImageNetPictures
from ray_selfloop.config.datasets.pictures import SEEN

GROUPS = 4  # subclasses of a superclass

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

    traits: ClassVar[Traits] = Traits(
        title="Breeds",
        reader="ray_selfloop.datasets.breeds:KIND",
        pictures=True,
        subgroups="probe",
        augment=FRAMED,
        places=frozenset({"root", "hierarchy"}),
        other={
            "superclasses": lambda d: some(
                d.superclasses, BREEDS_SUPERCLASSES[d.benchmark], "superclasses"
            )
        },
        fewer=SEEN,
        starts=("benchmark",),
        start_titles={"living17": "LIVING-17", "nonliving26": "NONLIVING-26"},
        paper="breeds",
        figures={"ranked": "7"},
        weights="imagenet",
        ends_alone=True,
        accuracy=0.9,
    )

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
        return in_order(names, get_args(BreedsSuperclass), "superclass")

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
        self._require_limits(10, 1, "subclasses", self.groups * len(self.class_names))
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.superclasses or BREEDS_SUPERCLASSES[self.benchmark]

    @property
    def start(self) -> str:
        return self.benchmark

    @property
    def groups(self) -> int:
        return GROUPS
