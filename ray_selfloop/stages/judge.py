"""Features of real and generated images: of pixels, of Inception, and as the judge sees them."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from ray_selfloop.classifiers import train
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation import inception
from ray_selfloop.evaluation.inception import Inception
from ray_selfloop.images import features as named_features
from ray_selfloop.images.imageset import Ids, Images, ImageSource
from ray_selfloop.stages import classifier
from ray_selfloop.stages.classifier import prediction_batch
from ray_selfloop.stages.inputs import Inputs

DECODED_AT_ONCE = 256  # pictures; a multiple of every batch in which networks see them
Functions = dict[str, Callable[[Images], NDArray[np.floating]]]


class Judge:
    """The generation-0 classifiers whose mean probability decides, and their features."""

    def __init__(self, inputs: Inputs, device: str) -> None:
        self._networks = [classifier.load(inputs, n, device) for n in inputs.named("judge")]
        self._device = torch.device(device)

    def labels(self, images: ImageSource) -> Ids:
        """The class that the judge gives each image."""
        batch = prediction_batch(images)
        each = (train.logits(net, images, batch, self._device) for net in self._networks)
        total = sum(softmax(logits.astype(np.float64), axis=1) for logits in each)
        return np.asarray(total).argmax(axis=1).astype(np.int64)

    def features(self, images: ImageSource) -> NDArray[np.float32]:
        """Penultimate features of the first judge."""
        return train.features(self._networks[0], images, prediction_batch(images), self._device)


def of_dataset(settings: Evaluation, weights: str | None, place: str, device: str) -> Functions:
    """The feature sets that need no judge: of pixels, and of Inception where there are weights.

    weights: their SHA-256. place: where they lie.
    """
    known = named_features.OF_PIXELS
    found: Functions = {name: known[name] for name in settings.features if name in known}
    if weights:
        network = Inception(place, weights, torch.device(device))
        found[inception.name_of(weights)] = network.features
    return found


def of_judge(settings: Evaluation, judge: Judge) -> Functions:
    judged = [name for name in settings.features if name not in named_features.OF_PIXELS]
    return dict.fromkeys(judged, judge.features)


def measured(functions: Functions, images: ImageSource) -> dict[str, NDArray[np.float32]]:
    """Features by name; pictures are decoded a portion at a time, once for all functions."""
    if isinstance(images, np.ndarray):
        return {name: function(images).astype(np.float32) for name, function in functions.items()}
    starts = range(0, len(images), DECODED_AT_ONCE)
    rows = (np.arange(start, min(start + DECODED_AT_ONCE, len(images))) for start in starts)
    parts = [measured(functions, np.asarray(images[portion])) for portion in rows]
    return {name: np.concatenate([part[name] for part in parts]) for name in functions}
