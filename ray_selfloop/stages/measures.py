"""What measurements read of what a run has published: predictions of trials, rows of a generator.

The name of an input says where in a sweep it stands: see `measurements`.
"""

import re

import numpy as np
import pandas as pd

from ray_selfloop.config.networks import TIMM
from ray_selfloop.evaluation.predictions import Outcome, TestSet
from ray_selfloop.images import tables
from ray_selfloop.stages.ablated import ablated_name
from ray_selfloop.stages.inputs import Inputs

ROWS = "rows.parquet"
PLACED = re.compile(rf"(?:^|/)(\d+)/(\d+)/((?:{TIMM})?[^/]*)(?:/(\d+))?$")


def placed(name: str) -> tuple[str, ...]:
    """Loop seed, generation, classifier and seed in an input's name; timm's have a slash inside."""
    found = PLACED.search(name)
    assert found, name
    return found.groups("")


def metric_rows(inputs: Inputs, name: str, scenario: str) -> pd.DataFrame:
    """Rows of one generator_metrics stage, named ``.../<loop seed>/<generation>/<classifier>``."""
    loop_seed, _, classifier, _ = placed(name)
    rows = tables.read(inputs.store.path(inputs.record(name), ROWS)).to_pandas()
    return rows.assign(scenario=scenario, loop_seed=int(loop_seed), classifier=classifier)


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


def outcome(inputs: Inputs, name: str, compat: str = "paper") -> Outcome:
    """One trial; its input's name ends in ``<loop seed>/<generation>/<classifier>/<seed>``."""
    loop_seed, generation, classifier, seed = placed(name)
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
