"""Which generator, and with which hyperparameters; every value here is part of a stage's key.

Budgets are counted in optimiser steps, never in seconds: a result must not depend on the machine.
The defaults fit 8x8 colorized digits (about 1,300 images) within 25 core-seconds. For 28x28 scans
halve both learning rates (generator 2e-3, discriminator 1e-3) and set generator_width 96 or more.
For 32x32 photographs, at those rates: generator_width 128, upsampling `nearest` (a transposed
convolution leaves a chequered pattern) and discriminator_gain 1.6.
"""

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ray_selfloop.config.base import Path, Settings

Beta = Annotated[float, Field(ge=0, lt=1)]


class ConditionalGan(Settings):
    """A DCGAN-style conditional GAN, trained from scratch in each generation."""

    name: Literal["conditional_gan"] = Field(
        default="conditional_gan", description="Selects this kind of generator."
    )
    start: Literal["scratch", "previous"] = Field(
        default="scratch",
        description="Initial weights of a generation: fresh ones, or those of the previous "
        "generation's generator.",
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
    ema_decay: float = Field(
        default=0.99,
        ge=0.0,
        lt=1.0,
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
    budget: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="Share of max_steps, min_steps and patience_steps that is granted (rounded "
        "up): less trained generators by intervention, for the q of eq. 6.",
    )
    max_steps: PositiveInt = Field(
        default=1_500, description="Budget: optimiser steps after which training ends."
    )
    min_steps: int = Field(default=800, ge=0, description="No early stop before this step.")
    check_every: PositiveInt = Field(
        default=100, description="Steps between two looks at the stopping criterion."
    )
    patience_steps: PositiveInt = Field(
        default=600,
        description="Converged: the criterion has not improved for this many steps.",
    )
    check_samples: int = Field(
        default=1_000,
        ge=30,
        description="Samples drawn for one look at the stopping criterion, which compares classes "
        "that have two or more.",
    )
    collapse_ratio: float = Field(
        default=0.6,
        gt=0.0,
        lt=1.0,
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

    @property
    def granted(self) -> dict[str, int]:
        """Optimiser steps: ``budget``, ``minimum`` and ``patience`` after the budget's share."""
        steps = {
            "budget": self.max_steps,
            "minimum": self.min_steps,
            "patience": self.patience_steps,
        }
        return {name: math.ceil(self.budget * count) for name, count in steps.items()}


class StableDiffusion(Settings):
    """A Stable Diffusion base with LoRA on its UNet's attention, fine-tuned in each generation."""

    name: Literal["stable_diffusion"] = Field(
        default="stable_diffusion", description="Selects this kind of generator."
    )
    start: Literal["scratch", "previous"] = Field(
        default="scratch",
        description="Initial adapters of a generation: fresh ones, without effect at the start, "
        "or those of the previous generation's fine-tune. The base is always the same.",
    )
    base: Path = Field(
        default="stable-diffusion-v1-5/stable-diffusion-v1-5",
        min_length=1,
        description="What is fine-tuned: a folder in diffusers' layout (safetensors weights), or "
        "the id of one on the Hugging Face hub.",
    )
    revision: str = Field(
        default="main",
        min_length=1,
        description="Branch, tag or commit of a hub id; not read where `base` is a folder. A "
        "branch can move under the same key: give a commit where that matters (the one that was "
        "loaded stands in the generator's record).",
    )
    prompt: str = Field(
        default="a photo of a {}",
        description="Text of a picture, in training and in sampling; {} is the class name.",
    )
    rank: PositiveInt = Field(default=4, description="Rank of each adapter.")
    alpha: PositiveFloat | None = Field(
        default=None,
        description="An adapter's output is multiplied by alpha / rank; null: by 1.",
    )
    targets: tuple[Literal["to_q"], Literal["to_k"], Literal["to_v"], Literal["to_out.0"]] = Field(
        default=("to_q", "to_k", "to_v", "to_out.0"),
        description="Layers that get an adapter: all of the UNet's attention, not selectable.",
    )
    resolution: PositiveInt = Field(
        default=512,
        multiple_of=8,
        description="Side of the pictures, in pixels, in training and in sampling; a multiple of "
        "8 and of the factor by which the base's VAE shrinks pictures.",
    )
    flips: bool = Field(
        default=False,
        description="Half of the pictures, drawn by seed, are seen mirrored; their latents are "
        "cached as a second set.",
    )
    steps: PositiveInt = Field(default=5_000, description="Budget: optimiser steps.")
    learning_rate: PositiveFloat = Field(
        default=1e-4, description="AdamW, constant after the warm-up."
    )
    weight_decay: float = Field(default=1e-2, ge=0.0, description="AdamW's, on the adapters.")
    warmup_steps: int = Field(
        default=0, ge=0, description="Steps over which the learning rate grows linearly."
    )
    clip_norm: PositiveFloat = Field(
        default=1.0, description="Gradients of one step are scaled down to this norm."
    )
    batch_size: PositiveInt = Field(
        default=4, description="Pictures per optimiser step, over all workers and micro-batches."
    )
    accumulation: PositiveInt = Field(
        default=1,
        description="Micro-batches per optimiser step and worker: less memory, the same step.",
    )
    workers: PositiveInt = Field(
        default=1, description="Processes, one GPU each, that share one fine-tune."
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32",
        description="Of the base's UNet and its arithmetic, in training and in sampling. The "
        "optimiser's copy of the adapters, the loss, the text encoder and the VAE are float32 "
        "always; float16 scales the loss by need.",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Activations are computed again in the backward pass: less memory, slower.",
    )
    compile: bool = Field(
        default=False,
        description="UNet compiled by torch.compile for training: faster steps after a start of "
        "minutes; numbers differ in the last bits.",
    )
    cache_latents: bool = Field(
        default=True,
        description="The VAE sees each picture of a training set once, in a stage of its own; "
        "else each time that the picture is drawn.",
    )
    check_every: PositiveInt = Field(
        default=100, description="Steps between two looks at the losses."
    )
    check_pictures: PositiveInt = Field(
        default=64,
        description="Held-out pictures, drawn by seed, whose loss each look takes; all of them "
        "where there are fewer.",
    )
    checkpoint_every: int = Field(
        default=500,
        ge=0,
        description="Steps between two checkpoints, where a killed fine-tune goes on; 0: none.",
    )
    guidance: float = Field(
        default=7.5, ge=1.0, description="Scale of classifier-free guidance; 1 is without."
    )
    sampler: Literal["ddim", "dpmsolver++", "euler", "pndm"] = Field(
        default="ddim",
        description="Solver that draws pictures; all of these are deterministic given the first "
        "latents.",
    )
    sampler_steps: PositiveInt = Field(default=50, description="Solver steps per picture.")
    sample_memory: PositiveFloat = Field(
        default=12.0,
        description="GB that sampling may take; decides how many pictures are drawn at once.",
    )
    most_at_once: PositiveInt = Field(
        default=32,
        description="Pictures drawn at once, however much memory there is; a power of two.",
    )
    picture_format: Literal["jpeg", "png", "webp"] = Field(
        default="jpeg",
        description="File format of the pictures that are drawn: JPEG at quality 95 without "
        "chroma subsampling; the others are lossless.",
    )

    @model_validator(mode="after")
    def _prompt_takes_a_class_name(self) -> Self:
        rest = self.prompt.replace("{}", "", 1)
        if "{}" not in self.prompt or set(rest) & set("{}"):
            raise ValueError(f"prompt {self.prompt!r} must hold {{}} exactly once, no other brace")
        return self

    @model_validator(mode="after")
    def _micro_batches_fill_the_batch(self) -> Self:
        if self.batch_size % self.micro_batches:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulation x workers = "
                f"{self.accumulation} x {self.workers}"
            )
        return self

    @model_validator(mode="after")
    def _most_at_once_is_a_power_of_two(self) -> Self:
        if self.most_at_once & (self.most_at_once - 1):
            raise ValueError(f"most_at_once {self.most_at_once} is not a power of two")
        return self

    SAMPLING: ClassVar[frozenset[str]] = frozenset(
        {
            "guidance",
            "sampler",
            "sampler_steps",
            "sample_memory",
            "most_at_once",
            "picture_format",
        }
    )
    """Fields that a fine-tune does not depend on."""
    TRAINING: ClassVar[frozenset[str]] = frozenset(
        {
            "start",
            "flips",
            "steps",
            "learning_rate",
            "weight_decay",
            "warmup_steps",
            "clip_norm",
            "batch_size",
            "accumulation",
            "workers",
            "gradient_checkpointing",
            "compile",
            "cache_latents",
            "check_every",
            "check_pictures",
            "checkpoint_every",
        }
    )
    """Fields that drawing from adapters does not depend on."""
    PLACES: ClassVar[frozenset[str]] = frozenset({"base", "revision", "checkpoint_every"})
    """Fields that no result depends on: the base counts by its content."""

    @property
    def micro_batches(self) -> int:
        """Micro-batches of one optimiser step, over all workers."""
        return self.accumulation * self.workers

    @property
    def scale(self) -> float:
        """What an adapter's output is multiplied by."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    @property
    def sample_batch(self) -> int:
        """Pictures drawn at once: a power of two, from ``sample_memory`` and ``most_at_once``.

        Counted from the layers of SD 1.5, not measured: the weights of the UNet (860 million) in
        ``precision`` and of the VAE (84 million) in float32; four float32 maps of 256 channels at
        full size, while the VAE decodes one picture; and for each picture, with and without its
        prompt, 50 million activations of the UNet at 512 pixels, in ``precision``.
        """
        size = 4 if self.precision == "float32" else 2
        area = self.resolution**2
        fixed = 860e6 * size + 84e6 * 4 + 4 * 256 * area * 4
        each = 2 * 50e6 * size * area / 512**2
        fit = (self.sample_memory * 1e9 - fixed) / each
        return min(self.most_at_once, 2 ** math.floor(math.log2(max(1.0, fit))))


class DuplicateReal(Settings):
    """Control: the original training images again, drawn by seed; no new information."""

    name: Literal["duplicate_real"] = Field(
        default="duplicate_real", description="Selects this kind of generator."
    )


class HeldOutReal(Settings):
    """Control: a perfect generator, real images from the reserve, none of them twice in a chain."""

    name: Literal["held_out_real"] = Field(
        default="held_out_real", description="Selects this kind of generator."
    )


Generator = Annotated[
    ConditionalGan | StableDiffusion | DuplicateReal | HeldOutReal,
    Field(discriminator="name"),
]
