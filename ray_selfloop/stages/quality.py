"""Quality and balance of one generation, computed: what `generator_metrics` publishes."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_selfloop import seeding
from ray_selfloop.classifiers import train
from ray_selfloop.config.training import Training
from ray_selfloop.evaluation import inception
from ray_selfloop.evaluation.frechet import Moments, RealFeatures
from ray_selfloop.evaluation.generator_rows import (
    Generated,
    Reference,
    cas_rows,
    drawn_rows,
    generator_rows,
    judge_rows,
    kept_rows,
)
from ray_selfloop.images.imageset import Ids, ImageSet, ImageSource, join
from ray_selfloop.images.pictures import selected
from ray_selfloop.images.split import apportion, stratified_cut
from ray_selfloop.stages import classifier, kept, subgroups
from ray_selfloop.stages.classifier import prediction_batch
from ray_selfloop.stages.drawing import sampler_of
from ray_selfloop.stages.generator import settings_of
from ray_selfloop.stages.generator_metrics import Settings
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.judge import Judge, measured, of_dataset, of_judge
from ray_selfloop.stages.kind import Summary, Work
from ray_selfloop.stages.measures import ROWS
from ray_selfloop.stages.samples import read_samples

SAMPLE_BATCH = 250


def _reference(inputs: Inputs, alike: bool) -> Reference:
    """What the two `reference` stages published, with the original data's shares."""
    original = inputs.split("train")
    return Reference(
        features=_real_features(inputs, "reference") | _real_features(inputs, "judge_reference"),
        shares=original.subgroup_shares() if original.subgroup_names else None,
        class_names=original.class_names,
        subgroup_names=original.subgroup_names,
        judged=np.array(inputs.record("judge_reference").summary["judged"], np.int64),
        alike=alike,
    )


def _real_features(inputs: Inputs, stage: str) -> dict[str, RealFeatures]:
    def read(name: str, part: str) -> NDArray[np.float64]:
        return inputs.array(stage, f"{name}_{part}").astype(np.float64)

    return {
        name: RealFeatures(
            train=read(name, "train"),
            reach=read(name, "reach"),
            held_out=read(name, "held_out"),
            moments=Moments(read(name, "mean"), read(name, "factor")),
        )
        for name in inputs.record(stage).summary["features"]
    }


def run(work: Work[Settings]) -> Summary:
    """Quality and balance of one generation: before the filter, after it, and in the queue.

    Features are computed of the images that are drawn for them alone: of kept and queued ones as
    many as the smallest of the queue's kept sets has, so that they do not move while it fills.
    """
    settings, inputs = work.settings.how, work.inputs
    judge, real = Judge(inputs, work.device), _reference(inputs, work.settings.alike)
    weights = inputs.record("reference").summary["inception"]
    functions = of_dataset(settings, weights, work.places.inception, work.device)
    functions |= of_judge(settings, judge)
    read, errors = subgroups.reader(inputs, work.device), subgroups.confusion(inputs)

    def described(images: ImageSource, labels: Ids, most: int, designed: bool = False) -> Generated:
        rows = _rows_of(images, most, settings.seed)
        return Generated(
            features=measured(functions, join([(images, rows)])) if most else {},
            labels=np.asarray(labels),
            judged=judge.labels(images) if most else None,
            subgroups=read(images, np.asarray(labels)) if subgroups.known(inputs) else None,
            confusion=errors,
            designed=designed,
        )

    queued = inputs.named("kept")
    labels = np.concatenate([inputs.array(n, "labels") for n in queued])
    of = [inputs.images(n) for n in queued]
    images = join([(source, np.arange(len(source))) for source in of])
    fresh = _before_filter(work, inputs.split("train"))
    size = min(settings.samples, *(len(inputs.array(n, "labels")) for n in ["kept", *queued]))
    splits = {
        "generated": described(*fresh, settings.samples),
        "kept": described(
            inputs.images("kept"),
            inputs.array("kept", "labels"),
            size,
            kept.designed(inputs, "kept"),
        ),
        "queue": described(images, labels, size, all(kept.designed(inputs, n) for n in queued)),
    }
    drawn = read_samples(inputs)
    stays = kept.stays(inputs, drawn)
    n = work.settings.generation
    parts = [
        generator_rows(n, splits, real, settings),
        judge_rows(n, real, settings),
        kept_rows(n, described(drawn.images, drawn.labels, 0), stays, real, settings),
    ]
    if settings.cas_epochs:
        counted = _accuracy_score(work, fresh, settings.cas_epochs)
        parts.append(cas_rows(n, counted, real, settings))
    rows = pd.concat(parts, ignore_index=True)
    rows.to_parquet(work.folder / ROWS, index=False)
    reason = inception.absence(weights)
    return {"fid_absent": reason} if reason else {}


