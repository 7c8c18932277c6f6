"""The examples of docs/extending.md for a network and a filter score, run as they stand."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MICRO
from extending_page import example

from ray_selfloop import loop
from ray_selfloop.classifiers import zoo
from ray_selfloop.classifiers.train import Examples, LabeledImages, train
from ray_selfloop.config import networks, scores
from ray_selfloop.config.training import Training
from ray_selfloop.distributed import placement
from ray_selfloop.filtering import cut
from ray_selfloop.graph import Graph
from ray_selfloop.planning import prepare
from ray_selfloop.stages.chain import chains
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.run import execute
from ray_selfloop.stages.samples import read_samples


def added(text: str, file: ModuleType) -> dict[str, Any]:
    """The names that an example defines, run among those of the file that it belongs to."""
    names = dict(vars(file))
    exec(text, names)
    return names


def test_a_network_is_a_row_and_a_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    row = added("row = " + example("network.row"), networks)["row"]
    monkeypatch.setitem(networks.NETWORKS, row.name, row)
    monkeypatch.setattr(zoo, "BUILDERS", dict(zoo.BUILDERS))
    added(example("network.builder"), zoo)
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    data = LabeledImages(images, np.arange(4) % 2)
    settings = Training(max_steps=1, batch_size=4)
    net = train(row.name, Examples(data, data, 2, "none"), settings, 0, torch.device("cpu")).network
    assert net.side == 32
    assert net.tail[-1].in_features == 1280
    assert placement.share(row.name, 28, 64) == 0.1


def test_a_filter_score_is_a_file_and_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row = added("row = " + example("score.row"), scores)["row"]
    monkeypatch.setitem(scores.SCORES, row.name, row)
    file = ModuleType("brightness")
    exec(example("score.file"), vars(file))
    monkeypatch.setitem(sys.modules, scores.HERE + "brightness", file)
    words = [w for w in MICRO if not w.startswith(("loop.gen", "generator"))]
    words += ["loop.generations=1", "generator.name=duplicate_real", "filter.cut=global"]
    plan = prepare([*words, f"storage={tmp_path}"])
    (scenario,), source = plan.scenarios, plan.dataset("base").config["source"]
    before = plan.graph.of_kind("samples")[0].stage.key
    filters = scenario.sweep.filter.model_copy(
        update={"score": row.name}
    )  # its name joins `CALLED`
    scenario = scenario.model_copy(
        update={"sweep": scenario.sweep.model_copy(update={"filter": filters})}
    )
    graph, store = Graph(), plan.store
    loop.add_chain(chains(scenario)[0], source, graph)
    assert not [node for node in graph if node.stage.kind == "scorer"]
    for node in graph:
        if node.stage.kind in ("dataset", "samples"):
            execute(node.stage, store)
    (node,) = graph.of_kind("samples")
    assert node.stage.key != before
    assert node.stage.config["scores"] == {"brightness": 1}
    (kept,) = graph.of_kind("kept")
    drawn = read_samples(Inputs(kept.stage, store))
    mask = cut.keep(drawn.scores, drawn.labels, drawn.ids, filters)
    bright = drawn.scores["brightness"]
    assert bright[mask].max() <= bright[~mask].min()
    assert cut.audit(drawn.scores, mask, drawn.labels, 10, filters)["brightness_kept"] > 0
