"""The examples of docs/extending.md of what is an object in one file.

Each example is run as it stands there; an object among the names of the file that it is added to.
"""

import dataclasses
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

sys.path += [str(Path(__file__).parent / room) for room in ("evaluation", "claims", "report")]
import synthetic_sweep
import worlds
from arm_worlds import World
from conftest import MICRO, TWO_STARTS
from extending_page import PAGE, example

from ray_selfloop import arms, loop, measurements
from ray_selfloop.claims import cases, statements, verdicts
from ray_selfloop.config import arms as all_arms
from ray_selfloop.config import load
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.distributed.clouds import gcp
from ray_selfloop.evaluation import generator_rows, metrics
from ray_selfloop.evaluation.metrics import About, in_key
from ray_selfloop.graph import Graph
from ray_selfloop.planning import prepare
from ray_selfloop.report import definitions, figures, style, terminal
from ray_selfloop.report.series import Table
from ray_selfloop.stages import kinds
from ray_selfloop.stages.chain import chains
from ray_selfloop.stages.run import execute

FEW = Evaluation(resamples=40, permutations=40)
LATER = in_key(About.GENERATORS)["metrics"]  # that came after the first set


def added(text: str, file: ModuleType) -> dict[str, Any]:
    """The names that an example defines, run among those of the file that it belongs to."""
    names = dict(vars(file))
    exec(text, names)
    return names


@pytest.fixture
def registry() -> Iterator[dict[str, metrics.Metric]]:
    """The registry, as it was after each test."""
    before = dict(metrics.METRICS)
    yield metrics.METRICS
    metrics.METRICS.clear()
    metrics.METRICS.update(before)
    for cached in (metrics.base, metrics.describe):
        cached.cache_clear()


def test_a_metric_is_one_function_and_everything_else_follows(registry):
    rng = np.random.default_rng(0)
    test = worlds.crossed(rng)
    outcomes = worlds.outcomes(rng, test, chains=2)
    before = worlds.rows(outcomes, test, FEW)
    spread = added(example("metric.rates"), metrics)["spread"]

    after = worlds.rows(outcomes, test, FEW)
    new = after["metric"].map(metrics.base) == spread.name
    assert after[~new].reset_index(drop=True).equals(before)
    here = set(after["metric"][new])
    assert {"spread", "spread_pooled", "spread_per_class", "spread_change", "spread_floor"} <= here
    row = worlds.pick(after, "spread", generation=0)
    assert 0 <= row["low"] <= row["value"] <= row["high"] < 1

    assert definitions.used(["spread_pooled"]) == [spread]
    assert any(line.startswith("| `spread` (Spread) | fraction |") for line in metrics.page())
    view = synthetic_sweep.view()
    scenario, table = view.scenarios[0], Table(view.results)
    drawn = figures.overall(table, scenario, style.inks(scenario.classifiers))
    assert [axes.get_title(loc="left") for axes in drawn.axes][-1] == "Spread"
    assert terminal.metrics(table, scenario)[-1] == ("spread", "Spread")


def test_a_generator_metric_is_one_function_too(registry):
    rng = np.random.default_rng(0)
    train, held_out, drawn = (rng.normal(size=(60, 3)) for _ in range(3))
    added(example("metric.features"), metrics)
    real = generator_rows.real_features(train, held_out, FEW)
    reference = generator_rows.Reference({"pixels8": real}, None, ("a",), ())
    labels = np.zeros(60, np.int64)
    generated = generator_rows.Generated({"pixels8": drawn}, labels, None, None)
    of = {"generated": generated}
    rows = generator_rows.generator_rows(1, of, reference, FEW).set_index("metric")
    expected = np.linalg.norm(train.mean(axis=0) - drawn.mean(axis=0))
    assert rows.loc["mean_shift", "value"] == pytest.approx(float(expected))
    assert in_key(About.GENERATORS) == {"metrics": {**LATER, "mean_shift": 1}}
    assert "mean_shift" not in in_key(About.CLASSIFIERS)["metrics"]


def measured(*words: str) -> dict[str, str]:
    """Kind of stage -> key, of the measurements of the quickstart's first scenario."""
    sweep, (scenario, *_) = load.load(None, words)
    graph = Graph()
    for chain in chains(scenario):
        loop.add_chain(chain, "files", graph)
    data = graph.of_kind("dataset")[0].stage
    measurements.add_fairness(scenario, {}, data, graph)
    found = measurements.published(data, {}, {})
    measurements.add_equation6(sweep, [(scenario, found)], graph)
    measurements.add_claims(sweep, [(scenario, found)], graph)
    return {node.stage.kind: node.stage.key for node in graph}


