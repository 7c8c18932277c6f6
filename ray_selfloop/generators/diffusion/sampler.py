"""Pictures drawn from a base and its adapters, by a stock pipeline.

Image ``i`` is bit-identical on one CPU whatever else is asked for with it: the pipeline always sees
batches of one shape, and in these the image has the place ``i`` modulo their size. Knows nothing of
training.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ray_selfloop import seeding
from ray_selfloop.config.generators.diffusion import StableDiffusion
from ray_selfloop.generators.diffusion import lora
from ray_selfloop.generators.diffusion.base import DTYPES, Base, open_base, placed
from ray_selfloop.generators.diffusion.lora import Weights
from ray_selfloop.images.imageset import Ids, Images


class DiffusionSampler:
    """Draws from a base with adapters; see ``generators.Sampler``.

    embeddings: ``(classes + 1, tokens, d)`` of the classes' prompts, and last of the empty one.
    """

    def __init__(self, pipeline: Any, base: Base, embeddings: Tensor, settings: StableDiffusion):
        self._pipeline, self._embeddings, self._settings = pipeline, embeddings, settings
        self._shape = base.latent_shape(settings.resolution)

    def sample(self, ids: Ids, labels: Ids, seed: int) -> Images:
        """``(b,)`` each -> uint8 ``(b, 3, R, R)``, with R the ``resolution``.

        First latents of image ``i`` are N(0, 1) from the stream ``(seed, "latent", i)``.
        """
        asked, where = np.unique(np.stack([ids, labels], axis=1), axis=0, return_inverse=True)
        side = self._settings.resolution
        images = np.empty((len(asked), 3, side, side), np.uint8)
        size = self._settings.sample_batch
        for rows, places in _batches(asked[:, 0], size):
            filled = np.full(size, rows[0])
            filled[places] = rows
            latents = self._latents(asked[filled], seed)
            images[rows] = np.stack([self._decoded(latents[place]) for place in places])
        return images[where.reshape(-1)]

    @torch.no_grad()
    def _latents(self, asked: Ids, seed: int) -> Tensor:
        """Of ids and labels ``(size, 2)``: solved latents ``(size, C, h, w)``."""
        noise = [
            seeding.rng(seed, "latent", int(i)).standard_normal(self._shape, np.float32)
            for i in asked[:, 0]
        ]
        empty = self._embeddings[-1:].expand(len(asked), -1, -1)
        solved: Tensor = self._pipeline(
            prompt_embeds=self._embeddings[torch.from_numpy(asked[:, 1])],
            negative_prompt_embeds=empty,
            latents=torch.from_numpy(np.stack(noise)).to(self._embeddings),
            height=self._settings.resolution,
            width=self._settings.resolution,
            num_inference_steps=self._settings.sampler_steps,
            guidance_scale=self._settings.guidance,
            output_type="latent",
        ).images
        return solved

    @torch.no_grad()
    def _decoded(self, latent: Tensor) -> Images:
        """uint8 ``(3, R, R)``: one picture at a time, in float32, bounds the decoder's memory."""
        vae = self._pipeline.vae
        pixels = vae.decode(latent[None].float() / vae.config.scaling_factor).sample[0]
        image: Images = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        return image


def _batches(ids: Ids, size: int) -> list[tuple[Ids, Ids]]:
    """Rows of ``ids`` and their places in each batch: as few as ``place = id % size`` allows."""
    places = ids % size
    order = np.argsort(places, kind="stable")
    first = np.searchsorted(places[order], places[order])
    number = np.empty(len(ids), np.int64)
    number[order] = np.arange(len(ids)) - first  # how many before it have the same place
    members = [np.flatnonzero(number == n) for n in range(int(number.max(initial=-1)) + 1)]
    return [(rows, places[rows]) for rows in members]


def sampler(
    weights: Weights | None,
    class_names: Sequence[str],
    settings: StableDiffusion,
    device: torch.device,
) -> DiffusionSampler:
    """A sampler for adapters that ``train`` returned; None: the base as it is.

    Raises DataError for an unfit base, StageError for adapters of another one.
    """
    from diffusers import StableDiffusionPipeline

    base = open_base(settings)
    dtype = DTYPES[settings.precision]
    prompts = [settings.prompt.format(name) for name in class_names]
    embeddings = base.embeddings([*prompts, ""], device).to(dtype)
    unet = base.unet()
    if weights is not None:
        lora.inject(unet, settings, 1.0)
        lora.assign(unet, weights)
    pipeline = StableDiffusionPipeline(
        vae=base.vae(device),
        text_encoder=None,
        tokenizer=None,
        unet=placed(unet, device, dtype),
        scheduler=base.solver(settings.sampler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return DiffusionSampler(pipeline, base, embeddings, settings)
