"""Any network of timm as a classifier: its row, its weights, and its name wherever names go."""

from pathlib import Path

import pytest
import timm
import torch
from conftest import TWO_STARTS
from safetensors.torch import save_file

from ray_selfloop.classifiers import known, weights, zoo
from ray_selfloop.classifiers.train import Examples, LabeledImages, features, train
from ray_selfloop.config import networks
from ray_selfloop.config.load import load
from ray_selfloop.config.sweep import Resources
from ray_selfloop.config.training import Training
from ray_selfloop.distributed import placement
from ray_selfloop.errors import ConfigError, DataError
from ray_selfloop.graph import Place, Stage
from ray_selfloop.planning import prepare
from ray_selfloop.stages import names

CPU = torch.device("cpu")
SMALL = {"timm/test_resnet": 32, "timm/test_vit": 160}  # at any side, and at one of its own
SCRATCH = (False, None, 0)


def published(name: str, folder: Path, classes: int = 1000) -> Path:
    """A state dict as timm publishes it, with random weights."""
    net = timm.create_model(name.removeprefix("timm/"), pretrained=False, num_classes=classes)
    path = folder / "model.safetensors"
    save_file({key: value.contiguous() for key, value in net.state_dict().items()}, path)
    return path


VERSION = timm.__version__


