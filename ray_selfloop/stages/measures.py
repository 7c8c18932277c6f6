"""The stages that measure: generator quality, fairness of a scenario's trials, bias dynamics."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_selfloop import seeding
from ray_selfloop.classifiers import train
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.data.colorized import read_colours
from ray_selfloop.data.imageset import Ids, Images, ImageSet
from ray_selfloop.data.split import apportion
from ray_selfloop.dynamics.factors import BiasSeries, bias_series, steps
from ray_selfloop.dynamics.fit import fit
from ray_selfloop.evaluation import features as named_features
from ray_selfloop.evaluation.generator_table import (
    Generated,
    Reference,
    generator_rows,
    kept_rows,
)
from ray_selfloop.evaluation.outcomes import Outcome, TestSet
from ray_selfloop.evaluation.rows import COLUMNS
from ray_selfloop.evaluation.table import fairness_rows
from ray_selfloop.graph import Stage
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.samples import open_sampler, read_samples
from ray_selfloop.stages.training import PREDICTION_BATCH, load_classifier, torch_device

ROWS = "rows.parquet"
SAMPLE_BATCH = 250


def shares_of(data: ImageSet) -> NDArray[np.float64]:
    """Subgroup shares within each class, float ``(C, G)``."""
    counts = np.zeros((len(data.class_names), len(data.subgroup_names)))
    np.add.at(counts, (data.labels, data.subgroups), 1)
    return counts / counts.sum(axis=1, keepdims=True)


class _Judge:
    """The generation-0 classifiers whose mean probability decides, and their features."""

    def __init__(self, inputs: Inputs, device: str) -> None:
        self._networks = [load_classifier(inputs, n, device) for n in inputs.named("judge")]
        self._device = torch_device(device)

    def labels(self, images: Images) -> Ids:
        """The class that the judge gives each image."""
        logits = [
            train.logits(net, images, PREDICTION_BATCH, self._device).astype(np.float64)
            for net in self._networks
        ]
        shifted = [np.exp(each - each.max(axis=1, keepdims=True)) for each in logits]
        mean = sum(each / each.sum(axis=1, keepdims=True) for each in shifted)
        return np.asarray(mean).argmax(axis=1).astype(np.int64)

    def features(self, images: Images) -> NDArray[np.float64]:
        """Penultimate features of the first judge."""
        found = train.features(self._networks[0], images, PREDICTION_BATCH, self._device)
        return found.astype(np.float64)


def _features(
    images: Images, settings: Evaluation, judge: _Judge
) -> dict[str, NDArray[np.float64]]:
    return {
        name: (named_features.pixels8(images) if name == "pixels8" else judge.features(images))
        for name in settings.features
    }


def generator_metrics(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """Quality and balance of one generation: before the filter, after it, and in the queue."""
    settings = Evaluation.model_validate(stage.config["evaluation"])
    judge, original = _Judge(inputs, device), inputs.split("train")
    reference = Reference(
        features=_features(original.images, settings, judge),
        held_out=_features(inputs.split("held_out").images, settings, judge),
        shares=shares_of(original),
        class_names=original.class_names,
        subgroup_names=original.subgroup_names,
    )

    def described(images: Images, labels: Ids) -> Generated:
        return Generated(
            features=_features(images, settings, judge),
            labels=np.asarray(labels),
            judged=judge.labels(images),
            subgroups=read_colours(images),
        )

    queued = inputs.named("kept")
    pooled = [np.concatenate([inputs.array(n, c) for n in queued]) for c in ("images", "labels")]
    splits = {
        "generated": described(*_before_filter(stage, inputs, settings, original, device)),
        "kept": described(inputs.array("kept", "images"), inputs.array("kept", "labels")),
        "queue": described(*pooled),
    }
    drawn = read_samples(inputs)
    stays = np.isin(drawn.ids, inputs.array("kept", "ids"))
    n = stage.config["generation"]
    parts = [
        generator_rows("", 0, n, splits, reference, settings),
        kept_rows("", 0, n, described(drawn.images, drawn.labels), stays, reference, settings),
    ]
    rows = pd.concat(parts, ignore_index=True)
    rows.to_parquet(folder / ROWS, index=False)
    return {}


def _before_filter(
    stage: Stage, inputs: Inputs, settings: Evaluation, original: ImageSet, device: str
) -> tuple[Images, Ids]:
    """``evaluation.samples`` fresh samples in the class shares of the original data.

    A control generator has no more images than its samples stage drew: those are taken.
    """
    if "generator" not in inputs:
        drawn = read_samples(inputs)
        return drawn.images, drawn.labels
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
    outcomes = [_outcome(inputs, name) for name in inputs.keys if name != "dataset"]
    settings = Evaluation.model_validate(stage.config["evaluation"])
    rows = fairness_rows("", outcomes, _test_set(inputs, "dataset"), settings)
    rows.to_parquet(folder / ROWS, index=False)
    return {"trials": len(outcomes)}


def dynamics(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """Eq. 6 over all scenarios of a sweep: rows of A, and the verdicts in the summary."""
    settings = Evaluation.model_validate(stage.config["evaluation"])
    series: list[BiasSeries] = []
    tables, contents = [pd.DataFrame(columns=list(COLUMNS))], {}
    for scenario in stage.config["scenarios"]:
        trials = [name for name in inputs.keys if name.startswith(f"{scenario}/trial/")]
        outcomes = [_outcome(inputs, name) for name in trials]
        series += bias_series(
            scenario, outcomes, _test_set(inputs, f"{scenario}/dataset"), settings
        )
        contents[scenario] = {_outcome_generation(name): _contents(inputs, name) for name in trials}
        tables += [
            _metric_rows(inputs, name, scenario)
            for name in inputs.keys
            if name.startswith(f"{scenario}/metrics/")
        ]
    factors = steps(pd.concat(tables, ignore_index=True), contents, settings.dynamics)
    found = fit(series, factors, settings, stage.config["experts"])
    found.rows().to_parquet(folder / ROWS, index=False)
    return found.summary()


def _metric_rows(inputs: Inputs, name: str, scenario: str) -> pd.DataFrame:
    """Rows of one generator_metrics stage, named ``.../<loop seed>/<generation>/<classifier>``."""
    loop_seed, _, classifier = name.rsplit("/", 3)[1:]
    rows = pd.read_parquet(inputs.store.path(inputs.record(name), ROWS))
    return rows.assign(scenario=scenario, loop_seed=int(loop_seed), classifier=classifier)


def _contents(inputs: Inputs, name: str) -> dict[int, int]:
    """Generated images in a trial's training set: generation they come from -> how many."""
    mixed = inputs.record(name).summary["training_set"]
    return {int(generation): count for generation, count in mixed["by_generation"].items()}


def _test_set(inputs: Inputs, name: str) -> TestSet:
    test, config = inputs.split("test", name), inputs.record(name).config
    return TestSet(
        labels=np.asarray(test.labels),
        subgroups=np.asarray(test.subgroups),
        units=np.asarray(test.units),
        class_names=test.class_names,
        subgroup_names=test.subgroup_names,
        train_shares=shares_of(inputs.split("train", name)),
        pooled=config["initialization"] != "spurious",
        crossed=config["test_colours"] == "crossed",
    )


def _outcome_generation(name: str) -> int:
    return int(name.rsplit("/", 4)[-3])


def _outcome(inputs: Inputs, name: str) -> Outcome:
    """One trial; its input's name ends in ``<loop seed>/<generation>/<classifier>/<seed>``."""
    loop_seed, generation, classifier, seed = name.split("/")[-4:]
    return Outcome(
        int(loop_seed),
        int(generation),
        classifier,
        int(seed),
        np.asarray(inputs.array(name, "predictions")),
        bool(inputs.record(name).summary["collapsed"]),
    )
