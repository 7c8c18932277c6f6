"""What is said of A, as far as positive controls let it stand."""

from collections.abc import Iterator, Mapping
from typing import Any

from ray_selfloop import arms
from ray_selfloop.claims.positive import UNSEEN
from ray_selfloop.conclusion.published import published
from ray_selfloop.planning import Plan
from ray_selfloop.stages import claims, equation6

VOID = "undecided: the positive control was not seen"


def amplifications(plan: Plan) -> Iterator[Mapping[str, Any]]:
    """Every verdict on A; no word where a setting's positive control was not seen."""
    checks = [record.summary.get("positive", ()) for _, record in published(plan, claims.KIND)]
    unseen = {one["scenario_group"] for of in checks for one in of if one["verdict"] == UNSEEN}
    group = {scenario.name: arms.group(scenario) for scenario in plan.scenarios}
    for _, record in published(plan, equation6.KIND):
        for verdict in record.summary["verdicts"]:
            void = group[verdict["scenario"]] in unseen
            yield {**verdict, "text": VOID} if void else verdict
