"""What a sweep's name held before: results of other settings are kept beside, never replaced.

A results table says of which settings it is. A sweep that has grown by chains, seeds, generations,
classifiers or scenarios covers what was there, and replaces it. Whatever else was there goes to a
name of its own, by its content. Knows nothing of numbers.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ray_selfloop.config.sweep import NOT_IN_A_SCENARIO, Scenario
from ray_selfloop.graph import digest
from ray_selfloop.planning import Plan

ABOUT = "selfloop.settings"  # in the table's attributes, which pandas keeps in the file
GROWING = {"generations", "loop_seeds", "classifier_seeds"}  # of `loop`
BY_CLASSIFIER = {"classifiers", "training", "training_of"}
BY_KEY = {"dataset"}  # whose key holds the content and not the place


def about(plan: Plan) -> list[dict[str, Any]]:
    """What a table of these scenarios is of, as JSON."""
    return [_about(scenario, plan.dataset(scenario.name).key) for scenario in plan.scenarios]


def _about(scenario: Scenario, data: str) -> dict[str, Any]:
    """``covers`` is what may grow; ``settings``, with the data's key, what may not."""
    sweep = scenario.sweep
    apart = {*NOT_IN_A_SCENARIO, *BY_CLASSIFIER, *BY_KEY}
    settings = sweep.model_dump(mode="json", exclude=apart)
    fixed = {name: value for name, value in settings["loop"].items() if name not in GROWING}
    networks = {
        name: digest(sweep.training_for(name).model_dump(mode="json")) for name in sweep.classifiers
    }
    return {
        "settings": digest({**settings, "loop": fixed, "data": data}),
        "generations": sweep.loop.generations,
        "covers": [
            *(f"chain {seed}" for seed in sweep.loop.loop_seeds),
            *(f"seed {seed}" for seed in sweep.loop.classifier_seeds),
            *(f"{name} {how}" for name, how in networks.items()),
        ],
    }


def _covers(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    same = new["settings"] == old["settings"] and new["generations"] >= old["generations"]
    return same and set(new["covers"]) >= set(old["covers"])


def keep(plan: Plan, names: Sequence[str]) -> str:
    """Move files of other settings to names of their own; says so, "" where there are none.

    names: of the sweep's own files, the results table first.
    """
    with tempfile.TemporaryDirectory(prefix="selfloop-") as scratch:
        found = {path.name: path for path in plan.copies(names, Path(scratch))}
        table = found.get(names[0])
        if table is None or _covered(table, about(plan)):
            return ""
        mark = hashlib.sha256(table.read_bytes()).hexdigest()[:8]
    places = [plan.move(name, f"-{mark}.".join(name.rsplit(".", 1))) for name in found]
    return f"results of other settings were here; they are kept as {' and '.join(places)}"


def _covered(table: Path, now: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the present scenarios cover those of a table; not so where it does not say."""
    try:
        before = pd.read_parquet(table, columns=[]).attrs[ABOUT]
        return all(any(_covers(new, old) for new in now) for old in before)
    except (OSError, ValueError, LookupError, TypeError):
        return False
