"""Training sets: which rows of the original data and of the queue's kept sets, as one source."""

from typing import Any

import numpy as np

from ray_selfloop import queue, seeding
from ray_selfloop.config.loop import Mixing, Queue, Regime
from ray_selfloop.filtering import tilt
from ray_selfloop.images.imageset import Ids, ImageSource, join
from ray_selfloop.stages.chain import Chain
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.kind import Held
from ray_selfloop.stages.names import number


class TrainingSet(Held):
    """In a key: what a training set after a generation is made of; nothing of D0 alone.

    While a queue fills, `stack` is `accumulate`: written so, the regimes share those stages.
    balance: the seed of a draw in which all classes x subgroups are as frequent (uses subgroups).
    """

    generation: int = 0
    regime: Regime = "stack"
    capacity: int | None = None
    mixing: Mixing = Mixing()
    seed: int | None = None
    balance: int | None = None


def after(chain: Chain, n: int) -> TrainingSet:
    if n == 0 or not chain.generates:
        return TrainingSet()
    regime, settings = chain.sweep.loop.regime, chain.sweep.queue
    filling = regime == "stack" and n <= settings.capacity
    drawn = settings.mixing.ratio != "all" or regime == "accumulate_subsample"
    balanced = settings.balance == "parity"
    more = {"balance": chain.seed("balance", n)} if balanced else {}
    return TrainingSet(
        generation=n,
        regime="accumulate" if filling else regime,
        capacity=settings.capacity if regime == "stack" and not filling else None,
        mixing=settings.mixing,
        seed=chain.seed("draw") if drawn else None,
        **more,
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
    parts = [("dataset", rows.original), *((names[g], of) for g, of in rows.kept.items())]
    statement = rows.statement
    if described.balance is not None:
        parts, said = _balanced(parts, inputs, described)
        statement = " ".join(filter(None, (statement, said)))
    sizes = [len(of) for _, of in parts]
    mixed = {
        "original": sizes[0],
        "generated": sum(sizes[1:]),
        "asked": rows.asked,
        "by_generation": {str(g): n for g, n in zip(rows.kept, sizes[1:], strict=True)},
        "statement": statement,
    }
    return parts, mixed


def _balanced(parts: Parts, inputs: Inputs, described: TrainingSet) -> tuple[Parts, str]:
    """As many rows, every class x subgroup as often as the others; what could not be done."""
    labels = np.concatenate([labels_of(inputs, name)[rows] for name, rows in parts])
    subgroups = np.concatenate([_subgroups_of(inputs, name)[rows] for name, rows in parts])
    groups = len(inputs.record("dataset").summary["subgroup_names"])
    draw = seeding.rng(described.balance or 0, "parity")
    drawn = tilt.parity(labels, subgroups, groups, draw)
    ends = np.cumsum([len(rows) for _, rows in parts])
    split = np.split(drawn.rows, np.searchsorted(drawn.rows, ends[:-1]))
    starts = [0, *ends[:-1].tolist()]
    chosen = [
        (name, rows[own - start])
        for (name, rows), own, start in zip(parts, split, starts, strict=True)
    ]
    said = (
        f"generation {described.generation}: {drawn.missing} classes x subgroups have no image; "
        "the others stand in for them"
    )
    return chosen, said if drawn.missing else ""


def _subgroups_of(inputs: Inputs, name: str) -> Ids:
    return inputs.array(name, "train_subgroups" if name == "dataset" else "subgroups")


def read(described: TrainingSet, inputs: Inputs) -> tuple[ImageSource, Ids, dict[str, Any]]:
    """Images and labels of a training set, and what was mixed."""
    parts, mixed = training_rows(described, inputs)
    labels = np.concatenate([labels_of(inputs, name)[rows] for name, rows in parts])
    return join([(images_of(inputs, name), rows) for name, rows in parts]), labels, mixed


def images_of(inputs: Inputs, name: str) -> ImageSource:
    return inputs.images(name, "train_images" if name == "dataset" else "images")


def labels_of(inputs: Inputs, name: str) -> Ids:
    return inputs.array(name, "train_labels" if name == "dataset" else "labels")
