"""What draws samples, and what scores them.

Decides what a generator is given to draw from; what a batch is, and what is published, stands in
`samples`.
"""

from pkgutil import resolve_name
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.config.scores import HERE, SCORES
from ray_selfloop.filtering.scores.base import Given, Opened
from ray_selfloop.generators import control
from ray_selfloop.generators.base import Sampler, Scene, TrainingImages, Turn, worker
from ray_selfloop.images.imageset import ImageSource
from ray_selfloop.images.pictures import Pictures, encode
from ray_selfloop.stages import classifier, generator_metrics, samples
from ray_selfloop.stages.generator import settings_of
from ray_selfloop.stages.kind import Summary, Work
from ray_selfloop.stages.samples import Batch, Scores, Settings, picture_view
from ray_selfloop.stages.subgroups import within_class_shares


def sampler_of(
    work: Work[Settings] | Work[generator_metrics.Settings], turn: Turn | None = None
) -> Sampler:
    """What draws the images of a stage's generator."""
    generator = settings_of(work.settings.generator, work.places)
    kind, inputs = worker(generator), work.inputs
    original, reserve = inputs.split("train"), inputs.split("reserve")
    scene = Scene(
        original=TrainingImages(original.images, original.labels),
        reserve=TrainingImages(reserve.images, reserve.labels),
        class_names=original.class_names,
        view=picture_view(inputs),
        device=work.torch_device,
        weights=inputs.weights("generator", kind.file) if "generator" in inputs else None,
        turn=turn,
        content=work.settings.generator.get("content"),
    )
    return kind.sampler(scene, generator)


def _sampler(work: Work[Settings]) -> Sampler:
    """What draws a samples stage's images."""
    if work.settings.skewed:
        return _skewed(work, _read_shares(work))
    of = work.settings.reserve
    turn = Turn(of.generation, of.seed, samples.plan(work).labels) if of else None
    return sampler_of(work, turn)


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
        self._form = settings_of(work.settings.generator, work.places).encodes

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
