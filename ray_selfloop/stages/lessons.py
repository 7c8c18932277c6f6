"""What a generator is given by a stage: its settings, a lesson to be trained on, a scene to draw.

The one place where stages and generators meet; which generator it is, is asked nowhere.
"""

from pathlib import Path
from typing import Any

import torch

from ray_selfloop.config.generators import known
from ray_selfloop.config.generators.base import GeneratorSettings
from ray_selfloop.generators.base import Lesson, Part, Scene, TrainingImages, Turn, worker
from ray_selfloop.generators.diffusion.workers import World
from ray_selfloop.graph import Stage
from ray_selfloop.images.imageset import Ids
from ray_selfloop.images.pictures import View
from ray_selfloop.stages import mixing
from ray_selfloop.stages.inputs import Inputs

OF_SET, HELD_OUT = "set", "held_out"  # folders of a latents stage


def settings_of(stage: Stage) -> GeneratorSettings:
    """The generator's settings; where its files lie on this cluster is a hint."""
    return known.of({**stage.config["generator"], **stage.hints.get("generator", {})})


def lesson_of(
    stage: Stage, inputs: Inputs, device: torch.device, world: World
) -> tuple[Lesson, dict[str, Any]]:
    """What the stage's generator is trained on, and what was mixed."""
    chosen = mixing.training_rows(stage, inputs)
    held_out = inputs.split("held_out")
    previous = inputs.weights("previous", _file(stage)) if "previous" in inputs else None
    lesson = Lesson(
        parts=[_part(inputs, name, rows) for name, rows in chosen.parts],
        held_out=TrainingImages(held_out.images, held_out.labels),
        class_names=held_out.class_names,
        seed=stage.config["seed"],
        device=device,
        previous=previous,
        held_out_cached=_cached(inputs, "dataset", HELD_OUT),
        checkpoints=inputs.store.unfinished(stage.key),
        world=world,
    )
    return lesson, chosen.mixed


def _part(inputs: Inputs, name: str, rows: Ids) -> Part:
    column = "train_images" if name == "dataset" else "images"
    images, labels = inputs.images(name, column), mixing.labels_of(inputs, name)
    own = name.removeprefix("kept.")
    return Part(own, images, labels, rows, _cached(inputs, own, OF_SET))


def _cached(inputs: Inputs, name: str, part: str) -> Path | None:
    """The folder of what was computed for each image of a set."""
    if f"latents.{name}" not in inputs:
        return None
    record = inputs.record(f"latents.{name}")
    files = [file for file in record.files if file.startswith(f"{part}/")]
    return inputs.store.paths(record, files)[0].parent


def scene_of(stage: Stage, inputs: Inputs, device: torch.device, labels: Ids) -> Scene:
    """What the stage's generator draws from; ``labels`` of all that this generation draws."""
    original, reserve = inputs.split("train"), inputs.split("reserve")
    found, turn = inputs.record("dataset").summary.get("pictures"), stage.config.get("reserve")
    return Scene(
        original=TrainingImages(original.images, original.labels),
        reserve=TrainingImages(reserve.images, reserve.labels),
        class_names=original.class_names,
        view=View(**found) if found else None,
        device=device,
        weights=inputs.weights("generator", _file(stage)) if "generator" in inputs else None,
        turn=Turn(turn["generation"], turn["seed"], labels) if turn else None,
        content=stage.config["generator"].get("content"),
    )


def _file(stage: Stage) -> str:
    return worker(settings_of(stage)).file