def test_another_version_of_timm_is_another_network(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [weights.source(name, False) for name in ("timm/test_vit", "lenet", "deit_s")]
    assert now == [f"scratch, timm {VERSION}", "scratch", "scratch"]
    monkeypatch.setattr(weights, "version", lambda package: "9.9")
    assert weights.source("timm/test_vit", False) == "scratch, timm 9.9"


@pytest.mark.parametrize(("name", "side"), SMALL.items())
def test_a_network_of_timm_is_trained_at_its_own_side_and_seen_through_its_own_colours(
    name: str, side: int
) -> None:
    images = torch.randint(0, 256, (12, 3, 8, 8), dtype=torch.uint8).numpy()
    data = LabeledImages(images, torch.arange(12).numpy() % 3)
    settings = Training(max_steps=2, batch_size=4)
    first, second = (train(name, Examples(data, data, 3, "none"), settings, 5, CPU) for _ in "ab")
    net = first.network
    assert net.side == side
    assert features(net, images, 4, CPU).shape == (12, net.tail[-1].in_features)
    own = timm.get_pretrained_cfg(name.removeprefix("timm/"))
    white = net.normalised(torch.full((1, 3, 8, 8), 255, dtype=torch.uint8))[0, :, 0, 0]
    assert white.tolist() == pytest.approx(
        [(1 - mean) / std for mean, std in zip(own.mean, own.std, strict=True)]
    )
    for one, other in zip(net.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_seed_alone_decides_its_first_weights() -> None:
    one, two, other = (zoo.build("timm/test_vit", 4, 8, False, None, s) for s in (0, 0, 1))
    pairs = list(zip(one.parameters(), two.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


@pytest.mark.parametrize("classes", [1000, 5, 0])
@pytest.mark.parametrize("name", SMALL)
def test_it_starts_from_a_local_file_whatever_its_last_layer(
    tmp_path: Path, name: str, classes: int
) -> None:
    path = published(name, tmp_path, classes)
    weights.check(name, str(path))
    net = zoo.build(name, 7, 8, str(path), None, 0)
    wanted = timm.create_model(name.removeprefix("timm/"), num_classes=0)
    wanted.load_state_dict(weights.read_state_dict(path), strict=False)
    found = net.trunk.state_dict()
    assert all(torch.equal(found[key], value) for key, value in wanted.state_dict().items())
    assert net.tail[-1].out_features == 7


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = published("timm/test_vit", tmp_path)
    with pytest.raises(DataError, match=r"does not fit timm/test_resnet: ") as caught:
        zoo.build("timm/test_resnet", 3, 8, str(path), None, 0)
    assert "\n" not in str(caught.value)


def test_published_weights_are_named_by_their_repository_and_taken_from_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("no_proxy", raising=False)
    assert weights.source("timm/test_vit", True) == f"timm/test_vit.r160_in1k, timm {VERSION}"
    with pytest.raises(DataError, match=r"the weights timm/test_vit.r160_in1k of timm/test_vit a"):
        weights.check("timm/test_vit", True)
    home = tmp_path / "models--timm--test_vit.r160_in1k"
    snapshot = home / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    published("timm/test_vit", snapshot)
    weights.check("timm/test_vit", True)


def test_a_network_without_published_weights_says_so_before_anything_runs() -> None:
    weights.check("timm/legacy_xception", False)
    with pytest.raises(ConfigError, match="timm/legacy_xception has no published ImageNet weights"):
        weights.check("timm/legacy_xception", True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/resnet19", r"timm/resnet19 is not known to timm .*; the nearest: timm/resnet18, "),
        ("timm/resnet18.a9", r"not known to timm .*; the nearest: timm/resnet18.a"),
        ("timm/qqqq", r"timm/qqqq is not known to timm [0-9.]*$"),
        ("timm/vit_base_patch16_sapiens2", "3 channels and 1024 x 768 pixels"),
        ("resnet19", "'resnet19' is not known; known: lenet, .*, timm/NAME"),
    ],
)
def test_what_cannot_be_a_classifier_is_refused_in_one_line(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        known.network(name)
    assert "\n" not in str(caught.value)


def test_a_size_that_a_network_of_one_size_cannot_have_is_refused(micro: list[str]) -> None:
    words = [*micro, "classifiers=[lenet, timm/test_vit]", "training.image_size=64"]
    with pytest.raises(ConfigError, match=r"64, but timm/test_vit sees images at 160 pixels alone"):
        prepare(words)
    prepare([*words, "training_of.timm/test_vit.image_size=null"])
    prepare([*words, "training_of.timm/test_vit.image_size=160"])
    known.check("timm/test_resnet", 64)


def test_plan_refuses_an_unknown_name_and_validate_needs_no_timm(micro: list[str]) -> None:
    words = ["classifiers=[lenet, timm/resnet19]"]
    load(None, words)
    with pytest.raises(ConfigError, match="nearest: timm/resnet18"):
        prepare([*micro, *words])
    with pytest.raises(
        ConfigError, match=r"classifiers.0: must be 'lenet', .* timm/NAME, any netw"
    ):
        load(None, ["classifiers=[timm/]"])


def test_a_mistyped_network_alone_is_answered_before_the_judge_is_missed() -> None:
    with pytest.raises(ConfigError, match=r"^classifier timm/resnet19 is not known to timm"):
        load(None, ["classifiers=[timm/resnet19]"])
    with pytest.raises(ConfigError, match=r"evaluation.judge.classifier: lenet is not trained"):
        load(None, ["classifiers=[timm/resnet18]"])


def test_one_network_by_two_names_is_refused() -> None:
    known.check_apart(["lenet", "timm/resnet18.a1_in1k", "timm/resnet18.a2_in1k", "timm/resnet34"])
    with pytest.raises(ConfigError, match=r"timm/resnet18 and timm/resnet18\.a1_in1k are one"):
        known.check_apart(["timm/resnet18", "lenet", "timm/resnet18.a1_in1k"])


# --- its name, which has a slash and may have a dot ----------------------------------------------

TAGGED = "timm/vit_tiny_patch16_224.augreg_in21k"


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", TAGGED])
def test_its_name_is_one_part_of_a_dotted_key(name: str) -> None:
    words = [
        f"classifiers=[lenet, {name}]",
        f"training_of.{name}.learning_rate=0.5",
        f"training_of.{name}.pretrained=~",
        f"resources.gpus_of.{name}=0.5",
        f"axes={{training_of.{name}.max_epochs: [1, 2]}}",
    ]
    sweep, scenarios = load(TWO_STARTS, words)
    assert sweep.training_for(name).learning_rate == 0.5
    assert sweep.training_for(name).pretrained == str(Path.home())
    assert sweep.training_for("lenet").learning_rate is None
    assert sweep.resources.gpus_of == {name: 0.5}
    assert [s.sweep.training_for(name).max_epochs for s in scenarios] == [1, 2]
    with pytest.raises(ConfigError, match=rf"^training_of.{name}.max_epoch: .* did you mean train"):
        load(TWO_STARTS, [f"training_of.{name}.max_epoch=1"])


@pytest.mark.parametrize("key", ["a", "loop.arm", "training_of.lenet.max_epochs", "axes.a.b.c"])
def test_other_keys_are_cut_at_every_dot(key: str) -> None:
    assert networks.parts(key) == key.split(".")


@pytest.mark.parametrize("network", ["lenet", "timm/vit_tiny_patch16_224", TAGGED])
@pytest.mark.parametrize("scenario", ["", "base/trial/", "volume=D0/2,s3://a/1/2/x/trial/"])
def test_a_trial_is_found_again_in_the_name_of_an_input(scenario: str, network: str) -> None:
    trial = Place("s", 3, 10, network, 7)
    assert names.place("s", f"{scenario}{names.at(trial)}") == trial
    assert names.place("s", f"{scenario}3/10/{network}") == Place("s", 3, 10, network)
    assert names.place("s", f"{scenario}3/10/") == Place("s", 3, 10)


def test_auto_places_it_by_what_it_keeps() -> None:
    def gpus(network: str) -> float:
        config = {"network": network, "training": {"batch_size": 64}, "augment": "none", "seed": 0}
        return placement.gpus(Stage("classifier", 1, config, {}), Resources(gpus_per_trial="auto"))

    kept = known.network("timm/resnet50").footprint
    assert kept.parameters == pytest.approx(
        networks.NETWORKS["resnet50"].footprint.parameters, 0.01
    )
    assert kept.kept == pytest.approx(networks.NETWORKS["resnet50"].footprint.kept, rel=0.1)
    assert gpus("timm/resnet50") == gpus("resnet50") == 0.2
    assert gpus("timm/vit_base_patch16_224") > 0.25  # on digits too: it sees them at 224
