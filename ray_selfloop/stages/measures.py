"""What measurements read of what a run has published: predictions of trials, rows of a generator.

The name of an input says where in a sweep it stands: see `names`.
"""

import numpy as np
import pandas as pd

from ray_selfloop.evaluation.predictions import Outcome, TestSet
from ray_selfloop.evaluation.rows import COLUMNS
from ray_selfloop.graph import Place
from ray_selfloop.images.tables import read
from ray_selfloop.stages import names
from ray_selfloop.stages.ablated import ablated_name
from ray_selfloop.stages.inputs import Inputs

ROWS = "rows.parquet"


def trials_of(inputs: Inputs, scenario: str) -> dict[str, Place]:
    """The inputs that are trials of one scenario, among several, with their places."""
    start = f"{scenario}/{names.TRIAL}"
    return {name: names.place(scenario, name) for name in inputs.keys if name.startswith(start)}


def metric_rows(inputs: Inputs, scenario: str) -> pd.DataFrame:
    """Rows of all generator_metrics stages of one scenario, among several."""
    tables = [pd.DataFrame(columns=list(COLUMNS))]
    for name in inputs.keys:
        if name.startswith(f"{scenario}/{names.METRICS}"):
            place = names.place(scenario, name)
            rows = read(inputs.store.path(inputs.record(name), ROWS)).to_pandas()
            about = {"loop_seed": place.loop_seed, "classifier": place.classifier}
            tables.append(rows.assign(scenario=scenario, **about))
    return pd.concat(tables, ignore_index=True)


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
    """One trial, which its input's name ends in (see `names`)."""
    summary, place = inputs.record(name).summary, names.place("", name)
    return Outcome(
        *place[1:],
        np.asarray(inputs.array(name, "predictions")),
        bool(summary["collapsed"]),
        {
            kind: np.asarray(inputs.array(name, ablated_name(kind, compat)))
            for kind in summary.get("ablation_undefined", {}).get(compat, {})
        },
    )
