"""Every classifier metric of one scenario, from the predictions of its trials."""

from dataclasses import replace
from typing import Any

from ray_selfloop.config.sweep import Scenario
from ray_selfloop.evaluation.metrics import About, in_key
from ray_selfloop.stages.evaluated import Evaluated, measured_with
from ray_selfloop.stages.kind import Kind, Summary, Work


class Settings(Evaluated):
    """compat: which reading of the ablations is taken, where pictures have masks. alike: whether
    subgroup i means the same in every class."""

    compat: str = "paper"
    alike: bool = False


def settings(scenario: Scenario) -> Settings:
    sweep = scenario.sweep
    more: dict[str, Any] = (
        {"compat": sweep.evaluation.ablation.compat} if sweep.dataset.masked else {}
    )
    if sweep.dataset.alike:
        more["alike"] = True
    more |= in_key(About.CLASSIFIERS)
    return Settings(evaluation=measured_with(sweep), **more)


def run(work: Work[Settings]) -> Summary:
    from ray_selfloop.evaluation.classifier_rows import fairness_rows
    from ray_selfloop.stages.measures import ROWS, outcome, test_set

    inputs, compat = work.inputs, work.settings.compat
    outcomes = [outcome(inputs, name, compat) for name in inputs.keys if name != "dataset"]
    test = replace(test_set(inputs, "dataset"), alike=work.settings.alike)
    rows = fairness_rows("", outcomes, test, work.settings.how)
    rows.to_parquet(work.folder / ROWS, index=False)
    return {"trials": len(outcomes)}


KIND = Kind("fairness", version=8, holds=Settings, run="ray_selfloop.stages.fairness:run")
