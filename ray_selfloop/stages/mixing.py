"""Training sets: which rows of the original data and of the queue's kept sets, as one source."""

from typing import Any, NamedTuple

import numpy as np

from ray_selfloop import queue
from ray_selfloop.config.loop import Loop, Queue
from ray_selfloop.graph import Stage
from ray_selfloop.images.imageset import Ids, ImageSource, join
from ray_selfloop.stages.inputs import Inputs


class TrainingRows(NamedTuple):
    """Which rows of which inputs a training set consists of.

    parts: input name (``dataset``, ``kept.<g>``) and rows ``(n_i,)``, in order. mixed: counts of
    original and generated images, and what the queue could not supply.
    """

    parts: list[tuple[str, Ids]]
    mixed: dict[str, Any]


def training_rows(stage: Stage, inputs: Inputs) -> TrainingRows:
    """What ``config["training_set"]`` describes."""
    original = inputs.split("train")
    config = stage.config["training_set"]
    if not config:
        mixed = {"original": len(original), "generated": 0, "by_generation": {}, "statement": ""}
        return TrainingRows([("dataset", np.arange(len(original)))], mixed)
    names = {int(name.rpartition(".")[2]): name for name in inputs.named("kept")}
    rows = queue.training_rows(
        Loop(regime=config["regime"]),
        Queue(capacity=config["capacity"] or 1, mixing=config["mixing"]),
        config["generation"],
        original.labels,
        {generation: inputs.array(name, "labels") for generation, name in names.items()},
        config["seed"] or 0,
    )
    mixed = {
        "original": len(rows.original),
        "generated": rows.supplied,
        "asked": rows.asked,
        "by_generation": {str(g): len(kept) for g, kept in rows.kept.items()},
        "statement": rows.statement,
    }
    kept = [(names[g], of) for g, of in rows.kept.items()]
    return TrainingRows([("dataset", rows.original), *kept], mixed)


def training_set(stage: Stage, inputs: Inputs) -> tuple[ImageSource, Ids, dict[str, Any]]:
    """Images and labels that ``config["training_set"]`` describes, and what was mixed."""
    chosen = training_rows(stage, inputs)
    labels = np.concatenate([labels_of(inputs, name)[rows] for name, rows in chosen.parts])
    return images_of_rows(inputs, chosen), labels, chosen.mixed


def images_of_rows(inputs: Inputs, chosen: TrainingRows) -> ImageSource:
    """The images of a training set, as one source; D0 alone as it lies there."""
    if not chosen.mixed["generated"] and len(chosen.parts) == 1:
        return inputs.split("train").images
    return join([(_images(inputs, name), rows) for name, rows in chosen.parts])


def _images(inputs: Inputs, name: str) -> ImageSource:
    return inputs.images(name, "train_images" if name == "dataset" else "images")


def labels_of(inputs: Inputs, name: str) -> Ids:
    """The labels of one part of a training set."""
    return inputs.array(name, "train_labels" if name == "dataset" else "labels")
