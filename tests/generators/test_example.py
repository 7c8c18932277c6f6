"""The example of a new generator in docs/extending.md, run as it stands there."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from ray_selfloop.config.generators import known
from ray_selfloop.datasets import colours, digits
from ray_selfloop.generators.base import Lesson, Part, Scene, TrainingImages, worker
from ray_selfloop.generators.diffusion.workers import ALONE
from ray_selfloop.store.blobs import Folder

CPU = torch.device("cpu")


def put(name: str, file: str) -> ModuleType:
    """A file of this folder as the module that it is in the example."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(file))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def mean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    names = "ray_selfloop.config.generators.mean", "ray_selfloop.generators.mean"
    settings = put(names[0], "example_settings.py").Mean
    put(names[1], "example_worker.py")
    monkeypatch.setitem(known.KINDS, "mean", settings)  # type: ignore[arg-type]
    yield
    for name in names:
        del sys.modules[name]


@pytest.mark.usefixtures("mean")
def test_a_new_generator_is_two_files_and_a_line() -> None:
    colouring = colours.Colouring("biased", (0.7, 0.2, 0.1), "crossed")
    cut = colours.colorize(*digits.scans(), colouring, 0.0, seed=0)
    data, held_out = (TrainingImages(p.images, p.labels) for p in (cut.train, cut.held_out))
    settings = known.of({"name": "mean", "noise": 5.0})
    kind = worker(settings)
    assert kind.train is not None
    part = Part("dataset", *data, np.arange(len(data.labels)), None)
    names, place = colours.DIGIT_NAMES, Folder("/nowhere")
    trained = kind.train(
        Lesson([part], held_out, names, 0, CPU, None, None, place, ALONE), settings
    )
    scene = Scene(data, data, names, None, CPU, dict(trained.weights), None, None)
    labels = np.arange(20) % 10
    drawn = kind.sampler(scene, settings).sample(np.arange(20), labels, 0)
    alone = kind.sampler(scene, settings).sample(np.array([7]), labels[7:8], 0)
    np.testing.assert_array_equal(alone[0], drawn[7])
    nearest = np.abs(trained.weights["means"].numpy()[None] - drawn[:, None]).sum(axis=(2, 3, 4))
    np.testing.assert_array_equal(nearest.argmin(axis=1), labels)
