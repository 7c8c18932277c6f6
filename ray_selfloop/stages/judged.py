"""What the paper's claims are judged on: a scenario with what it has published."""

from collections.abc import Sequence

import pandas as pd

from ray_selfloop.claims.paired import Arm
from ray_selfloop.claims.statements import BALANCE, KIN, POORNESS
from ray_selfloop.equation6.bias import not_converged
from ray_selfloop.evaluation.metrics import Q
from ray_selfloop.stages.claims import Described
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.measures import metric_rows, outcome, test_set, trials_of


def arm(
    scenario: Described, inputs: Inputs, bound: float, looks: Sequence[Sequence[int]] = ()
) -> Arm:
    """bound: `evaluation.dynamics.least_fidelity`. looks: the loop seeds of each.

    Classifiers that start otherwise than the scenario says (a LeNet among pretrained ones) are not
    what its claims are about.
    """
    name = scenario.name
    rows, test = metric_rows(inputs, name), test_set(inputs, f"{name}/dataset")
    outcomes = (outcome(inputs, key, scenario.compat) for key in trials_of(inputs, name))
    return scenario.judged(
        subgroups=test.groups,
        pooled=test.pooled,
        outcomes=[one for one in outcomes if one.classifier in scenario.classifiers],
        test=test,
        quality=_quality(rows),
        not_converged=not_converged(rows, name, bound),
        gates={
            len(seeds): not_converged(rows[rows["loop_seed"].isin(seeds)], name, bound)
            for seeds in looks
        },
    )


def _quality(rows: pd.DataFrame) -> dict[str, dict[tuple[str, int, int], float]]:
    """What each generator drew, before the filter: distances, the change of the majority's share,
    1 - q."""
    found: dict[str, dict[tuple[str, int, int], float]] = {}
    whole = (rows["split"] == "generated") & (rows["class"] == "") & (rows["subgroup"] == "")
    wanted = rows["metric"].str.startswith(KIN) | rows["metric"].isin([BALANCE, Q.name])
    for row in rows[whole & wanted & rows["value"].notna()].to_dict("records"):
        place = (row["classifier"], int(row["loop_seed"]), int(row["generation"]))
        poor = row["metric"] == Q.name
        name, value = (POORNESS, 1.0 - row["value"]) if poor else (row["metric"], row["value"])
        found.setdefault(name, {})[place] = float(value)
    return found
