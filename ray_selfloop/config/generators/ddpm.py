"""Settings of a small diffusion model; every value here is part of a stage's key.

The defaults fit 8x8 colorized digits (about 1,300 images) within 4 core-minutes. Larger images want
more width, layers and steps, and a GPU; how much 28x28 and 32x32 need was not measured.
"""

from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from ray_selfloop.config.generators.base import Traits
from ray_selfloop.config.generators.looked import (
    CheckEvery,
    CheckSamples,
    Decay,
    LookedAt,
    MaxSteps,
    MinSteps,
    PatienceSteps,
    Ratio,
)

LEVELS = 1_000  # of noise in training, which a solver of as many steps visits one by one


class Ddpm(LookedAt):
    """A class-conditional diffusion model in pixels, trained from scratch in each generation."""

    name: Literal["ddpm"] = Field(default="ddpm", description="Selects this kind of generator.")
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
    ema_decay: Decay = Field(
        default=0.995,
        description="Decay per step of the averaged weights that are sampled from.",
    )
    sampler: Literal["ddim", "dpmsolver++"] = Field(
        default="ddim",
        description="Solver that draws images; both are deterministic given the first noise.",
    )
    sampler_steps: int = Field(default=20, ge=1, le=LEVELS, description="Solver steps per image.")
    max_steps: MaxSteps = 2_000
    min_steps: MinSteps = 1_000
    check_every: CheckEvery = 500
    patience_steps: PatienceSteps = 1_000
    check_samples: CheckSamples = 300
    collapse_ratio: Ratio = Field(
        default=0.6,
        description="Collapsed: the mean within-class diversity of the samples is below this "
        "fraction of the held-out real images'.",
    )
    traits: ClassVar[Traits] = Traits(
        worker="ray_selfloop.generators.ddpm:GENERATOR", draws="arrays"
    )
