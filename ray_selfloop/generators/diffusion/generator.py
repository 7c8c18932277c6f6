"""Stable Diffusion as the loop asks for it: a fine-tune, its samples, the latents of a set.

Latents are computed once per set (the original pictures, each kept set), so that a generation pays
for its own new pictures alone. Knows nothing of stages.
"""

import os
from pathlib import Path

import numpy as np
import torch

from ray_selfloop.config.generators.diffusion import StableDiffusion
from ray_selfloop.generators.base import Generator, Lesson, Sampler, Scene, Trained
from ray_selfloop.generators.diffusion import lora, sampler
from ray_selfloop.generators.diffusion import stable_diffusion as sd
from ray_selfloop.generators.diffusion.base import open_base
from ray_selfloop.generators.diffusion.latents import Cached, Latents, OnTheFly, write_latents
from ray_selfloop.generators.diffusion.loss import Pictures
from ray_selfloop.images.imageset import ImageSource
from ray_selfloop.images.pictures import View, seen, view_of


def _framed(settings: StableDiffusion, images: ImageSource) -> ImageSource:
    """Pictures as a diffusion model sees them: the whole frame that classifiers' crops are cut
    from, made square in the same way, so that real and drawn pictures are framed alike."""
    view = view_of(images)
    assert view is not None, "a diffusion model draws pictures"
    return seen(images, View(settings.resolution, settings.resolution, view.fit))


def _cache(
    images: ImageSource, folder: Path, device: torch.device, settings: StableDiffusion
) -> None:
    """The VAE's posterior of each picture."""
    write_latents(_framed(settings, images), settings, folder, device)


def _examples(lesson: Lesson, settings: StableDiffusion) -> sd.Examples:
    """Latents and labels of the training set and of the held-out pictures."""
    labels = np.concatenate([part.labels[part.rows] for part in lesson.parts])
    train: Latents
    apart: Latents
    if lesson.held_out_cached:
        cached = [(part.cached, part.rows) for part in lesson.parts if part.cached]
        assert len(cached) == len(lesson.parts), "latents and labels would shift"
        train = Cached(cached)
        apart = Cached([(lesson.held_out_cached, np.arange(len(lesson.held_out.labels)))])
    else:
        vae = open_base(settings).vae(lesson.device)
        train, apart = (
            OnTheFly(_framed(settings, source), vae)
            for source in (lesson.data.images, lesson.held_out.images)
        )
    return sd.Examples(
        Pictures(train, labels),
        Pictures(apart, np.asarray(lesson.held_out.labels)),
        lesson.class_names,
    )


def _train(lesson: Lesson, settings: StableDiffusion) -> Trained:
    """One generation's LoRA, by one of the lesson's workers."""
    found = sd.train(
        _examples(lesson, settings),
        settings,
        lesson.seed,
        lesson.device,
        lesson.previous,
        lesson.checkpoints,
        lesson.world,
    )
    commit = "" if os.path.isdir(settings.base) else open_base(settings).name
    return found._replace(facts={**found.facts, "commit": commit})


def _sampler(scene: Scene, settings: StableDiffusion) -> Sampler:
    assert scene.weights is not None, "it is trained"
    return sampler.sampler(scene.weights, scene.class_names, settings, scene.device)


GENERATOR = Generator(sampler=_sampler, train=_train, cache=_cache, file=lora.FILE)
