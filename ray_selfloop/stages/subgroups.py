"""What subgroup a generated image shows, and the probe that tells it where pixels do not.

A subgroup read here measures the loop; nothing that the loop trains sees it (two labelled control
arms resample by it). Decides how subgroups are read; what shares follow is the evaluation's.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.classifiers import train, zoo
from ray_selfloop.config.evaluation import Probe
from ray_selfloop.datasets.colours import read_colours
from ray_selfloop.errors import StageError
from ray_selfloop.evaluation.fidelity import share_counts
from ray_selfloop.evaluation.probe_correction import corrected_shares, error_inflation
from ray_selfloop.graph import Stage
from ray_selfloop.images.imageset import Ids, ImageSet, ImageSource
from ray_selfloop.stages.inputs import Inputs, finite, save_array, save_json, save_weights
from ray_selfloop.stages.training import prediction_batch, pretrained, torch_device

Reader = Callable[[ImageSource, Ids], Ids]
CONFUSION = "confusion"  # int64 (C, G, G): [c, i, j] held-out images of true i read as j


def probed(inputs: Inputs) -> bool:
    """Whether this dataset's subgroups are read by a probe."""
    return bool(inputs.record("dataset").summary["subgroups_from"] == "probe")


def known(inputs: Inputs) -> bool:
    """Whether this dataset has subgroups at all."""
    return bool(inputs.record("dataset").summary["subgroups_from"] != "none")


def reader(inputs: Inputs, device: str) -> Reader:
    """``(images uint8 (n, C, H, W), labels int64 (n,)) -> subgroups int64 (n,)``.

    All 0 where the dataset has none (G = 0: 0 is then 'none clear').

    Colours are read from pixels: 0..G-1, and G where none is clear. Elsewhere the input ``probe``
    names the likeliest subgroup of the class that the image was asked for, 0..G-1. It never says
    'none clear': a bound on its probability would be one more free number, and the correction by
    the confusion matrix needs every image to have a reading. That correction is of shares; counts
    of single readings (the filter's audit, ``kept_fraction``, a tilt) hold the probe's errors,
    which draw the subgroups towards each other.
    """
    if not known(inputs):
        return lambda images, labels: np.zeros(len(labels), np.int64)
    if not probed(inputs):
        return lambda images, labels: read_colours(np.asarray(images))
    shape = _shape(inputs)
    network = _load(inputs, shape, device)

    def read(images: ImageSource, labels: Ids) -> Ids:
        if not len(images):
            return np.empty(0, np.int64)
        logits = train.logits(network, images, prediction_batch(images), torch_device(device))
        return within_class(logits, labels, shape[1])

    return read


def within_class(logits: NDArray[np.float32], labels: Ids, groups: int) -> Ids:
    """The likeliest subgroup of each row's class: logits ``(n, C * G)``, labels ``(n,)``."""
    by_class = logits.reshape(len(logits), -1, groups)
    return by_class[np.arange(len(labels)), labels].argmax(axis=1).astype(np.int64)


def confusion(inputs: Inputs) -> NDArray[np.float64] | None:
    """Counts ``(C, G, G)`` of the probe on held-out images; None where pixels tell subgroups."""
    return inputs.array("probe", CONFUSION).astype(np.float64) if probed(inputs) else None


def within_class_shares(
    inputs: Inputs, images: ImageSource, labels: Ids, device: str
) -> NDArray[np.float64]:
    """Subgroup shares ``(C, G)`` within each class, corrected for the probe's errors.

    Images without a clear subgroup are left out; NaN for a class without any image.
    """
    classes, groups = _shape(inputs)
    subgroups = reader(inputs, device)(images, labels)
    counts = share_counts(np.asarray(labels), subgroups, classes, groups)[:, :groups]
    errors = confusion(inputs)
    matrix = np.tile(np.eye(groups), (classes, 1, 1)) if errors is None else errors
    return corrected_shares(counts, matrix)


