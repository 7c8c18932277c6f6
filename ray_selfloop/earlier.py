"""What a sweep's name held before: results that the new ones do not cover are kept beside.

A results table says of which published stages and by which settings it was measured. A sweep that
has grown by chains, seeds, generations, classifiers or scenarios covers what was there and replaces
it. Whatever else was there (other settings, an older version, more that was published) goes to a
name of its own, by its content. Knows nothing of numbers.
"""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ray_selfloop.graph import digest
from ray_selfloop.planning import Plan
from ray_selfloop.stages import classifier, fairness, generator_metrics
from ray_selfloop.stages.evaluated import judged_with

ABOUT = "selfloop.covers"  # in the table's attributes, which pandas keeps in the file
MEASURED = (classifier.KIND.name, generator_metrics.KIND.name)  # kinds whose results the rows are
SHORT = 12  # hex digits of a key
Covers = Mapping[str, Sequence[str]]


def about(plan: Plan) -> Covers:
    """What a table of this plan is of, as JSON: digests of settings, and of published stages."""
    judged = judged_with(plan.sweep)
    measured = (fairness.settings(scenario).held() for scenario in plan.scenarios)
    settings = {digest([judged, by]) for by in measured}
    return {"settings": sorted(settings), "stages": sorted(published(plan))}


def published(plan: Plan) -> set[str]:
    """Short keys of the stages whose results the table holds."""
    nodes = (node for kind in MEASURED for node in plan.graph.of_kind(kind))
    keys = {node.stage.key for node in nodes if node.stage.key in plan.records}
    return {key.rpartition("-")[2][:SHORT] for key in keys}


def keep(plan: Plan, names: Sequence[str]) -> str:
    """Move files that are not covered to names of their own; says so, "" where there are none.

    names: of the sweep's own files, the results table last: until it is moved, all is tried again.
    """
    with tempfile.TemporaryDirectory(prefix="selfloop-") as scratch:
        found = {path.name: path for path in plan.copies(names, Path(scratch))}
        table = found.get(names[-1])
        if table is None or _covered(table, about(plan)):
            return ""
        mark = hashlib.sha256(table.read_bytes()).hexdigest()[:8]
    places = [plan.move(name, f"-{mark}.".join(name.rsplit(".", 1))) for name in found]
    return (
        "results that these do not cover were here (other settings, an older version, or more that "
        f"was published); they are kept as {' and '.join(places)}"
    )


def _covered(table: Path, now: Covers) -> bool:
    """Whether the present results cover those of a table; not so where it does not say."""
    try:
        before = pd.read_parquet(table, columns=[]).attrs[ABOUT]
        return all(set(before[part]) <= set(now[part]) for part in now)
    except (OSError, ValueError, LookupError, TypeError):
        return False
