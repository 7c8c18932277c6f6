"""The results table: one row per number, put together from the tables of the stages."""

from collections.abc import Iterator

import pandas as pd

from ray_selfloop import earlier
from ray_selfloop.conclusion.published import published
from ray_selfloop.evaluation.rows import COLUMNS
from ray_selfloop.graph import Stage
from ray_selfloop.images import tables
from ray_selfloop.planning import Plan
from ray_selfloop.stages.measures import ROWS

RESULTS = "results.parquet"


def write_results(plan: Plan) -> pd.DataFrame:
    """`results.parquet`: one row per number, in one order; published whole or not at all."""
    parts = [*_fairness(plan), *_generators(plan), *_dynamics(plan)]
    results = pd.concat([pd.DataFrame(columns=list(COLUMNS)), *parts], ignore_index=True)
    order = list(COLUMNS[: COLUMNS.index("value")])
    results = results.sort_values(order, kind="stable", ignore_index=True)
    assert not results.duplicated(order).any(), "rows of the results table are unique"
    written = results.copy(deep=False)  # pandas copies attributes with every operation
    written.attrs[earlier.ABOUT] = earlier.about(plan)
    plan.write(RESULTS, lambda path: written.to_parquet(path, index=False))
    return results


def _rows(plan: Plan, stage: Stage) -> pd.DataFrame:
    record = plan.records[stage.key]
    return tables.read(plan.store.path(record, ROWS)).to_pandas()


def _fairness(plan: Plan) -> Iterator[pd.DataFrame]:
    for node, _ in published(plan, "fairness"):
        for place in node.places:
            yield _rows(plan, node.stage).assign(scenario=place.scenario)


def _generators(plan: Plan) -> Iterator[pd.DataFrame]:
    for node, _ in published(plan, "generator_metrics"):
        for place in node.places:
            rows = _rows(plan, node.stage)
            rows["loop_seed"] = pd.array([place.loop_seed] * len(rows), dtype="Int64")
            yield rows.assign(scenario=place.scenario, classifier=place.classifier)


def _dynamics(plan: Plan) -> Iterator[pd.DataFrame]:
    for node, _ in published(plan, "dynamics"):
        yield _rows(plan, node.stage)
