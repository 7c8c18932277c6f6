"""Settings of the control generators: real images in the place of generated ones."""

from typing import ClassVar, Literal

from pydantic import Field

from ray_selfloop.config.generators.base import GeneratorSettings, Traits


class DuplicateReal(GeneratorSettings):
    """Control: the original training images again, drawn by seed; no new information."""

    name: Literal["duplicate_real"] = Field(
        default="duplicate_real", description="Selects this kind of generator."
    )
    traits: ClassVar[Traits] = Traits(
        worker="ray_selfloop.generators.control:DUPLICATE", draws="either", trained=False, real=True
    )


class HeldOutReal(GeneratorSettings):
    """Control: a perfect generator, real images from the reserve, none of them twice in a chain."""

    name: Literal["held_out_real"] = Field(
        default="held_out_real", description="Selects this kind of generator."
    )
    traits: ClassVar[Traits] = Traits(
        worker="ray_selfloop.generators.control:HELD_OUT",
        draws="either",
        trained=False,
        real=True,
        by_turn=True,
        check="ray_selfloop.generators.control:check",
    )