def changed(before: dict[str, str]) -> set[str]:
    after = measured()
    return {kind for kind, key in before.items() if after[kind] != key}


def test_a_metric_that_comes_changes_or_goes_gives_its_stages_another_key(registry):
    first = {name for names in metrics.FOUNDING.values() for name in names}
    assert not first & {*in_key(*About)["metrics"]}  # what was published before keeps its name
    before, of_classifiers = measured(), {"fairness", "dynamics", "claims"}
    md, fid = registry["md"], registry["fid"]
    registry["md"] = dataclasses.replace(md, version=2)
    assert in_key(About.CLASSIFIERS)["metrics"]["md"] == 2
    assert changed(before) == of_classifiers
    registry["md"] = md
    added(example("metric.rates"), metrics)
    assert changed(before) == of_classifiers
    del registry["spread"], registry["fid"]
    assert in_key(About.GENERATORS) == {"metrics": {**LATER, "fid": 0}}
    assert changed(before) == {"generator_metrics"}
    registry["fid"] = fid
    assert changed(before) == set()


def test_an_arm_is_one_object(monkeypatch):
    arm = added(example("arm"), all_arms)["GENTLE"]
    monkeypatch.setitem(all_arms.ARMS, arm.name, arm)
    (scenario,) = load.load(TWO_STARTS, ["axes={}"])[1]
    of = scenario.sweep.loop.model_copy(update={"arm": arm.name})  # its name joins `ArmName`
    sweep = scenario.sweep.model_copy(update={"loop": of})
    assert arms.adapted(sweep).filter.drop == 0.1
    graph = Graph()
    for chain in chains(scenario.model_copy(update={"sweep": sweep})):
        loop.add_chain(chain, "files", graph)
    kept = graph.of_kind("kept")
    assert len(kept) == sweep.loop.generations
    assert {node.stage.config["drop"] for node in kept} == {0.1}


def test_a_claim_is_one_statement(monkeypatch):
    ours = statements.read(example("claim"))
    monkeypatch.setattr(cases, "STATEMENTS", (*statements.STATEMENTS, *ours))
    world = World(0, level=1.0)
    steps = {"treatment": (0.0, 0.0, -0.8), "no_synthetic": 0.0}
    found = verdicts.claims(world.arms(steps, chains=4), FEW).summary()["claims"]
    (verdict,) = [claim for claim in found if claim["id"] == "ours-worst"]
    assert verdict["section"] == "ours"
    assert verdict["verdict"] == "supported"


def test_a_kind_of_stage_is_one_file(monkeypatch, tmp_path):
    file = ModuleType("ray_selfloop.stages.brightness")
    monkeypatch.setitem(sys.modules, file.__name__, file)
    exec(example("stage"), vars(file))
    monkeypatch.setattr(kinds, "NAMED", {**kinds.NAMED, "brightness": file.KIND})
    (line,) = re.findall(r"`(self\.add\(.*\))`\.", PAGE.read_text("utf-8"))

    class Longer(loop.Loop):
        def draw(self, n, scoring):
            drawn = super().draw(n, scoring)
            exec(line, {"brightness": file, "self": self, "n": n})
            return drawn

    monkeypatch.setattr(loop, "Loop", Longer)
    own = [word for word in MICRO if not word.startswith("generator")]
    few = ["generator={name: duplicate_real}", "filter.score=none", "axes={}"]
    plan = prepare([*own, *few, f"storage={tmp_path}"])
    nodes = plan.graph.of_kind("brightness")
    assert len(nodes) == plan.sweep.loop.generations
    wanted = {"dataset", "samples", "kept", "brightness"}
    records = [execute(node.stage, plan.store) for node in plan.graph if node.stage.kind in wanted]
    found = [record for record in records if record.kind == "brightness"]
    assert found[0].config == {"every": 1, "threads": 1}
    assert 0 < found[0].summary["brightness"] < 255


def test_the_example_of_a_cloud_is_the_shortest_that_there_is() -> None:
    assert example("cloud") == Path(gcp.__file__).read_text(encoding="utf-8")
