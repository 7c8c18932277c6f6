"""What predictions of a table say of a scenario, by the same path as a sweep's own.

Images are paired by their name in the table. Knows no file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ray_selfloop.claims.paired import Arm, Measured, measure
from ray_selfloop.config.arms import TREATMENT
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation.predictions import Floats, Outcome, TestSet, confusions
from ray_selfloop.outside.counted import alike, test_set
from ray_selfloop.outside.read import names_of

TRIAL = ["classifier", "chain", "seed", "generation"]


@dataclass(frozen=True)
class Predictions:
    """A scenario's trials, on one test set."""

    scenario: str
    test: TestSet
    outcomes: list[Outcome]

    def given(self, classifier: str) -> Floats:
        """Test rows of each class and subgroup by predicted class, ``(T, C, G, C)``."""
        return confusions(self._of(classifier), self.test)

    def places(self, classifier: str) -> list[tuple[int, int, int]]:
        """Chain, seed and generation of each of its trials."""
        return [(o.loop_seed, o.seed, o.generation) for o in self._of(classifier)]

    def _of(self, classifier: str) -> list[Outcome]:
        return [o for o in self.outcomes if o.classifier == classifier]

    def measured(self, classifier: str, settings: Evaluation, last: int) -> Measured:
        """Readings of one classifier, for contrasts of its chains."""
        groups, pooled, name = self.test.groups, self.test.pooled, TREATMENT.name
        about = (self.scenario, "", name, "", "", False, (classifier,), last, groups, pooled)
        found = measure(classifier, {name: Arm(*about, self.outcomes, self.test)}, settings)
        assert found is not None, "a table has later generations"
        return found


def predictions(
    scenario: str, rows: pd.DataFrame, names: tuple[Sequence[str], Sequence[str]]
) -> Predictions:
    """names: of the classes and of the groups."""
    label = {name: i for i, name in enumerate(names[0])}
    group = {name: i for i, name in enumerate(names[1])}
    coded = rows.assign(
        label=rows["class"].map(label),
        subgroup=rows["group"].map(group),
        unit=pd.Categorical(rows["image"], names_of(rows["image"])).codes,
        given=rows["prediction"].map(label),
    ).sort_values([*TRIAL, "unit", "label", "subgroup"], kind="stable")
    outcomes = []
    for place, of in coded.groupby(TRIAL, sort=True):
        classifier, chain, seed, generation = place
        given = of["given"].to_numpy(np.int64)
        outcomes.append(Outcome(int(chain), int(generation), str(classifier), int(seed), given))
    first = coded.iloc[: len(coded) // len(outcomes)]
    return Predictions(scenario, _test(first, names), outcomes)


def _test(rows: pd.DataFrame, names: tuple[Sequence[str], Sequence[str]]) -> TestSet:
    """The test set of one trial's rows. Images that each stand in every group are crossed; that
    some do and others do not is taken for images of their own."""
    labels, groups, units = (rows[c].to_numpy(np.int64) for c in ("label", "subgroup", "unit"))
    support = np.zeros((len(names[0]), len(names[1])))
    np.add.at(support, (labels, groups), 1.0)
    times = np.unique(units, return_counts=True)[1]
    crossed = bool((times == len(names[1])).all())
    if not crossed and times.max() > 1:
        units = np.arange(len(units))
    plain = test_set(support, names)
    return replace(
        plain, labels=labels, subgroups=groups, units=units, crossed=crossed, pooled=alike(support)
    )
