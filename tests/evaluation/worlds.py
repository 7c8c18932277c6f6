"""Small synthetic test sets and predictions, drawn from a seed, and the rows made of them."""

import numpy as np

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation.classifier_rows import fairness_rows
from ray_selfloop.evaluation.frechet import frechet_between, moments
from ray_selfloop.evaluation.predictions import Outcome, TestSet
from ray_selfloop.graph import Stage
from ray_selfloop.stages.inputs import save_array

FEW = Evaluation(resamples=60, permutations=60)


def rows(outcomes, test, settings=FEW):
    return fairness_rows("s", outcomes, test, settings)


def pick(table, metric, classifier="a", **keys):
    """The one row with these keys; ``seed`` and ``chain`` left out mean the mean's row."""
    names_ = {"chain": "loop_seed", "cls": "class"}
    wanted = {"class": "", "subgroup": "", "loop_seed": None, "seed": None, "generation": None}
    wanted |= {names_.get(key, key): value for key, value in keys.items()}
    match = (table["metric"] == metric) & (table["classifier"] == classifier)
    for column, value in wanted.items():
        match &= table[column].isna() if value is None else (table[column] == value).fillna(False)
    (row,) = table[match].to_dict("records")
    return row


def names(prefix, count):
    return tuple(f"{prefix}{i}" for i in range(count))


def independent(rng, n=240, classes=4, groups=3, pooled=True):
    """Random labels and subgroups, one row for each unit."""
    return TestSet(
        labels=rng.integers(classes, size=n),
        subgroups=rng.integers(groups, size=n),
        units=rng.permutation(n),
        class_names=names("c", classes),
        subgroup_names=names("g", groups),
        train_shares=rng.random((classes, groups)) + 0.1,
        pooled=pooled,
        crossed=False,
    )


def crossed(rng, units=60, classes=4, groups=3, pooled=True):
    """Every unit once in every subgroup."""
    labels = np.arange(units) % classes
    return TestSet(
        labels=np.tile(labels, groups),
        subgroups=np.repeat(np.arange(groups), units),
        units=np.tile(rng.permutation(units), groups),
        class_names=names("c", classes),
        subgroup_names=names("g", groups),
        train_shares=np.ones((classes, groups)),
        pooled=pooled,
        crossed=True,
    )


def predict(rng, test, accuracy):
    """Right with the given probability (a number, or one for each row), else the next class."""
    right = rng.random(len(test.labels)) < accuracy
    return np.where(right, test.labels, (test.labels + 1) % test.classes)


def outcomes(rng, test, chains=1, generations=3, seeds=2, classifiers=("a",), gap=0.2):
    """Trials whose accuracy falls with the subgroup's number."""
    accuracy = 0.9 - gap * test.subgroups / max(test.groups - 1, 1)
    return [
        Outcome(chain, generation, classifier, seed, predict(rng, test, accuracy))
        for classifier in classifiers
        for chain in range(chains)
        for seed in range(seeds)
        for generation in range(generations)
    ]


def published_pictures(store):
    """A dataset of 8 training and 8 held-out pictures of noise: its store and its stage."""
    stage, rng = Stage("dataset", 0, {}, {}), np.random.default_rng(0)
    with store.attempt(stage.key) as folder:
        for part, n in (("train", 8), ("held_out", 8)):
            labels = np.arange(n) % 2
            save_array(folder, f"{part}_images", rng.integers(0, 256, (n, 3, 8, 8)).astype("uint8"))
            save_array(folder, f"{part}_labels", labels)
            save_array(folder, f"{part}_subgroups", labels)
            save_array(folder, f"{part}_units", np.arange(n))
        found = {"class_names": ["a", "b"], "subgroup_names": ["r", "g"]}
        store.publish(stage, folder, found, 0.0)
    return store, stage


def frechet_distance(real, generated):
    """Of two sets of features ``(n, d)``."""
    return frechet_between(moments(real), moments(generated))
