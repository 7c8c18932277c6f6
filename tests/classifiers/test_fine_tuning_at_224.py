"""The paper's five networks, fine-tuned at 224 pixels on real pictures from published-style files.

The published weights cannot be had in a test: a state dict of the right names and shapes stands in.
"""

from pathlib import Path

import imagenet_worlds
import pytest
import torch
from safetensors.torch import save_file

from ray_selfloop.classifiers import train, zoo
from ray_selfloop.config.networks import NETWORKS
from ray_selfloop.config.training import Training
from ray_selfloop.images.pictures import Pictures, View

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def examples(data_root: str) -> train.Examples:
    """Four real pictures of usual size, of two classes."""
    files = sorted(imagenet_worlds.samples(data_root).values())[:4]
    pictures = Pictures([path.read_bytes() for path in files], View(224, 256, "stretch"))
    labelled = train.LabeledImages(pictures, torch.arange(4).numpy() % 2)
    return train.Examples(labelled, labelled, 2, "frame_crop_flip")


def published(name: str, folder: Path) -> str:
    """A state dict as the library publishes it, 1000 classes, random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        row = NETWORKS[name]
        net = zoo.BUILDERS[row.builder].body(row, 224, None)
    path = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in net.state_dict().items()}, path)
    return str(path)


@pytest.mark.parametrize("name", [n for n, row in NETWORKS.items() if row.published])
def test_each_network_is_fine_tuned_at_224_whole_and_frozen(
    examples: train.Examples, tmp_path: Path, name: str
) -> None:
    path = published(name, tmp_path)
    before = next(iter(zoo.build(name, 2, 224, path, None, 0).trunk.parameters()))
    settings = {"pretrained": path, "max_steps": 1, "batch_size": 2, "learning_rate": 1e-4}
    for backbone in ("full", "frozen"):
        chosen = Training.model_validate({**settings, "backbone": backbone})
        trained = train.train(name, examples, chosen, 0, CPU)
        assert trained.network.side == 224
        assert trained.outcome == "budget"
        assert all(torch.isfinite(value).all() for value in trained.network.parameters())
        same = torch.equal(before, next(iter(trained.network.trunk.parameters())))
        assert same == (backbone == "frozen")
