"""The claims stage reads published records, and says of them what the core says."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation.rows import Rows, Where
from ray_selfloop.graph import Graph, Place, Stage
from ray_selfloop.planning import prepare
from ray_selfloop.stages.inputs import Inputs, save_array
from ray_selfloop.stages.kinds import NAMED
from ray_selfloop.stages.measures import ROWS
from ray_selfloop.stages.run import execute
from ray_selfloop.store.records import Record, Store

CHAINS, GENERATIONS = 3, 2
ARMS = {"treatment": 0.2, "no_synthetic": 0.0}  # share of test rows lost per generation


def published(store: Store, graph: Graph, name: str, write, summary) -> Stage:  # type: ignore[no-untyped-def]
    """A record whose files ``write`` makes, under a key of its own."""
    stage = graph.add(NAMED["classifier"], {"name": name}, {}, Place("base", 0, 0))
    with store.attempt(stage.key) as folder:
        write(folder)
        store.publish(stage, folder, summary, 1.0)
    return stage


@pytest.fixture(scope="module")
def claimed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Store]:
    from conftest import MICRO

    plan = prepare([*MICRO, f"storage={tmp_path_factory.mktemp('claims')}"])
    store, graph = plan.store, plan.graph
    data = plan.dataset("base")
    execute(data, store)
    labels = np.asarray(Inputs(Stage("reader", 0, {}, {"d": data.key}), store).array(
        "d", "test_labels"))  # fmt: skip
    rng, inputs = np.random.default_rng(0), {}
    for arm, loss in ARMS.items():
        inputs[f"{arm}/dataset"] = data
        for chain in range(CHAINS):
            for t in range(GENERATIONS + 1):
                stream = np.random.default_rng(chain) if t == 0 else rng
                wrong = stream.random(len(labels)) < 0.1 + loss * t
                predictions = np.where(wrong, (labels + 1) % 10, labels).astype(np.int16)
                name = f"{arm}/trial/{chain}/{t}/lenet/0"
                inputs[name] = published(
                    store, graph, name,
                    lambda folder, p=predictions: save_array(folder, "predictions", p),
                    {"collapsed": False},
                )  # fmt: skip
    for chain in range(CHAINS):
        for t in range(1, GENERATIONS + 1):
            name = f"treatment/metrics/{chain}/{t}/"
            inputs[name] = published(
                store, graph, name, distance_rows(t, 50.0 - 10 * t + chain), {}
            )
    scenarios = [
        {"name": arm, "group": "base", "arm": arm, "dataset": "cifar20_100",
         "initialization": "", "pretrained": False, "classifiers": ["lenet"],
         "generations": GENERATIONS, "subgroups": 3, "regime": "stack"}
        for arm in ARMS
    ]  # fmt: skip
    settings = Evaluation(resamples=50, permutations=50)
    config = {"evaluation": settings.model_dump(mode="json"), "scenarios": scenarios,
              "declared": True}  # fmt: skip
    stage = graph.add(NAMED["claims"], config, inputs, Place("base", 0, GENERATIONS))
    return execute(stage, store), store


def distance_rows(t: int, value: float):  # type: ignore[no-untyped-def]
    """Writes what a generator_metrics stage writes: the distance before the filter, and after."""
    frames = []
    for split, shift in (("generated", 0.0), ("kept", 7.0)):
        rows = Rows("", split)
        rows.add("fid", [value + shift], Where(0, t))
        frames.append(rows.frame())

    def write(folder: Path) -> None:
        pd.concat(frames).to_parquet(folder / ROWS, index=False)

    return write


def test_the_stage_judges_what_is_published(claimed: tuple[Record, Store]) -> None:
    record, store = claimed
    summary = json.loads(store.path(record, "claims.json").read_text())
    assert summary == record.summary
    found = {c["id"]: c for c in summary["claims"] if c["value"] is not None}
    accuracy = found["cifar-scratch-accuracy"]
    assert accuracy["verdict"] == "supported"
    assert accuracy["value"] == pytest.approx(-0.4, abs=0.03)
    assert (accuracy["scenario_group"], accuracy["chains"]) == ("base", CHAINS)
    assert [network["name"] for network in accuracy["networks"]] == ["lenet"]
    total = next(p for p in summary["decomposition"] if p["part"] == "total")
    assert total["value"] == pytest.approx(-0.4, abs=0.03)


def test_a_generators_distance_is_that_before_the_filter(claimed: tuple[Record, Store]) -> None:
    fid = [
        c for c in claimed[0].summary["claims"] if c["id"] == "cifar-fid" and c["metric"] == "fid"
    ]
    assert {c["value"] for c in fid} == {-10.0}
    assert [c["margin"] for c in fid] == pytest.approx(
        [4.1]
    )  # a tenth of generation 1's; one step: both estimands are one
