"""The stages of a diffusion generator: latents of a set of pictures, and a fine-tune on them.

Latents are computed once per set (the original pictures, each kept set), so that a generation pays
for its own new pictures alone. Knows nothing of how a fine-tune is spread over workers.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ray_selfloop.config.generator import StableDiffusion
from ray_selfloop.generators.base import Sampler
from ray_selfloop.generators.diffusion import lora, sampler
from ray_selfloop.generators.diffusion import stable_diffusion as sd
from ray_selfloop.generators.diffusion.base import open_base
from ray_selfloop.generators.diffusion.latents import Cached, Latents, OnTheFly, write_latents
from ray_selfloop.generators.diffusion.workers import ALONE, World
from ray_selfloop.images.imageset import ImageSource
from ray_selfloop.images.pictures import View, seen, view_of
from ray_selfloop.stages import generator as of_generator
from ray_selfloop.stages import latents as of_latents
from ray_selfloop.stages import training_set
from ray_selfloop.stages.inputs import Inputs, save_history
from ray_selfloop.stages.kind import Places, Summary, Work
from ray_selfloop.stages.training_set import TrainingRows

OF_SET, HELD_OUT = "set", "held_out"  # folders of a latents stage


def settings_of(generator: Mapping[str, Any], places: Places) -> StableDiffusion:
    """The generator's settings, as a key holds them, with where its base lies on this cluster."""
    described = {**generator, **places.generator}
    known = StableDiffusion.model_fields
    return StableDiffusion.model_validate({k: v for k, v in described.items() if k in known})


def pictures_for(settings: StableDiffusion, images: ImageSource) -> ImageSource:
    """Pictures as a diffusion model sees them: the whole frame that classifiers' crops are cut
    from, made square in the same way, so that real and drawn pictures are framed alike."""
    view = view_of(images)
    assert view is not None, "a diffusion model draws pictures"
    return seen(images, View(settings.resolution, settings.resolution, view.fit))


def latents(work: Work[of_latents.Settings]) -> Summary:
    """The VAE's posterior of each picture of a set; of the dataset's also the held-out ones."""
    settings, inputs = settings_of(work.settings.generator, work.places), work.inputs
    sets = {OF_SET: "images"}
    if "dataset" in inputs:
        sets = {OF_SET: "train_images", HELD_OUT: "held_out_images"}
    (name,) = inputs.keys
    for part, column in sets.items():
        (work.folder / part).mkdir()
        pictures = pictures_for(settings, inputs.images(name, column))
        write_latents(pictures, settings, work.folder / part, work.torch_device)
    return {}


def fine_tune(work: Work[of_generator.Settings], world: World = ALONE) -> Summary:
    """One generation's LoRA, by one of ``world``'s workers; the first one writes it."""
    settings, inputs = settings_of(work.settings.generator, work.places), work.inputs
    chosen = training_set.training_rows(work.settings.training_set, inputs)
    trained = sd.train(
        _examples(inputs, chosen, settings, work.torch_device),
        settings,
        work.settings.seed,
        work.torch_device,
        lora.load(_folder(inputs, "previous", lora.FILE)) if "previous" in inputs else None,
        inputs.store.unfinished(work.stage.key),
        world,
    )
    if world.rank == 0:
        lora.save(work.folder, trained.weights)
        save_history(work.folder, trained.history)
    return {
        "outcome": trained.outcome,
        "steps": trained.steps,
        "training_set": chosen.mixed,
        "commit": "" if os.path.isdir(settings.base) else open_base(settings).name,
    }


def _examples(
    inputs: Inputs, chosen: TrainingRows, settings: StableDiffusion, device: torch.device
) -> sd.Examples:
    """Latents and labels of the training set and of the held-out pictures."""
    held_out = inputs.split("held_out")
    labels = np.concatenate(
        [training_set.labels_of(inputs, name)[rows] for name, rows in chosen.parts]
    )
    everything = np.arange(len(held_out))
    train: Latents
    apart: Latents
    if settings.cache_latents:
        train = Cached([(_latents(inputs, name, OF_SET), rows) for name, rows in chosen.parts])
        apart = Cached([(_latents(inputs, "dataset", HELD_OUT), everything)])
    else:
        vae = open_base(settings).vae(device)
        pictures = training_set.images_of_rows(inputs, chosen)
        train, apart = (
            OnTheFly(pictures_for(settings, source), vae) for source in (pictures, held_out.images)
        )
    return sd.Examples(
        sd.Pictures(train, labels),
        sd.Pictures(apart, np.asarray(held_out.labels)),
        held_out.class_names,
    )


def open_sampler(
    generator: Mapping[str, Any], places: Places, inputs: Inputs, device: torch.device
) -> Sampler:
    """What draws pictures of one generation."""
    weights = lora.load(_folder(inputs, "generator", lora.FILE))
    names = inputs.split("train").class_names
    return sampler.sampler(weights, names, settings_of(generator, places), device)


def _folder(inputs: Inputs, name: str, file: str) -> Path:
    """Where the published ``file`` of an input lies on this machine."""
    return inputs.store.path(inputs.record(name), file).parent


def _latents(inputs: Inputs, name: str, part: str) -> Path:
    """The folder of one part's latents; ``name``: the set that they are of."""
    record = inputs.record(f"latents.{name.removeprefix('kept.')}")
    files = [file for file in record.files if file.startswith(f"{part}/")]
    return inputs.store.paths(record, files)[0].parent
