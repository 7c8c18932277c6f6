"""The real side of every comparison with generated images: once for a dataset, once for a judge."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ray_selfloop.images.imageset import Ids, ImageSet
from ray_selfloop.stages.chain import Chain, Who
from ray_selfloop.stages.evaluated import Evaluated
from ray_selfloop.stages.inputs import save_array
from ray_selfloop.stages.kind import Kind, Needs, Summary, Work

FIELDS = {"features", "reference", "neighbours", "seed"}  # of `evaluation`


class Settings(Evaluated):
    """inception: SHA-256 of its weights; None without any, and in the reference of a judge."""

    inception: str | None = None


def settings(chain: Chain, n: int, who: Who) -> Settings:
    """who: the judge, if it is the judge's reference."""
    evaluation = chain.sweep.evaluation
    return Settings(
        evaluation=evaluation.model_dump(mode="json", include=FIELDS),
        inception=None if who.network else _identity(evaluation.inception),
    )


def _identity(setting: str | None) -> str | None:
    if setting is None:
        return None
    from ray_selfloop.evaluation import inception  # loads torch

    return inception.identity(setting)


def places(chain: Chain, who: Who) -> Mapping[str, Any]:
    setting = chain.sweep.evaluation.inception
    path = setting and (setting if setting == "download" else os.path.abspath(setting))
    return {"inception": path} if path else {}


def run(work: Work[Settings]) -> Summary:
    """The real side of every comparison with generated images.

    Without a judge among the inputs: the features of pixels, and of Inception where there are
    weights. With one: the judge's features, and (in the summary) how
    many held-out images of each class it gives their label. Of each set `RealFeatures` as arrays.
    """
    from ray_selfloop.evaluation.generator_rows import real_features
    from ray_selfloop.stages.judge import Judge, measured, of_dataset, of_judge

    settings, inputs = work.settings.how, work.inputs
    weights, held_out = work.settings.inception, inputs.split("held_out")
    summary: dict[str, Any] = {"inception": weights}
    if inputs.named("judge"):
        judge = Judge(inputs, work.device)
        functions = of_judge(settings, judge)
        summary["judged"] = _judged(judge.labels(held_out.images), held_out)
    else:
        functions = of_dataset(settings, weights, work.places.inception, work.device)
    real = measured(functions, inputs.split("train").images)
    held = measured(functions, held_out.images)
    for name in functions:
        found = real_features(real[name], held[name], settings)
        save_array(work.folder, f"{name}_train", found.train.astype(np.float32))
        save_array(work.folder, f"{name}_held_out", found.held_out.astype(np.float32))
        save_array(work.folder, f"{name}_reach", found.reach)
        save_array(work.folder, f"{name}_mean", found.moments.mean)
        save_array(work.folder, f"{name}_factor", found.moments.factor)
    return {"features": list(functions), **summary}


def _judged(given: Ids, held_out: ImageSet) -> list[list[int]]:
    """Of each class ``[images that the judge gives their label, images]``."""
    labels, classes = np.asarray(held_out.labels), len(held_out.class_names)
    right = labels[given == labels]
    counts = [np.bincount(rows, minlength=classes) for rows in (right, labels)]
    return [[int(count) for count in row] for row in np.stack(counts, axis=1)]


KIND = Kind(
    "reference",
    version=1,
    holds=Settings,
    run="ray_selfloop.stages.reference:run",
    needs=Needs(gpu="gpus_per_trial"),
    settings=settings,
    places=places,
)
