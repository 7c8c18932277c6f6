"""The stage that judges the paper's claims, from the stored predictions of all scenarios."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ray_selfloop.claims.paired import Arm
from ray_selfloop.claims.statements import BALANCE, KIN, POORNESS
from ray_selfloop.claims.verdicts import claims as judge
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.equation6.bias import not_converged
from ray_selfloop.evaluation.metrics import Q
from ray_selfloop.evaluation.rows import COLUMNS
from ray_selfloop.graph import Stage
from ray_selfloop.stages.inputs import Inputs, save_json
from ray_selfloop.stages.measures import metric_rows, outcome, test_set


def claims(stage: Stage, inputs: Inputs, folder: Path, device: str) -> Mapping[str, Any]:
    """Verdicts, decomposition, other readings, what `a_a` shows and the scatter; also written as
    ``claims.json``."""
    settings = Evaluation.model_validate(stage.config["evaluation"])
    bound = settings.dynamics.least_fidelity
    arms = [_arm(scenario, inputs, bound) for scenario in stage.config["scenarios"]]
    summary = judge(arms, settings, stage.config["declared"]).summary()
    save_json(folder, "claims", summary)
    return summary


def _arm(scenario: Mapping[str, Any], inputs: Inputs, bound: float) -> Arm:
    """bound: `evaluation.dynamics.least_fidelity`. Classifiers that start otherwise than the
    scenario says (a LeNet among pretrained ones) are not what its claims are about."""
    name, of = scenario["name"], scenario["classifiers"]
    metrics = [key for key in inputs.keys if key.startswith(f"{name}/metrics/")]
    rows = pd.concat(
        [pd.DataFrame(columns=list(COLUMNS)), *(metric_rows(inputs, key, name) for key in metrics)],
        ignore_index=True,
    )
    trials = [key for key in inputs.keys if key.startswith(f"{name}/trial/")]
    test = test_set(inputs, f"{name}/dataset")
    return Arm(
        scenario=name,
        group=scenario["group"],
        arm=scenario["arm"],
        dataset=scenario["dataset"],
        initialization=scenario["initialization"],
        pretrained=scenario["pretrained"],
        classifiers=tuple(of),
        generations=scenario["generations"],
        subgroups=test.groups,
        pooled=test.pooled,
        regime=scenario["regime"],
        outcomes=[
            o
            for o in (outcome(inputs, key, scenario.get("compat", "paper")) for key in trials)
            if o.classifier in of
        ],
        test=test,
        quality=_quality(rows),
        not_converged=not_converged(rows, name, bound),
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
