"""Settings of a Stable Diffusion base with LoRA.

Not all of them are part of a key: the base counts by its content, and what sampling alone reads
(``SAMPLING``) trains nothing.
"""

import math
import os
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ray_selfloop.config.base import Path
from ray_selfloop.config.generators.base import GeneratorSettings, Traits

STREAMED = 64  # least pictures of one row of a stream


class StableDiffusion(GeneratorSettings):
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
    sampler_steps: int = Field(
        default=50,
        ge=1,
        le=1_000,
        description="Solver steps per picture, at most as many as the "
        "noise levels that a base is trained with.",
    )
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

    traits: ClassVar[Traits] = Traits(
        worker="ray_selfloop.generators.diffusion.generator:GENERATOR",
        draws="pictures",
        dear=True,
        paper=True,
        check="ray_selfloop.generators.diffusion.base:check",
        content="ray_selfloop.generators.diffusion.base:identity",
    )
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
    CACHED: ClassVar[frozenset[str]] = frozenset({"name", "resolution", "flips"})
    PLACES: ClassVar[frozenset[str]] = frozenset({"base", "revision", "checkpoint_every"})

    @property
    def micro_batches(self) -> int:
        """Micro-batches of one optimiser step, over all workers."""
        return self.accumulation * self.workers

    @property
    def scale(self) -> float:
        """What an adapter's output is multiplied by."""
        return 1.0 if self.alpha is None else self.alpha / self.rank

    @property
    def caches(self) -> bool:
        """Latents, unless they are computed anew each time."""
        return self.cache_latents

    def places(self) -> dict[str, Any]:
        """A base that is a folder has one path for all workers."""
        where = os.path.abspath(self.base) if os.path.isdir(self.base) else self.base
        return {**super().places(), "base": where}

    @property
    def at_once(self) -> int:
        """Whole batches of its own, and at least `STREAMED` pictures."""
        own = self.sample_batch
        return own * math.ceil(STREAMED / own)

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
