"""The results table: one row per number, put together from the tables of the stages."""

import pandas as pd

from ray_selfloop import earlier
from ray_selfloop.conclusion import tables as written_as
from ray_selfloop.conclusion.published import published
from ray_selfloop.evaluation.rows import COLUMNS
from ray_selfloop.graph import Node, Place
from ray_selfloop.images import tables
from ray_selfloop.planning import Plan
from ray_selfloop.stages import equation6, fairness, generator_metrics
from ray_selfloop.stages.measures import ROWS

RESULTS = "results.parquet"
MEASURED = (fairness.KIND, generator_metrics.KIND, equation6.KIND)


def write_results(plan: Plan) -> pd.DataFrame:
    """`results.parquet`: one row per number, in one order; published whole or not at all."""
    parts = [_rows(plan, node, place) for kind in MEASURED for node, _ in published(plan, kind)
             for place in node.places]  # fmt: skip
    results = pd.concat([pd.DataFrame(columns=list(COLUMNS)), *parts], ignore_index=True)
    order = list(COLUMNS[: COLUMNS.index("value")])
    results = results.sort_values(order, kind="stable", ignore_index=True)
    assert not results.duplicated(order).any(), "rows of the results table are unique"
    written = written_as.results(results, plan.scenarios)  # attributes: copied by every operation
    written.attrs[earlier.ABOUT] = earlier.about(plan)
    plan.write(RESULTS, lambda path: written.to_parquet(path, index=False))
    return results


def _rows(plan: Plan, node: Node, place: Place) -> pd.DataFrame:
    """What a stage has measured, at one of its places; eq. 6 names its scenarios itself."""
    rows = tables.read(plan.store.path(plan.records[node.stage.key], ROWS)).to_pandas()
    if node.stage.kind == equation6.KIND.name:
        return rows
    if node.stage.kind == generator_metrics.KIND.name:
        rows["loop_seed"] = pd.array([place.loop_seed] * len(rows), dtype="Int64")
        rows["classifier"] = place.classifier
    return rows.assign(scenario=place.scenario)
