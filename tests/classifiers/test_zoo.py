"""The networks: shapes, seeds, weights from files."""

import contextlib
import hashlib
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision import models

from ray_selfloop.classifiers import weights, zoo
from ray_selfloop.config.networks import NETWORKS, Torchvision
from ray_selfloop.config.training import Training
from ray_selfloop.errors import ConfigError, DataError

SCRATCH = (False, 0.1, 0)  # pretrained, batchnorm_momentum, seed


def published_form(name: str, side: int) -> torch.nn.Module:
    """A network as its library publishes it, with fresh weights."""
    row = NETWORKS[name]
    return zoo.BUILDERS[row.builder].body(row, side, None)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("size", "classes"), [(8, 10), pytest.param(28, 20, marks=pytest.mark.slow), (32, 10)]
)
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


@pytest.mark.parametrize("name", NETWORKS)
def test_working_side_never_shrinks_an_image(name: str) -> None:
    for size in (8, 28, 32, 64, 100, 224):
        side = NETWORKS[name].side(size)
        assert side >= size
        assert side % NETWORKS[name].multiple == 0
        assert NETWORKS[name].side(side) == side


def test_images_smaller_than_the_working_size_are_enlarged_bilinearly() -> None:
    net = zoo.build("lenet", 10, 8, *SCRATCH)
    x = torch.rand(2, 3, 8, 8)
    large = torch.nn.functional.interpolate(x, size=(28, 28), mode="bilinear")
    with torch.no_grad():
        assert torch.equal(net(x), net(large))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "deit_s"])
def test_a_state_dict_is_loaded_except_for_the_last_layer(tmp_path, name: str, suffix: str) -> None:
    source = published_form(name, 224 if name == "deit_s" else 32)
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


def test_published_files_are_those_of_the_libraries() -> None:
    for name, row in NETWORKS.items():
        if isinstance(row.published, Torchvision):
            address = models.get_model_weights(name)[row.published.tag].url
            assert address == weights.TORCHVISION_ADDRESS + row.published.file
            assert weights.NAMED_DIGEST.findall(address)
        elif row.published:
            own = row.published.repository.removeprefix("timm/")
            assert timm.get_pretrained_cfg(own).hf_hub_id == row.published.repository


@pytest.mark.parametrize("variable", ["TORCH_HOME", "XDG_CACHE_HOME"])
def test_the_cache_is_torchs_own(tmp_path, monkeypatch, variable: str) -> None:
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    with offline(monkeypatch), pytest.raises(DataError, match=torch.hub.get_dir()):
        weights.check("resnet50", True)


def test_weights_in_the_cache_are_used_without_a_network(tmp_path, monkeypatch) -> None:
    """By tag from the cache and by path: the same network, bit for bit."""
    made = digest_named(tmp_path / "hub" / "checkpoints", "mobilenet_v3_small")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    row = NETWORKS["mobilenet_v3_small"]
    moved = replace(row, published=row.published._replace(file=made.name))
    monkeypatch.setitem(NETWORKS, row.name, moved)
    with offline(monkeypatch):
        weights.check("mobilenet_v3_small", True)
        by_tag = zoo.build("mobilenet_v3_small", 5, 32, True, None, 1).state_dict()
    by_path = zoo.build("mobilenet_v3_small", 5, 32, str(made), None, 1).state_dict()
    assert all(torch.equal(by_tag[key], by_path[key]) for key in by_path)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "deit_s"])
def test_without_cache_and_network_one_message_says_where_to_get_them(
    tmp_path, monkeypatch, name: str
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with offline(monkeypatch), pytest.raises(DataError) as caught:
        weights.check(name, True)
    message = str(caught.value)
    assert weights.source(name, True) in message
    assert "https://" in message
    assert "cannot be reached" in message
    assert f"set training_of.{name}.pretrained to its path" in message
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_in_the_cache_is_found_before_anything_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / NETWORKS["resnet50"].published.file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"the first half of a download")
    with pytest.raises(DataError, match=r"11ad3fa6\.pth is damaged .* its name says 11ad3fa6; del"):
        weights.check("resnet50", True)
    with pytest.raises(DataError, match="no readable state dict"):
        zoo.build("resnet50", 10, 32, True, None, 0)


def test_a_damaged_file_in_the_hubs_cache_is_found_too(tmp_path, monkeypatch) -> None:
    """The hub's cache calls a file by its content."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "models--timm--deit_small_patch16_224.fb_in1k"
    blob = home / "blobs" / hashlib.sha256(b"weights").hexdigest()
    link = home / "snapshots" / "abc" / NETWORKS["deit_s"].published.file
    for path in (blob, link, home / "refs" / "main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    (home / "refs" / "main").write_text("abc")
    blob.write_bytes(b"weights")
    link.symlink_to(blob)
    weights.check("deit_s", True)
    blob.write_bytes(b"weighty")  # of the same size
    with pytest.raises(DataError, match=r"model\.safetensors is damaged; delete it, so that it is"):
        weights.check("deit_s", True)


def test_a_local_file_must_be_the_one_that_its_name_says(tmp_path) -> None:
    path = digest_named(tmp_path, "mobilenet_v3_small")
    assert weights.source("mobilenet_v3_small", str(path)).startswith("sha256/")
    weights.check("mobilenet_v3_small", str(path))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match="is damaged or another file: its sha256 begins with"):
        weights.check("mobilenet_v3_small", str(path))
    dated = path.rename(tmp_path / "finetuned-20261122.pth")  # a date is no digest
    weights.check("mobilenet_v3_small", str(dated))


def digest_named(folder: Path, name: str) -> Path:
    """A checkpoint of ``name`` with 1000 classes; the file's name carries its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(99):
        torch.manual_seed(seed)
        path = folder / "draft"
        torch.save(published_form(name, 32).state_dict(), path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if weights.NAMED_DIGEST.search(f"-{digest[:8]}."):
            return path.rename(folder / f"{name}-{digest[:8]}.pth")
    raise AssertionError


@contextlib.contextmanager
def offline(monkeypatch) -> Iterator[None]:
    """No server answers within the block."""
    with monkeypatch.context() as patch:
        patch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
        patch.delenv("no_proxy", raising=False)
        yield


@pytest.mark.parametrize(("size", "side"), [(None, 32), (16, 32), (48, 48)])
def test_images_are_enlarged_to_the_size_that_is_set(size: int | None, side: int) -> None:
    training = Training(image_size=size)
    net = zoo.build("mobilenet_v3_small", 4, training.seen_size(8), *SCRATCH)
    assert net.side == side
    assert net(torch.rand(2, 3, 8, 8)).shape == (2, 4)


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
