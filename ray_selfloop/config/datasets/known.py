"""Every kind of dataset that a sweep can name: the one place to write a new one into."""

from typing import Annotated, get_args

from pydantic import Field

from ray_selfloop.config.datasets.base import DatasetSettings, Traits
from ray_selfloop.config.datasets.breeds import Breeds
from ray_selfloop.config.datasets.cifar import Cifar
from ray_selfloop.config.datasets.coloured import ColorizedDigits, ColorizedMnist
from ray_selfloop.config.datasets.hard_imagenet import HardImageNet

Dataset = Annotated[
    ColorizedDigits | ColorizedMnist | Cifar | HardImageNet | Breeds, Field(discriminator="name")
]

DEFAULT = ColorizedDigits
KINDS: dict[str, type[DatasetSettings]] = {
    kind.model_fields["name"].default: kind for kind in get_args(get_args(Dataset)[0])
}
"""`dataset.name` -> its settings."""

PLACES = frozenset[str]().union(*(kind.traits.places for kind in KINDS.values()))
"""The fields of a dataset that say where files are; what is in the files enters a key."""

NOT_IN_KEY = PLACES | {"damaged"}
"""Those, and what is done with damaged files: which are left out is told by the data's source."""


def traits_of(name: str) -> Traits:
    """Of a dataset by its name; of an unknown one nothing but that name."""
    return KINDS[name].traits if name in KINDS else Traits(title=name, reader="")
