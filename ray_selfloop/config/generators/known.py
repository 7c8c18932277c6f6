"""The generators that there are: a new one is a line here, its settings' file and its worker's."""

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import Field

from ray_selfloop.config.generators.base import GeneratorSettings
from ray_selfloop.config.generators.control import DuplicateReal, HeldOutReal
from ray_selfloop.config.generators.ddpm import Ddpm
from ray_selfloop.config.generators.diffusion import StableDiffusion
from ray_selfloop.config.generators.folder import FolderOfImages
from ray_selfloop.config.generators.gan import ConditionalGan

Generator = Annotated[
    ConditionalGan  # the first that draws what a dataset consists of is the one for it
    | StableDiffusion
    | DuplicateReal
    | HeldOutReal
    | FolderOfImages
    | Ddpm,
    Field(discriminator="name"),
]
KINDS: Mapping[str, type[GeneratorSettings]] = {
    kind.model_fields["name"].default: kind for kind in get_args(get_args(Generator)[0])
}
"""`generator.name` -> its settings."""
DEFAULT = next(iter(KINDS))
"""What a sweep file means that names none."""


def of(described: Mapping[str, Any]) -> GeneratorSettings:
    """Settings from what a key and its places hold of them; what else stands there is left out."""
    kind = KINDS[described["name"]]
    own = {name: value for name, value in described.items() if name in kind.model_fields}
    return kind.model_validate(own)


def fitting(images: str) -> str:
    """The name of the generator that draws ``arrays`` or ``pictures``."""
    return next(name for name, kind in KINDS.items() if kind.traits.draws == images)


def for_any() -> tuple[str, ...]:
    """The names of those that draw whatever images a dataset has."""
    return tuple(name for name, kind in KINDS.items() if kind.traits.draws == "either")
