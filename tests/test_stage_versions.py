"""A stage whose result moves must have its version raised: one pinned number for each kind.

A failure here means: either the change was not meant to change results, and it does; or it was, and
`graph.VERSIONS` has to say so. Then raise the version and pin the new number beside it.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ray_selfloop import loop
from ray_selfloop.config.evaluation import Probe
from ray_selfloop.graph import VERSIONS, Place, Stage
from ray_selfloop.planning import Plan, prepare
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.measures import ROWS
from ray_selfloop.stages.run import execute, run_here
from ray_selfloop.stages.samples import read_samples

PINNED = {
    ("dataset", 2): 25.8198,
    ("probe", 1): 3.30962,
    ("scorer", 1): 9.8702,
    ("generator", 2): 0.45694,
    ("samples", 1): 0.1151,
    ("kept", 1): -0.13798,
    ("classifier", 1): 1.88815,
    ("reference", 1): 1.62877,
    ("generator_metrics", 4): 2.70115,
    ("fairness", 6): 2.40008,
    ("dynamics", 3): 2.0,
    ("claims", 5): 0.54259,
}
ELSEWHERE = ("search", "latents")  # pinned where they run: test_asha.py, test_picture_stages.py
CLOSE = 0.02  # relative; other processors differ in the last bits, and training amplifies them


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A micro-sweep of one generation, with its control arm and its measurements."""
    from conftest import MICRO

    storage = tmp_path_factory.mktemp("pinned")
    axes = "axes={loop.arm: [treatment, no_synthetic]}"
    plan = prepare([*MICRO, axes, "loop.generations=1", f"storage={storage}"])
    run_here(plan.graph, plan.store)
    plan.look_up()
    measured = []
    for scenario in plan.scenarios:
        data = plan.dataset(scenario.name)
        trials = plan.published("classifier", scenario.name)
        metrics = plan.published("generator_metrics", scenario.name)
        execute(loop.add_fairness(scenario, trials, data, plan.graph), plan.store)
        measured.append((scenario, loop.measurements(data, trials, metrics)))
    execute(probe_of(data, plan), plan.store)
    execute(loop.add_dynamics(plan.sweep, measured, plan.graph), plan.store)
    execute(loop.add_claims(plan.sweep, measured, plan.graph), plan.store)
    return plan


def probe_of(data: Stage, plan: Plan) -> Stage:
    """A probe of the colours, which no sweep needs: they are read from pixels."""
    settings = Probe(network="lenet", max_steps=20, augment="none").model_dump(mode="json")
    place = Place("base", 0, 0)
    config = {"probe": settings, "seed": 0, "threads": 1}
    return plan.graph.add("probe", config, {"dataset": data}, place)


def rms_of_weights(inputs: Inputs) -> float:
    weights = inputs.weights("self").values()
    return float(np.sqrt(np.mean([float(w.double().square().mean()) for w in weights])))


def mean_of_rows(inputs: Inputs) -> float:
    rows = pd.read_parquet(inputs.store.path(inputs.record("self"), ROWS))
    return float(rows["value"].abs().mean()) if len(rows) else 0.0


def mean_score(inputs: Inputs) -> float:
    drawn = read_samples(inputs, "self")
    return float(drawn.scores["domain_clip_score"].mean() + drawn.images.mean() / 255)


def size_of_effects(inputs: Inputs) -> float:
    parts = inputs.record("self").summary["decomposition"]
    return sum(abs(part["value"]) for part in parts if part["part"] == "total")


def last_loss(inputs: Inputs) -> float:
    history = inputs.store.path(inputs.record("self"), "history.json").read_text()
    return float(json.loads(history)[-1]["held_out_loss"])


SUMMARIES: dict[str, Callable[[Inputs], float]] = {
    "dataset": lambda inputs: float(inputs.array("self", "train_images").mean()),
    "probe": last_loss,
    "scorer": rms_of_weights,
    "generator": rms_of_weights,
    "samples": mean_score,
    "kept": lambda inputs: float(inputs.record("self").summary["domain_clip_score_kept"]),
    "classifier": last_loss,
    "reference": lambda inputs: float(inputs.array("self", "pixels8_reach").mean()),
    "generator_metrics": mean_of_rows,
    "fairness": mean_of_rows,
    "dynamics": lambda inputs: float(len(inputs.record("self").summary["verdicts"])),
    "claims": size_of_effects,
}


@pytest.mark.parametrize("kind", [kind for kind in VERSIONS if kind not in ELSEWHERE])
def test_a_result_moves_only_with_its_version(computed: Plan, kind: str) -> None:
    (node, *_) = computed.graph.of_kind(kind)
    reader = Stage("reader", 0, {}, {"self": node.stage.key})
    found: Any = SUMMARIES[kind](Inputs(reader, computed.store))
    assert found == pytest.approx(PINNED[kind, VERSIONS[kind]], rel=CLOSE)
