"""Training sets: which rows of the original data and of the queue's kept sets, as one source."""

from typing import Any

import numpy as np

from ray_selfloop import queue
from ray_selfloop.config.loop import Mixing, Queue, Regime
from ray_selfloop.images.imageset import Ids, ImageSource, join
from ray_selfloop.stages.chain import Chain
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.kind import Held
from ray_selfloop.stages.names import number


class TrainingSet(Held):
    """In a key: what a training set after a generation is made of; nothing of D0 alone.

    While a queue fills, `stack` is `accumulate`: written so, the regimes share those stages.
    """

    generation: int = 0
    regime: Regime = "stack"
    capacity: int | None = None
    mixing: Mixing = Mixing()
    seed: int | None = None


def after(chain: Chain, n: int) -> TrainingSet:
    if n == 0 or not chain.generates:
        return TrainingSet()
    regime, settings = chain.sweep.loop.regime, chain.sweep.queue
    filling = regime == "stack" and n <= settings.capacity
    drawn = settings.mixing.ratio != "all" or regime == "accumulate_subsample"
    return TrainingSet(
        generation=n,
        regime="accumulate" if filling else regime,
        capacity=settings.capacity if regime == "stack" and not filling else None,
        mixing=settings.mixing,
        seed=chain.seed("draw") if drawn else None,
    )


Parts = list[tuple[str, Ids]]
"""Input name (``dataset``, ``kept.<g>``) and rows ``(n_i,)``, in order."""


def training_rows(described: TrainingSet, inputs: Inputs) -> tuple[Parts, dict[str, Any]]:
    """The parts of a training set; counts of original and generated images, and what the queue
    could not supply."""
    original = inputs.split("train")
    if not described.generation:
        mixed = {"original": len(original), "generated": 0, "by_generation": {}, "statement": ""}
        return [("dataset", np.arange(len(original)))], mixed
    names = {number(name): name for name in inputs.named("kept")}
    rows = queue.training_rows(
        described.regime,
        Queue(capacity=described.capacity or 1, mixing=described.mixing),
        described.generation,
        original.labels,
        {generation: inputs.array(name, "labels") for generation, name in names.items()},
        described.seed or 0,
    )
    mixed = {
        "original": len(rows.original),
        "generated": rows.supplied,
        "asked": rows.asked,
        "by_generation": {str(g): len(kept) for g, kept in rows.kept.items()},
        "statement": rows.statement,
    }
    return [("dataset", rows.original), *((names[g], of) for g, of in rows.kept.items())], mixed


def read(described: TrainingSet, inputs: Inputs) -> tuple[ImageSource, Ids, dict[str, Any]]:
    """Images and labels of a training set, and what was mixed."""
    parts, mixed = training_rows(described, inputs)
    labels = np.concatenate([labels_of(inputs, name)[rows] for name, rows in parts])
    return join([(images_of(inputs, name), rows) for name, rows in parts]), labels, mixed


def images_of(inputs: Inputs, name: str) -> ImageSource:
    return inputs.images(name, "train_images" if name == "dataset" else "images")


def labels_of(inputs: Inputs, name: str) -> Ids:
    return inputs.array(name, "train_labels" if name == "dataset" else "labels")
