"""Settings of a small diffusion model; every value here is part of a stage's key.

The defaults fit 8x8 colorized digits (about 1,300 images) within 4 core-minutes. Larger images want
more width, layers and steps, and a GPU; how much 28x28 and 32x32 need was not measured.
"""

import math
from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from ray_selfloop.config.generators.base import GeneratorSettings, Traits


class Ddpm(GeneratorSettings):
    """A class-conditional diffusion model in pixels, trained from scratch in each generation."""

    name: Literal["ddpm"] = Field(default="ddpm", description="Selects this kind of generator.")
    start: Literal["scratch", "previous"] = Field(
        default="scratch",
        description="Initial weights of a generation: fresh ones, or those of the previous "
        "generation's generator.",
    )
    width: int = Field(
        default=32,
        ge=8,
        multiple_of=8,
        description="UNet's channels at full resolution; twice as many at each lower one.",
    )
    layers: PositiveInt = Field(
        default=1, description="Residual layers of the UNet at each resolution."
    )
    batch_size: PositiveInt = Field(default=64, description="Images per optimiser step.")
    learning_rate: PositiveFloat = Field(
        default=2e-3, description="Adam, constant after the warm-up."
    )
    warmup_steps: int = Field(
        default=100, ge=0, description="Steps over which the learning rate grows linearly."
    )
    clip_norm: PositiveFloat = Field(
        default=1.0, description="Gradients of one step are scaled down to this norm."
    )
    ema_decay: float = Field(
        default=0.995,
        ge=0.0,
        lt=1.0,
        description="Decay per step of the averaged weights that are sampled from.",
    )
    sampler: Literal["ddim", "dpmsolver++"] = Field(
        default="ddim",
        description="Solver that draws images; both are deterministic given the first noise.",
    )
    sampler_steps: int = Field(default=20, ge=1, le=1_000, description="Solver steps per image.")
    budget: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="Share of max_steps, min_steps and patience_steps that is granted (rounded "
        "up): less trained generators by intervention, for the q of eq. 6.",
    )
    max_steps: PositiveInt = Field(
        default=2_000, description="Budget: optimiser steps after which training ends."
    )
    min_steps: int = Field(default=1_000, ge=0, description="No early stop before this step.")
    check_every: PositiveInt = Field(
        default=500, description="Steps between two looks at the stopping criterion."
    )
    patience_steps: PositiveInt = Field(
        default=1_000,
        description="Converged: the criterion has not improved for this many steps.",
    )
    check_samples: int = Field(
        default=300,
        ge=30,
        description="Samples drawn for one look at the stopping criterion, which compares classes "
        "that have two or more.",
    )
    collapse_ratio: float = Field(
        default=0.6,
        gt=0.0,
        lt=1.0,
        description="Collapsed: the mean within-class diversity of the samples is below this "
        "fraction of the held-out real images'.",
    )
    traits: ClassVar[Traits] = Traits(
        worker="ray_selfloop.generators.ddpm:GENERATOR", draws="arrays"
    )

    @property
    def granted(self) -> dict[str, int]:
        """Optimiser steps: ``budget``, ``minimum`` and ``patience`` after the budget's share."""
        steps = {
            "budget": self.max_steps,
            "minimum": self.min_steps,
            "patience": self.patience_steps,
        }
        return {name: math.ceil(self.budget * count) for name, count in steps.items()}