def _rows_of(images: ImageSource, most: int, seed: int) -> Ids:
    """At most ``most`` rows; of arrays the same whatever their order, of pictures by number."""
    if isinstance(images, np.ndarray):
        return drawn_rows(images, most, seed, "images")
    return np.sort(seeding.rng(seed, "images").permutation(len(images))[:most])


def _accuracy_score(
    work: Work[Settings], fresh: tuple[ImageSource, Ids], epochs: int
) -> tuple[int, int]:
    """Held-out real images that a judge trained on generated ones alone classifies correctly, and
    all. A tenth of the generated images decides when its training stops."""
    images, labels = fresh
    inputs, where = work.inputs, work.torch_device
    seed, held_out = seeding.derive(work.settings.seed, "cas"), inputs.split("held_out")
    judge = classifier.KIND.read(inputs.record(inputs.named("judge")[0]).config)
    rest, apart = stratified_cut(labels, max(len(labels) // 10, 1), seeding.rng(seed, "held_out"))
    examples = train.Examples(
        train.LabeledImages(join([(images, rest)]), labels[rest]),
        train.LabeledImages(join([(images, apart)]), labels[apart]),
        len(held_out.class_names),
        judge.augment,
    )
    scratch = {"max_epochs": epochs, "max_steps": None, "backbone": "full"}
    training = Training.model_validate({**judge.training, **scratch})
    trained = train.train(judge.network, examples, training, seed, where)
    batch = prediction_batch(held_out.images)
    logits = train.logits(trained.network, held_out.images, batch, where)
    return int((logits.argmax(axis=1) == held_out.labels).sum()), len(held_out.labels)


def _before_filter(work: Work[Settings], original: ImageSet) -> tuple[ImageSource, Ids]:
    """``evaluation.samples`` fresh samples in the class shares of the original data.

    A control generator has no more images than its samples stage drew: those are taken. Where
    drawing is too dear to be done for this alone: as many of those that went into the filter.
    """
    inputs, most = work.inputs, work.settings.how.samples
    if "generator" not in inputs:
        drawn = read_samples(inputs)
        return drawn.images, drawn.labels
    generator = settings_of(work.settings.generator, work.places)
    if generator.traits.dear:
        drawn = read_samples(inputs)
        size = min(most, len(drawn.labels))
        draw = seeding.rng(work.settings.seed, "evaluation")
        _, rows = stratified_cut(drawn.labels, size, draw)
        return selected(drawn.images, rows), drawn.labels[rows]  # in memory, for any order
    shares = np.bincount(original.labels, minlength=len(original.class_names))
    labels = np.repeat(np.arange(len(shares)), apportion(most, shares.astype(np.float64)))
    sampler = sampler_of(work)
    seed = seeding.derive(work.settings.seed, "evaluation")
    rows = np.arange(len(labels))
    parts = []
    for start in range(0, len(rows), SAMPLE_BATCH):
        ids = np.resize(rows[start : start + SAMPLE_BATCH], SAMPLE_BATCH)
        parts.append(sampler.sample(ids, labels[ids], seed)[: len(rows) - start])
    return np.concatenate(parts), labels
