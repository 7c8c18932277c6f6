"""Settings of the conditional GAN; every value here is part of a stage's key.

Budgets are counted in optimiser steps, never in seconds: a result must not depend on the machine.
The defaults fit 8x8 colorized digits (about 1,300 images) within 25 core-seconds. For 28x28 scans
halve both learning rates (generator 2e-3, discriminator 1e-3) and set generator_width 96 or more.
For 32x32 photographs, at those rates: generator_width 128, upsampling `nearest` (a transposed
convolution leaves a chequered pattern) and discriminator_gain 1.6.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

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

Beta = Annotated[float, Field(ge=0, lt=1)]


class ConditionalGan(LookedAt):
    """A DCGAN-style conditional GAN, trained from scratch in each generation."""

    name: Literal["conditional_gan"] = Field(
        default="conditional_gan", description="Selects this kind of generator."
    )
    latent_size: PositiveInt = Field(default=32, description="Dimensions of the noise vector.")
    generator_width: int = Field(
        default=64,
        ge=8,
        description="Generator's channels at its lowest resolution; halved at each doubling.",
    )
    upsampling: Literal["transposed", "nearest"] = Field(
        default="transposed",
        description="Doubling in the generator: a transposed 4x4 convolution, or nearest "
        "neighbours and a 3x3 convolution.",
    )
    discriminator_width: PositiveInt = Field(
        default=32,
        description="Discriminator's channels after its first convolution; doubled at each next.",
    )
    discriminator_features: int = Field(
        default=128,
        ge=2,
        description="Features of an image from which the discriminator judges it; half as many of "
        "a group.",
    )
    discriminator_gain: PositiveFloat = Field(
        default=1.0,
        description="Factor after each of the discriminator's activations. Spectral normalisation "
        "and leaky ReLU about halve the signal at each layer, so that deep discriminators (32 "
        "pixels and more) hardly leave 0 with 1.",
    )
    batch_size: int = Field(
        default=64, ge=2, description="Images per optimiser step; a multiple of group_size."
    )
    group_size: int = Field(
        default=8,
        ge=2,
        description="Images of one class that the discriminator judges together. It sees the "
        "spread of its features within the group; without that, one colour per class is enough "
        "to fool it.",
    )
    generator_learning_rate: PositiveFloat = Field(default=4e-3, description="Adam, generator.")
    discriminator_learning_rate: PositiveFloat = Field(
        default=2e-3, description="Adam, discriminator."
    )
    betas: tuple[Beta, Beta] = Field(default=(0.0, 0.99), description="Adam's betas, both nets.")
    ema_decay: Decay = Field(
        default=0.99,
        description="Decay per step of the averaged generator weights that are sampled from.",
    )
    augment: Literal[
        "none",
        "flip",
        "translate",
        "flip_translate",
        "translate_cutout",
        "flip_translate_cutout",
        "colour_translate_cutout",
        "flip_colour_translate_cutout",
    ] = Field(
        default="none",
        description="What happens to every image, real or generated, before it is judged; for "
        "small natural-image sets. flip: half of the images mirrored; translate: by up to an "
        "eighth of the side; cutout: a square of half the side gray; colour: brightness, "
        "saturation, contrast (not where colour is the subgroup).",
    )
    max_steps: MaxSteps = 1_500
    min_steps: MinSteps = 800
    check_every: CheckEvery = 100
    patience_steps: PatienceSteps = 600
    check_samples: CheckSamples = 1_000
    collapse_ratio: Ratio = Field(
        default=0.6,
        description="Collapsed: the mean within-class diversity of the samples is below this "
        "fraction of the held-out real images'. One colour per class gives about 0.4, sound "
        "training 0.85 and more.",
    )

    @model_validator(mode="after")
    def _groups_fill_the_batch(self) -> Self:
        if self.batch_size % self.group_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of group_size {self.group_size}"
            )
        return self

    traits: ClassVar[Traits] = Traits(
        worker="ray_selfloop.generators.gan.conditional_gan:GENERATOR", draws="arrays", paper=True
    )
