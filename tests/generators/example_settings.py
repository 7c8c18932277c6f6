"""config/generators/mean.py, of the example in docs/extending.md."""

from typing import ClassVar, Literal

from pydantic import Field

from ray_selfloop.config.generators.base import GeneratorSettings, Traits


class Mean(GeneratorSettings):
    """The mean image of a class, and noise."""

    name: Literal["mean"] = "mean"
    noise: float = Field(default=20.0, ge=0, description="Its deviation, in gray levels.")
    traits: ClassVar[Traits] = Traits(
        worker="ray_selfloop.generators.mean:GENERATOR", draws="arrays"
    )
