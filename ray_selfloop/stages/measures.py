"""The stages that measure: generator quality, fairness of a scenario's trials, bias dynamics."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_selfloop import seeding
from ray_selfloop.classifiers import train
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.config.training import Training
from ray_selfloop.equation6.bias import BiasSeries, Labels, bias_series, filled_from, not_converged
from ray_selfloop.equation6.fit import fit
from ray_selfloop.equation6.steps import steps
from ray_selfloop.evaluation import inception
from ray_selfloop.evaluation.classifier_rows import fairness_rows
from ray_selfloop.evaluation.frechet import Moments
from ray_selfloop.evaluation.generator_rows import (
    Generated,
    RealFeatures,
    Reference,
    cas_rows,
    drawn_rows,
    generator_rows,
    judge_rows,
    kept_rows,
    real_features,
)
from ray_selfloop.evaluation.inception import Inception
from ray_selfloop.evaluation.predictions import Outcome, TestSet
from ray_selfloop.evaluation.rows import COLUMNS
from ray_selfloop.filtering import cut
from ray_selfloop.graph import Stage
from ray_selfloop.images import features as named_features
from ray_selfloop.images import tables
from ray_selfloop.images.imageset import Ids, Images, ImageSet, ImageSource, join
from ray_selfloop.images.pictures import selected
from ray_selfloop.images.split import apportion, stratified_cut
from ray_selfloop.stages import subgroups
from ray_selfloop.stages.ablated import ablated_name
from ray_selfloop.stages.inputs import Inputs, save_array
from ray_selfloop.stages.lessons import settings_of
from ray_selfloop.stages.samples import Drawn, cut_settings, open_sampler, read_samples
from ray_selfloop.stages.training import load_classifier, prediction_batch, torch_device

ROWS = "rows.parquet"
SAMPLE_BATCH = 250
DECODED_AT_ONCE = 256  # pictures; a multiple of every batch in which networks see them


class _Judge:
    """The generation-0 classifiers whose mean probability decides, and their features."""

    def __init__(self, inputs: Inputs, device: str) -> None:
        self._networks = [load_classifier(inputs, n, device) for n in inputs.named("judge")]
        self._device = torch_device(device)

    def labels(self, images: ImageSource) -> Ids:
        """The class that the judge gives each image."""
        batch = prediction_batch(images)
        logits = [
            train.logits(net, images, batch, self._device).astype(np.float64)
            for net in self._networks
        ]
        shifted = [np.exp(each - each.max(axis=1, keepdims=True)) for each in logits]
        mean = sum(each / each.sum(axis=1, keepdims=True) for each in shifted)
        return np.asarray(mean).argmax(axis=1).astype(np.int64)

    def features(self, images: ImageSource) -> NDArray[np.float32]:
        """Penultimate features of the first judge."""
        return train.features(self._networks[0], images, prediction_batch(images), self._device)


_Functions = dict[str, Callable[[Images], NDArray[np.floating]]]


def _of_dataset(stage: Stage, settings: Evaluation, weights: str | None, device: str) -> _Functions:
    """The feature sets that need no judge: of pixels, and of Inception where there are weights.

    weights: their SHA-256; where they lie is a hint of the stage.
    """
    found: _Functions = {}
    for name in settings.features:
        if name in named_features.OF_PIXELS:
            found[name] = named_features.OF_PIXELS[name]
    if weights:
        network = Inception(stage.hints["inception"], weights, torch_device(device))
        found[inception.name_of(weights)] = network.features
    return found


def _of_judge(settings: Evaluation, judge: _Judge) -> _Functions:
    judged = [name for name in settings.features if name not in named_features.OF_PIXELS]
    return dict.fromkeys(judged, judge.features)


def _measured(functions: _Functions, images: ImageSource) -> dict[str, NDArray[np.float32]]:
    """Features by name; pictures are decoded a portion at a time, once for all functions."""
    if isinstance(images, np.ndarray):
        return {name: function(images).astype(np.float32) for name, function in functions.items()}
    starts = range(0, len(images), DECODED_AT_ONCE)
    rows = (np.arange(start, min(start + DECODED_AT_ONCE, len(images))) for start in starts)
    parts = [_measured(functions, np.asarray(images[portion])) for portion in rows]
    return {name: np.concatenate([part[name] for part in parts]) for name in functions}


def reference(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """The real side of every comparison with generated images, once per dataset or per judge.

    Without a judge among the inputs: the features of pixels, and of Inception where config
    ``inception`` has the weights' SHA-256. With one: the judge's features, and (in the summary) how
    many held-out images of each class it gives their label. Of each set `RealFeatures` as arrays.
    """
    settings = Evaluation.model_validate(stage.config["evaluation"])
    weights, held_out = stage.config["inception"], inputs.split("held_out")
    summary: dict[str, Any] = {"inception": weights}
    if inputs.named("judge"):
        judge = _Judge(inputs, device)
        functions = _of_judge(settings, judge)
        summary["judged"] = _judged(judge, held_out)
    else:
        functions = _of_dataset(stage, settings, weights, device)
    real = _measured(functions, inputs.split("train").images)
    held = _measured(functions, held_out.images)
    for name in functions:
        found = real_features(real[name], held[name], settings)
        save_array(folder, f"{name}_train", found.train.astype(np.float32))
        save_array(folder, f"{name}_held_out", found.held_out.astype(np.float32))
        save_array(folder, f"{name}_reach", found.reach)
        save_array(folder, f"{name}_mean", found.moments.mean)
        save_array(folder, f"{name}_factor", found.moments.factor)
    return {"features": list(functions), **summary}


def _judged(judge: _Judge, held_out: ImageSet) -> list[list[int]]:
    """Of each class ``[images that the judge gives their label, images]``."""
    labels, classes = np.asarray(held_out.labels), len(held_out.class_names)
    right = labels[judge.labels(held_out.images) == labels]
    counts = [np.bincount(rows, minlength=classes) for rows in (right, labels)]
    return [[int(count) for count in row] for row in np.stack(counts, axis=1)]


def _reference(inputs: Inputs) -> Reference:
    """What the two `reference` stages published, with the original data's shares."""
    original = inputs.split("train")
    return Reference(
        features=_real_features(inputs, "reference") | _real_features(inputs, "judge_reference"),
        shares=original.subgroup_shares() if original.subgroup_names else None,
        class_names=original.class_names,
        subgroup_names=original.subgroup_names,
        judged=np.array(inputs.record("judge_reference").summary["judged"], np.int64),
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


def generator_metrics(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """Quality and balance of one generation: before the filter, after it, and in the queue.

    Features are computed of the images that are drawn for them alone: of kept and queued ones as
    many as the smallest of the queue's kept sets has, so that they do not move while it fills.
    """
    settings = Evaluation.model_validate(stage.config["evaluation"])
    judge, real = _Judge(inputs, device), _reference(inputs)
    weights = inputs.record("reference").summary["inception"]
    functions = _of_dataset(stage, settings, weights, device) | _of_judge(settings, judge)
    read, errors = subgroups.reader(inputs, device), subgroups.confusion(inputs)

    def described(images: ImageSource, labels: Ids, most: int, designed: bool = False) -> Generated:
        rows = _rows_of(images, most, settings.seed)
        return Generated(
            features=_measured(functions, join([(images, rows)])) if most else {},
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
    fresh = _before_filter(stage, inputs, settings, inputs.split("train"), device)
    size = min(settings.samples, *(len(inputs.array(n, "labels")) for n in ["kept", *queued]))
    splits = {
        "generated": described(*fresh, settings.samples),
        "kept": described(
            inputs.images("kept"), inputs.array("kept", "labels"), size, _designed(inputs, "kept")
        ),
        "queue": described(images, labels, size, all(_designed(inputs, n) for n in queued)),
    }
    drawn = read_samples(inputs)
    stays = _stays(inputs, drawn)
    n = stage.config["generation"]
    parts = [
        generator_rows("", 0, n, splits, real, settings),
        judge_rows("", 0, n, real, settings),
        kept_rows("", 0, n, described(drawn.images, drawn.labels, 0), stays, real, settings),
    ]
    if settings.cas_epochs:
        counted = _accuracy_score(stage, inputs, fresh, settings.cas_epochs, device)
        parts.append(cas_rows("", 0, n, counted, real, settings))
    rows = pd.concat(parts, ignore_index=True)
    rows.to_parquet(folder / ROWS, index=False)
    reason = inception.absence(weights)
    return {"fid_absent": reason} if reason else {}


def _designed(inputs: Inputs, kept: str) -> bool:
    """Whether a tilt set the subgroup shares of this kept set."""
    return "tilt" in inputs.record(kept).config


def _rows_of(images: ImageSource, most: int, seed: int) -> Ids:
    """At most ``most`` rows; of arrays the same whatever their order, of pictures by number."""
    if isinstance(images, np.ndarray):
        return drawn_rows(images, most, seed, "images")
    return np.sort(seeding.rng(seed, "images").permutation(len(images))[:most])


def _stays(inputs: Inputs, drawn: Drawn) -> NDArray[np.bool_]:
    """Which samples the cut let through, ``(n,)``: where a tilt resampled them, it is cut anew."""
    config = inputs.record("kept").config
    if "tilt" in config:
        return cut.keep(drawn.scores, drawn.labels, drawn.ids, cut_settings(config))
    return np.isin(drawn.ids, inputs.array("kept", "ids"))


def _accuracy_score(
    stage: Stage, inputs: Inputs, fresh: tuple[ImageSource, Ids], epochs: int, device: str
) -> tuple[int, int]:
    """Held-out real images that a judge trained on generated ones alone classifies correctly, and
    all. A tenth of the generated images decides when its training stops."""
    images, labels = fresh
    seed, held_out = seeding.derive(stage.config["seed"], "cas"), inputs.split("held_out")
    config = inputs.record(inputs.named("judge")[0]).config
    rest, apart = stratified_cut(labels, max(len(labels) // 10, 1), seeding.rng(seed, "held_out"))
    examples = train.Examples(
        train.LabeledImages(join([(images, rest)]), labels[rest]),
        train.LabeledImages(join([(images, apart)]), labels[apart]),
        len(held_out.class_names),
        config["augment"],
    )
    recipe = {**config["training"], "max_epochs": epochs, "max_steps": None, "backbone": "full"}
    training, where = Training.model_validate(recipe), torch_device(device)
    trained = train.train(config["network"], examples, training, seed, where)
    batch = prediction_batch(held_out.images)
    logits = train.logits(trained.network, held_out.images, batch, where)
    return int((logits.argmax(axis=1) == held_out.labels).sum()), len(held_out.labels)


def _before_filter(
    stage: Stage, inputs: Inputs, settings: Evaluation, original: ImageSet, device: str
) -> tuple[ImageSource, Ids]:
    """``evaluation.samples`` fresh samples in the class shares of the original data.

    A control generator has no more images than its samples stage drew: those are taken. Where
    drawing is too dear to be done for this alone: as many of those that went into the filter.
    """
    if "generator" not in inputs:
        drawn = read_samples(inputs)
        return drawn.images, drawn.labels
    if settings_of(stage).traits.dear:
        drawn = read_samples(inputs)
        size = min(settings.samples, len(drawn.labels))
        draw = seeding.rng(stage.config["seed"], "evaluation")
        _, rows = stratified_cut(drawn.labels, size, draw)
        return selected(drawn.images, rows), drawn.labels[rows]  # in memory, for any order
    shares = np.bincount(original.labels, minlength=len(original.class_names))
    labels = np.repeat(
        np.arange(len(shares)), apportion(settings.samples, shares.astype(np.float64))
    )
    sampler = open_sampler(stage, inputs, device)
    seed = seeding.derive(stage.config["seed"], "evaluation")
    rows = np.arange(len(labels))
    parts = []
    for start in range(0, len(rows), SAMPLE_BATCH):
        ids = np.resize(rows[start : start + SAMPLE_BATCH], SAMPLE_BATCH)
        parts.append(sampler.sample(ids, labels[ids], seed)[: len(rows) - start])
    return np.concatenate(parts), labels


def fairness(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """Every classifier metric of one scenario, from the stored predictions."""
    compat = stage.config.get("compat", "paper")
    outcomes = [outcome(inputs, name, compat) for name in inputs.keys if name != "dataset"]
    settings = Evaluation.model_validate(stage.config["evaluation"])
    rows = fairness_rows("", outcomes, test_set(inputs, "dataset"), settings)
    rows.to_parquet(folder / ROWS, index=False)
    return {"trials": len(outcomes)}


def dynamics(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """Eq. 6 over all scenarios of a sweep: rows of A; verdicts, parameters, laws in the summary."""
    settings = Evaluation.model_validate(stage.config["evaluation"])
    series: list[BiasSeries] = []
    tables, contents = [pd.DataFrame(columns=list(COLUMNS))], {}
    compat = stage.config.get("compat", {})
    for scenario in stage.config["scenarios"]:
        trials = [name for name in inputs.keys if name.startswith(f"{scenario}/trial/")]
        outcomes = [outcome(inputs, name, compat.get(scenario, "paper")) for name in trials]
        series += bias_series(scenario, outcomes, test_set(inputs, f"{scenario}/dataset"), settings)
        contents[scenario] = {_place(name): _contents(inputs, name) for name in trials}
        tables += [
            metric_rows(inputs, name, scenario)
            for name in inputs.keys
            if name.startswith(f"{scenario}/metrics/")
        ]
    table = pd.concat(tables, ignore_index=True)
    bound = settings.dynamics.least_fidelity
    labels = Labels(
        datasets=stage.config.get("datasets", {}),
        models=stage.config.get("models", {}),
        experts=stage.config["experts"],
        arms=stage.config.get("arms", {}),
        groups=stage.config.get("groups", {}),
        filled={scenario: filled_from(content) for scenario, content in contents.items()},
        gated={scenario: not_converged(table, scenario, bound) for scenario in contents},
        generations=stage.config.get("generations", {}),
        declared=stage.config.get("declared", True),
    )
    acting = steps(table, contents, settings.dynamics, settings.level)
    found = fit(series, acting, settings, labels)
    found.rows().to_parquet(folder / ROWS, index=False)
    return found.summary()


def metric_rows(inputs: Inputs, name: str, scenario: str) -> pd.DataFrame:
    """Rows of one generator_metrics stage, named ``.../<loop seed>/<generation>/<classifier>``."""
    loop_seed, _, classifier = name.rsplit("/", 3)[1:]
    rows = tables.read(inputs.store.path(inputs.record(name), ROWS)).to_pandas()
    return rows.assign(scenario=scenario, loop_seed=int(loop_seed), classifier=classifier)


def _contents(inputs: Inputs, name: str) -> dict[int, int]:
    """Generated images in a trial's training set: generation they come from -> how many."""
    mixed = inputs.record(name).summary["training_set"]
    return {int(generation): count for generation, count in mixed["by_generation"].items()}


def test_set(inputs: Inputs, name: str) -> TestSet:
    test, facts = inputs.split("test", name), inputs.record(name).summary
    return TestSet(
        labels=np.asarray(test.labels),
        subgroups=np.asarray(test.subgroups),
        units=np.asarray(test.units),
        class_names=test.class_names,
        subgroup_names=test.subgroup_names,
        train_shares=inputs.split("train", name).subgroup_shares(),
        pooled=facts["pooled"],
        crossed=facts["crossed"],
    )


def _place(name: str) -> tuple[str, int, int]:
    """Classifier, loop seed and generation of a trial (see `outcome`)."""
    loop_seed, generation, classifier = name.split("/")[-4:-1]
    return classifier, int(loop_seed), int(generation)


def outcome(inputs: Inputs, name: str, compat: str = "paper") -> Outcome:
    """One trial; its input's name ends in ``<loop seed>/<generation>/<classifier>/<seed>``."""
    loop_seed, generation, classifier, seed = name.split("/")[-4:]
    summary = inputs.record(name).summary
    return Outcome(
        int(loop_seed),
        int(generation),
        classifier,
        int(seed),
        np.asarray(inputs.array(name, "predictions")),
        bool(summary["collapsed"]),
        {
            kind: np.asarray(inputs.array(name, ablated_name(kind, compat)))
            for kind in summary.get("ablation_undefined", {}).get(compat, {})
        },
    )