def probe(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """Train the probe on D0's subgroups and count its errors on the held-out real images.

    Classes are class x subgroup; D0 and held-out are the dataset's own, never its test images. The
    held-out images choose nothing: the network is looked at once, at the end of its budget, so that
    the confusion matrix is counted on images that had no part in it. Raises StageError where a
    subgroup has no held-out image.
    """
    settings = Probe.model_validate({**stage.config["probe"], **pretrained(stage)})
    original, held_out = inputs.split("train"), inputs.split("held_out")
    shape, where = _shape(inputs), torch_device(device)
    counts = _cells(held_out, shape[1], shape[0] * shape[1])
    assert settings.augment, "a key holds the dataset's own"
    if not counts.all():
        raise StageError(_no_held_out(inputs, int(counts.argmin()), shape[1]))
    examples = train.Examples(
        _by_cell(original, shape[1]), _by_cell(held_out, shape[1]), len(counts), settings.augment
    )
    steps = train.budget(len(original), settings)
    once = settings.model_copy(update={"check_steps": steps})
    trained = train.train(settings.network, examples, once, stage.config["seed"], where)
    batch = prediction_batch(held_out.images)
    logits = train.logits(trained.network, held_out.images, batch, where)
    labels, subgroups = np.asarray(held_out.labels), np.asarray(held_out.subgroups)
    errors = np.zeros((shape[0], shape[1], shape[1]), np.int64)
    np.add.at(errors, (labels, subgroups, within_class(logits, labels, shape[1])), 1)
    save_weights(folder, trained.network.state_dict())
    save_array(folder, CONFUSION, errors)
    save_json(
        folder, "history", [{k: finite(v) for k, v in row.items()} for row in trained.history]
    )
    return {**_quality(errors, original), "steps": trained.steps, "source": trained.source}


def _quality(errors: NDArray[np.int64], original: ImageSet) -> dict[str, Any]:
    """How well the probe reads: accuracy within the class, and what its errors cost."""
    counts = _cells(original, errors.shape[1], errors[..., 0].size).reshape(errors.shape[:2])
    inflation = error_inflation(errors.astype(np.float64), counts.astype(np.float64))
    right = np.einsum("cii->c", errors)
    return {
        "held_out": int(errors.sum()),
        "accuracy": float(right.sum() / errors.sum()),
        "accuracy_per_class": (right / errors.sum(axis=(1, 2))).tolist(),
        "error_inflation_per_class": [finite(value) for value in inflation],
        "confusion": errors.tolist(),
    }


def _shape(inputs: Inputs) -> tuple[int, int]:
    """Classes C and subgroups G."""
    names = inputs.record("dataset").summary
    return len(names["class_names"]), len(names["subgroup_names"])


def _by_cell(data: ImageSet, groups: int) -> train.LabeledImages:
    return train.LabeledImages(data.images, data.labels * groups + data.subgroups)


def _cells(data: ImageSet, groups: int, cells: int) -> Ids:
    """Images of each class x subgroup, ``(C * G,)``."""
    return np.bincount(data.labels * groups + data.subgroups, minlength=cells)


def _no_held_out(inputs: Inputs, cell: int, groups: int) -> str:
    names = inputs.record("dataset").summary
    where = names["class_names"][cell // groups], names["subgroup_names"][cell % groups]
    return (
        f"probe: no held-out image of {where[0]}, {where[1]}: its errors there are unknown; use "
        "more training images (dataset.limit_train), fewer superclasses or a milder imbalance"
    )


def _load(inputs: Inputs, shape: tuple[int, int], device: str) -> zoo.Classifier:
    settings = Probe.model_validate(inputs.record("probe").config["probe"])
    side = inputs.images("dataset", "train_images").shape[-1]
    size = settings.seen_size(side)
    network = zoo.build(settings.network, shape[0] * shape[1], size, False, None, 0)
    network.load_state_dict(inputs.weights("probe"))
    return network.to(torch_device(device)).eval()
