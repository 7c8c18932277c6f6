"""The seven networks: shapes, seeds, weights from files."""

import hashlib
import math

import pytest
import torch
from safetensors.torch import save_file

from ray_selfloop.classifiers import weights, zoo
from ray_selfloop.errors import ConfigError, DataError

SCRATCH = (False, 0.1, 0)  # pretrained, batchnorm_momentum, seed


@pytest.mark.parametrize("name", zoo.NETWORKS)
@pytest.mark.parametrize(("size", "classes"), [(8, 10), (28, 20), (32, 10)])
def test_every_network_learns_from_every_image_size(name: str, size: int, classes: int) -> None:
    net = zoo.build(name, classes, size, *SCRATCH).train()
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    x = net.normalised(images)
    logits = net(x)
    logits.sum().backward()
    assert logits.shape == (2, classes)
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())
    net.eval()
    with torch.no_grad():
        assert torch.equal(net.tail[-1](net.features(x)), net(x))


@pytest.mark.parametrize("name", ["lenet", "mobilenet_v3_small", "deit_s"])
def test_weights_depend_on_the_seed_alone_and_leave_torch_as_it_was(name: str) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = zoo.build(name, 10, 8, *SCRATCH).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    second = zoo.build(name, 10, 8, *SCRATCH).state_dict()
    other = zoo.build(name, 10, 8, False, 0.1, 1).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["tail.0.weight"], other["tail.0.weight"])


@pytest.mark.parametrize(("momentum", "expected"), [(0.1, 0.1), (None, 0.01)])
def test_batchnorm_momentum_is_ours_or_the_architectures_own(
    momentum: float | None, expected: float
) -> None:
    net = zoo.build("mobilenet_v3_small", 10, 8, False, momentum, 0)
    found = {m.momentum for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert found == {expected}


@pytest.mark.parametrize("name", zoo.NETWORKS)
def test_working_side_never_shrinks_an_image(name: str) -> None:
    for size in (8, 28, 32, 64, 100, 224):
        side = zoo.working_side(name, size)
        assert side >= size
        assert side % zoo.NETWORKS[name].multiple == 0
        assert zoo.working_side(name, side) == side


def test_images_smaller_than_the_working_size_are_enlarged_bilinearly() -> None:
    net = zoo.build("lenet", 10, 8, *SCRATCH)
    x = torch.rand(2, 3, 8, 8)
    large = torch.nn.functional.interpolate(x, size=(28, 28), mode="bilinear")
    with torch.no_grad():
        assert torch.equal(net(x), net(large))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "deit_s"])
def test_a_state_dict_is_loaded_except_for_the_last_layer(tmp_path, name: str, suffix: str) -> None:
    source = zoo.NETWORKS[name].body(name, 224 if name == "deit_s" else 32, "scratch")
    path = tmp_path / f"weights{suffix}"
    state = source.state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    net = zoo.build(name, 7, 32, str(path), None, 3)
    key = "blocks.0.attn.qkv.weight" if name == "deit_s" else "features.0.0.weight"
    ours = f"trunk.{key}" if name == "deit_s" else "trunk.0.0.0.weight"
    assert torch.equal(net.state_dict()[ours], state[key])
    assert net.tail[-1].out_features == 7
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert weights.source(name, str(path)) == f"sha256/{digest}"


def test_weights_of_another_network_are_refused(tmp_path) -> None:
    path = tmp_path / "lenet.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(DataError, match=r"does not fit mobilenet_v3_small: missing"):
        zoo.build("mobilenet_v3_small", 10, 8, str(path), None, 0)


def test_a_missing_file_and_a_pickled_object_are_refused(tmp_path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*none\.pth"):
        zoo.build("resnet50", 10, 8, str(tmp_path / "none.pth"), None, 0)
    path = tmp_path / "module.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(DataError, match="no readable state dict"):
        zoo.build("resnet50", 10, 8, str(path), None, 0)


def test_a_failing_download_is_one_message(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(DataError, match=r"torchvision/IMAGENET1K_V1 of mobilenet_v3_small"):
        zoo.build("mobilenet_v3_small", 10, 8, True, None, 0)


def test_unknown_networks_and_weights_that_do_not_exist() -> None:
    with pytest.raises(ConfigError, match="'resnet18' is not known; known: lenet, alexnet"):
        zoo.build("resnet18", 10, 8, *SCRATCH)
    with pytest.raises(ConfigError, match="lenet has no published ImageNet weights"):
        weights.source("lenet", True)


def test_lenet_has_lecuns_layer_sizes() -> None:
    net = zoo.build("lenet", 10, 28, *SCRATCH)
    conv = 3 * 6 * 25 + 6 + 6 * 16 * 25 + 16
    dense = 400 * 120 + 120 + 120 * 84 + 84 + 84 * 10 + 10
    assert sum(math.prod(p.shape) for p in net.parameters()) == conv + dense
