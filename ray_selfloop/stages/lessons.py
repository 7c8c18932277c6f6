"""A generator's training: what it is given of what was published, and what of it is published.

Knows nothing of how a training is spread over workers.
"""

from pathlib import Path
from typing import Any

from ray_selfloop.generators.base import Lesson, Part, TrainingImages, worker
from ray_selfloop.generators.diffusion.workers import ALONE, World
from ray_selfloop.images.imageset import Ids
from ray_selfloop.stages import latents, training_set
from ray_selfloop.stages.generator import Settings, settings_of
from ray_selfloop.stages.inputs import Inputs, save_history, save_weights
from ray_selfloop.stages.kind import Summary, Work


def run(work: Work[Settings], world: World = ALONE) -> Summary:
    """Train it, as one of ``world``'s workers; the first one writes its weights and its history."""
    settings = settings_of(work.settings.generator, work.places)
    kind = worker(settings)
    assert kind.train is not None, "the loop trains what can be trained"
    lesson, mixed = _lesson(work, world, kind.file)
    trained = kind.train(lesson, settings)
    if world.rank == 0:
        save_weights(work.folder, trained.weights, kind.file)
        save_history(work.folder, trained.history)
    return {"outcome": trained.outcome, "training_set": mixed, **trained.facts}


def _lesson(work: Work[Settings], world: World, file: str) -> tuple[Lesson, dict[str, Any]]:
    """What the generator is trained on, and what was mixed."""
    inputs = work.inputs
    parts, mixed = training_set.training_rows(work.settings.training_set, inputs)
    held_out = inputs.split("held_out")
    lesson = Lesson(
        parts=[_part(inputs, name, rows) for name, rows in parts],
        held_out=TrainingImages(held_out.images, held_out.labels),
        class_names=held_out.class_names,
        seed=work.settings.seed,
        device=work.torch_device,
        previous=inputs.weights("previous", file) if "previous" in inputs else None,
        held_out_cached=latents.folder(inputs, "dataset", latents.HELD_OUT),
        checkpoints=inputs.store.unfinished(work.stage.key),
        world=world,
    )
    return lesson, mixed


def _part(inputs: Inputs, name: str, rows: Ids) -> Part:
    own = name.removeprefix("kept.")
    cached: Path | None = latents.folder(inputs, own, latents.OF_SET)
    images, labels = training_set.images_of(inputs, name), training_set.labels_of(inputs, name)
    return Part(own, images, labels, rows, cached)
