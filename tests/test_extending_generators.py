"""The example of docs/extending.md for a generator, run as it stands."""

import sys
from types import ModuleType

import numpy as np
from conftest import MICRO

from ray_selfloop import loop
from ray_selfloop.config.generators import known
from ray_selfloop.graph import Graph, Stage
from ray_selfloop.planning import prepare
from ray_selfloop.stages.chain import chains
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.run import execute
from ray_selfloop.stages.samples import read_samples

SETTINGS = '''
"""Settings of a generator that draws the mean image of a class, and noise."""

from typing import ClassVar, Literal

from pydantic import Field

from ray_selfloop.config.generators.base import GeneratorSettings, Traits


class Mean(GeneratorSettings):
    """The mean image of a class, and noise."""

    name: Literal["mean"] = "mean"
    noise: float = Field(default=20.0, ge=0, description="Its deviation, in gray levels.")
    traits: ClassVar[Traits] = Traits(
        worker="ray_selfloop.generators.mean:GENERATOR", draws="arrays"
    )
'''
WORKER = '''
"""The mean image of a class, and noise."""

import numpy as np
import torch

from ray_selfloop import seeding
from ray_selfloop.config.generators.mean import Mean
from ray_selfloop.generators.base import Generator, Lesson, Scene, Trained
from ray_selfloop.images.imageset import Ids, Images


def train(lesson: Lesson, settings: Mean) -> Trained:
    images, labels = np.asarray(lesson.data.images), lesson.data.labels
    means = [images[labels == label].mean(axis=0) for label in range(len(lesson.class_names))]
    return Trained({"means": torch.from_numpy(np.stack(means))}, [], "completed")


class MeanSampler:
    def __init__(self, scene: Scene, settings: Mean) -> None:
        self.means, self.noise = scene.weights["means"].numpy(), settings.noise

    def sample(self, ids: Ids, labels: Ids, seed: int) -> Images:
        """Noise of image ``i`` is of the stream ``(seed, "noise", i)``, whoever draws it."""
        shape = self.means.shape[1:]
        noise = [seeding.rng(seed, "noise", int(i)).standard_normal(shape) for i in ids]
        drawn = self.means[labels] + self.noise * np.stack(noise)
        return drawn.round().clip(0, 255).astype(np.uint8)


GENERATOR = Generator(train=train, sampler=MeanSampler)
'''


def test_a_generator_is_two_files_and_a_line(monkeypatch, tmp_path):
    for room, text in (("config.generators", SETTINGS), ("generators", WORKER)):
        file = ModuleType(f"ray_selfloop.{room}.mean")
        monkeypatch.setitem(sys.modules, file.__name__, file)
        exec(text, vars(file))
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
