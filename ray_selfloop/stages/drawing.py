"""What draws samples, and what scores them.

Decides which sampler a generator's settings mean; what a batch is, and what is published, stands in
`samples`.
"""

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from ray_selfloop.config.generator import ConditionalGan, Generator
from ray_selfloop.config.scores import HERE, SCORES
from ray_selfloop.filtering.scores.base import Given, Opened
from ray_selfloop.generators import control
from ray_selfloop.generators.base import TrainingImages
from ray_selfloop.generators.gan import conditional_gan
from ray_selfloop.images.imageset import ImageSource
from ray_selfloop.images.pictures import Pictures, encode
from ray_selfloop.stages import classifier, diffusion, samples
from ray_selfloop.stages.generator import DIFFUSION
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.kind import Places, Summary, Work
from ray_selfloop.stages.samples import Batch, Scores, Settings, picture_view
from ray_selfloop.stages.subgroups import within_class_shares


def trained_sampler(
    generator: Mapping[str, Any], places: Places, inputs: Inputs, device: torch.device
) -> Any:
    """What draws from a trained generator: ``sample(ids, labels, seed) -> uint8 (b, C, H, W)``."""
    if generator["name"] == DIFFUSION:
        return diffusion.open_sampler(generator, places, inputs, device)
    train = inputs.split("train")
    _, channels, height, width = train.images.shape
    return conditional_gan.sampler(
        inputs.weights("generator"),
        len(train.class_names),
        (channels, height, width),
        ConditionalGan.model_validate(generator),
        device,
    )


def _sampler(work: Work[Settings]) -> Any:
    """What draws a stage's images: a trained generator, or a control that draws real ones."""
    held, inputs = work.settings, work.inputs
    if "generator" in inputs:
        return trained_sampler(held.generator, work.places, inputs, work.torch_device)
    settings: Generator = TypeAdapter(Generator).validate_python(held.generator)
    if settings.name == "duplicate_real":
        train = inputs.split("train")
        return control.duplicate_real(TrainingImages(train.images, train.labels))
    if held.skewed:
        return _skewed(work, _read_shares(work))
    assert held.reserve is not None, "real images come from the reserve"
    reserve = inputs.split("reserve")
    return control.held_out_real(
        TrainingImages(reserve.images, reserve.labels),
        samples.plan(work).labels,
        held.reserve.generation,
        held.reserve.seed,
    )


def skew(work: Work[Settings]) -> Summary:
    """What a stage with other subgroup shares publishes of its draws."""
    read = _read_shares(work)
    unread = int(np.isnan(read[-1]).any(axis=1).sum())
    return {"repeated": _skewed(work, read).repeated, "unread_classes": unread}


def _skewed(work: Work[Settings], read: list[NDArray[np.float64]]) -> control.SkewedReal:
    """Reserve images with the within-class subgroup shares of the unfiltered chain's kept sets.

    read: as `_read_shares` gives them; a class that is NaN there keeps the original data's shares.
    """
    assert work.settings.reserve is not None, "real images come from the reserve"
    reserve = work.inputs.split("reserve")
    original = work.inputs.split("train").subgroup_shares()
    return control.SkewedReal(
        TrainingImages(reserve.images, reserve.labels),
        np.asarray(reserve.subgroups),
        samples.plan(work).labels,
        [np.where(np.isnan(shares), original, shares) for shares in read],
        work.settings.reserve.seed,
    )


def _read_shares(work: Work[Settings]) -> list[NDArray[np.float64]]:
    """Of each kept set ``shares.<g>`` the shares ``(C, G)``; NaN for a class with none clear."""
    inputs = work.inputs
    return [
        within_class_shares(inputs, inputs.images(name), inputs.array(name, "labels"), work.device)
        for name in inputs.named("shares")
    ]


class Draw:
    """Draws one batch of a samples stage."""

    def __init__(self, work: Work[Settings]) -> None:
        self._plan, self._sampler = samples.plan(work), _sampler(work)
        self._seed, self._shape = work.settings.seed, work.settings.batch
        self._view = picture_view(work.inputs)
        self._form = work.settings.generator.get("picture_format")

    def __call__(self, batch: Batch) -> ImageSource:
        """uint8 ``(size, C, H, W)``; always drawn at the stage's one batch shape.

        Pictures are given as they will be stored: who scores them sees what will be trained on.
        """
        rows = np.arange(batch.first, batch.first + batch.size)
        padded = np.resize(rows, self._shape)
        images: ImageSource = self._sampler.sample(padded, self._plan.labels[padded], self._seed)
        if isinstance(images, Pictures):
            return images.take(np.arange(batch.size))
        if self._view and self._form:
            return Pictures([encode(i, self._form) for i in images[: batch.size]], self._view)
        return np.asarray(images[: batch.size])


class Score:
    """Scores one batch of a samples stage by all that the filter reads."""

    def __init__(self, work: Work[Settings]) -> None:
        self._plan = samples.plan(work)
        asked = work.settings.scored_by(work.places)
        self._opened = {name: _opened(name, own, work) for name, own in asked.items()}

    def __call__(self, batch: Batch, images: ImageSource) -> Scores:
        """Score name -> ``(size,)``."""
        ids = np.arange(batch.first, batch.first + batch.size)
        labels = self._plan.labels[ids]
        return {name: score(images, labels, ids) for name, score in self._opened.items()}


def _opened(name: str, settings: Any, work: Work[Settings]) -> Opened:
    """What computes a score; its model or networks are loaded where it reads them."""
    inputs = work.inputs
    given = Given(
        settings=settings,
        class_names=inputs.record("dataset").summary["class_names"],
        side=inputs.images("dataset", "train_images").shape[-1],
        view=picture_view(inputs),
        trained=lambda: inputs.weights("scorer"),
        experts=lambda: [classifier.load(inputs, n, work.device) for n in inputs.named("expert")],
        seed=work.settings.seed,
        device=work.torch_device,
    )
    found: Opened = resolve_name(HERE + SCORES[name].opened)(given)
    return found
