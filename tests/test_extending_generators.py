"""The example of docs/extending.md for a generator, run as it stands."""

import sys
from types import ModuleType

import numpy as np
from conftest import MICRO
from extending_page import example

from ray_selfloop import loop
from ray_selfloop.config.generators import known
from ray_selfloop.graph import Graph, Stage
from ray_selfloop.planning import prepare
from ray_selfloop.stages.chain import chains
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.run import execute
from ray_selfloop.stages.samples import read_samples


def test_a_generator_is_two_files_and_a_line(monkeypatch, tmp_path):
    for room, name in (("config.generators", "settings"), ("generators", "worker")):
        file = ModuleType(f"ray_selfloop.{room}.mean")
        monkeypatch.setitem(sys.modules, file.__name__, file)
        exec(example(f"generator.{name}"), vars(file))
    of = sys.modules["ray_selfloop.config.generators.mean"].Mean(noise=5.0)
    monkeypatch.setitem(known.KINDS, of.name, type(of))
    words = [word for word in MICRO if not word.startswith(("loop.gen", "generator"))]
    plan = prepare([*words, "loop.generations=2", "filter.score=none", f"storage={tmp_path}"])
    (scenario,), source = plan.scenarios, plan.dataset("base").config["source"]
    sweep = scenario.sweep.model_copy(update={"generator": of})  # its class joins the union
    graph, store = Graph(), plan.store
    loop.add_chain(chains(scenario.model_copy(update={"sweep": sweep}))[0], source, graph)
    for node in graph:
        if node.stage.kind in ("dataset", "generator", "samples", "kept"):
            execute(node.stage, store)
    assert len(graph.of_kind("generator")) == 2
    for node in graph.of_kind("samples"):
        assert node.stage.config["generator"] == {"name": "mean", "noise": 5.0}
        drawn = read_samples(Inputs(reader(node.stage), store))
        weights = Inputs(node.stage, store).weights("generator")["means"].numpy()
        away = np.asarray(drawn.images, float) - weights[drawn.labels]
        assert 0 < np.abs(away).mean() < 5


def reader(of: Stage) -> Stage:
    return Stage("reader", 0, {}, {"samples": of.key, "dataset": of.inputs["dataset"]})
