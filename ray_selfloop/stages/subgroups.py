"""What subgroup a generated image shows: told by its pixels, or by the dataset's probe.

A subgroup read here measures the loop; nothing that the loop trains sees it (two labelled control
arms resample by it). Decides how subgroups are read; what shares follow is the evaluation's.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from ray_selfloop.classifiers import train, zoo
from ray_selfloop.datasets.colours import read_colours
from ray_selfloop.evaluation.fidelity import share_counts
from ray_selfloop.evaluation.probe_correction import corrected_shares
from ray_selfloop.images.imageset import Ids, ImageSource
from ray_selfloop.stages import probe
from ray_selfloop.stages.classifier import loaded, prediction_batch
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.kind import Places

Reader = Callable[[ImageSource, Ids], Ids]


def probed(inputs: Inputs) -> bool:
    """Whether this dataset's subgroups are read by a probe."""
    return bool(inputs.record("dataset").summary["subgroups_from"] == "probe")


def known(inputs: Inputs) -> bool:
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
    network, groups = _load(inputs, device), shape(inputs)[1]

    def read(images: ImageSource, labels: Ids) -> Ids:
        if not len(images):
            return np.empty(0, np.int64)
        logits = train.logits(network, images, prediction_batch(images), torch.device(device))
        return within_class(logits, labels, groups)

    return read


def within_class(logits: NDArray[np.float32], labels: Ids, groups: int) -> Ids:
    """The likeliest subgroup of each row's class: logits ``(n, C * G)``, labels ``(n,)``."""
    by_class = logits.reshape(len(logits), -1, groups)
    return by_class[np.arange(len(labels)), labels].argmax(axis=1).astype(np.int64)


def confusion(inputs: Inputs) -> NDArray[np.float64] | None:
    """Counts ``(C, G, G)`` of the probe on held-out images; None where pixels tell subgroups."""
    return inputs.array("probe", probe.CONFUSION).astype(np.float64) if probed(inputs) else None


def within_class_shares(
    inputs: Inputs, images: ImageSource, labels: Ids, device: str
) -> NDArray[np.float64]:
    """Subgroup shares ``(C, G)`` within each class, corrected for the probe's errors.

    Images without a clear subgroup are left out; NaN for a class without any image.
    """
    classes, groups = shape(inputs)
    subgroups = reader(inputs, device)(images, labels)
    counts = share_counts(np.asarray(labels), subgroups, classes, groups)[:, :groups]
    errors = confusion(inputs)
    matrix = np.tile(np.eye(groups), (classes, 1, 1)) if errors is None else errors
    return corrected_shares(counts, matrix)


def shape(inputs: Inputs) -> tuple[int, int]:
    """Classes C and subgroups G."""
    names = inputs.record("dataset").summary
    return len(names["class_names"]), len(names["subgroup_names"])


def _load(inputs: Inputs, device: str) -> zoo.Classifier:
    settings = probe.KIND.read(inputs.record("probe").config).trained(Places())
    classes, groups = shape(inputs)
    return loaded(inputs, "probe", settings.network, classes * groups, settings.image_size, device)
