"""Settings of a generator that is somebody else's: its images lie in folders."""

import os
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from ray_selfloop.config.base import Path
from ray_selfloop.config.generators.base import GeneratorSettings, Traits


class FolderOfImages(GeneratorSettings):
    """Images that another program has made: ROOT/gen_1/CLASS/*.png, one folder per generation."""

    name: Literal["folder"] = Field(default="folder", description="Selects this kind of generator.")
    root: Path = Field(
        min_length=1,
        description="Folder with one folder per generation, and in it one per class, named as the "
        "dataset names it. A generation draws from its own, by seed, none twice; the files (PNG, "
        "JPEG, WebP) count by their content.",
    )
    generation: str = Field(
        default="gen_{}",
        description="Name of a generation's folder in root; {} is its number, from 1.",
    )
    traits: ClassVar[Traits] = Traits(
        worker="ray_selfloop.generators.folder:GENERATOR",
        draws="either",
        trained=False,
        by_turn=True,
        check="ray_selfloop.generators.folder:check",
        content="ray_selfloop.generators.folder:content",
    )
    PLACES: ClassVar[frozenset[str]] = frozenset({"root", "generation"})

    @field_validator("generation")
    @classmethod
    def _takes_a_number(cls, name: str) -> str:
        if name.count("{}") != 1 or set(name.replace("{}", "")) & set("{}/"):
            raise ValueError(f"{name!r} must hold {{}} exactly once, no other brace and no /")
        return name

    def places(self) -> dict[str, Any]:
        """The root has one path for all workers."""
        return {**super().places(), "root": os.path.abspath(self.root)}
