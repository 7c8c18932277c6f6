"""The examples of docs/extending.md for a network and a filter score, run as they stand."""

import os
import shutil
import subprocess
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


WITH_OWN = """
import sys
from ray_selfloop.planning import prepare
from ray_selfloop.stages import kept
from ray_selfloop.stages.run import execute

plan = prepare(sys.argv[1:])
for node in plan.graph:
    if node.stage.kind in ("dataset", "samples"):
        execute(node.stage, plan.store)
(samples,), (cut,) = plan.graph.of_kind("samples"), plan.graph.of_kind("kept")
print(samples.stage.config["brightness"], samples.stage.config["scores"], cut.stage.config)
"""


@pytest.mark.slow
def test_a_score_with_settings_of_its_own_is_a_file_and_a_row_too(tmp_path: Path) -> None:
    package = tmp_path / "ray_selfloop"
    home = Path(loop.__file__).parent
    shutil.copytree(home, package)
    shutil.copytree(home.parent / "sweeps", tmp_path / "sweeps")
    text, own = example("score.file"), "images[np.arange(len(images))]"
    assert own in text
    read = f"{own}[:, : given.settings.channels]"
    (package / "filtering/scores/brightness.py").write_text(text.replace(own, read))
    rows, line, row = package / "config/scores.py", *example("score.own").split("\n\n")
    first = "\n        Score(\n"
    added_to = rows.read_text().replace("from ray_self", f"{line}\nfrom ray_self", 1)
    assert first in added_to
    rows.write_text(added_to.replace(first, f"\n{row.rstrip()},{first}", 1))
    words = [w for w in MICRO if not w.startswith(("loop.gen", "generator"))]
    words += [
        "loop.generations=1",
        "generator={name: duplicate_real}",
        f"storage={tmp_path / 'store'}",
    ]
    words += ["filter.score=brightness", "filter.brightness.channels=1", "queue.volume=20"]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITH_OWN, *words]
        there = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, cwd=tmp_path, env=there, capture_output=True, text=True)

    found = run(*words)
    assert found.stdout.startswith("{'channels': 1} {'brightness': 1} {"), found.stderr
    assert "channels" not in found.stdout.partition("} {")[2]
    wrong = run(*words, "filter.brightness.channels=4")
    assert "filter.brightness.channels: must be " in wrong.stderr


def test_a_filter_score_is_a_file_and_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row = added("row = " + example("score.row"), scores)["row"]
    monkeypatch.setitem(scores.SCORES, row.name, row)
    file = ModuleType("brightness")
    exec(example("score.file"), vars(file))
    monkeypatch.setitem(sys.modules, scores.HERE + "brightness", file)
    words = [w for w in MICRO if not w.startswith(("loop.gen", "generator"))]
    words += ["loop.generations=1", "generator={name: duplicate_real}", "filter.cut=global"]
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
