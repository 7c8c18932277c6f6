"""How much of a GPU each stage gets. No GPU is needed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from ray_selfloop.classifiers import zoo
from ray_selfloop.config.load import load
from ray_selfloop.config.networks import NETWORKS
from ray_selfloop.config.sweep import Resources
from ray_selfloop.distributed import placement
from ray_selfloop.distributed.cluster import Cluster
from ray_selfloop.distributed.placement import gpus, sentences
from ray_selfloop.errors import ConfigError, ResourceError
from ray_selfloop.graph import Stage
from ray_selfloop.planning import prepare
from ray_selfloop.stages import kinds

AUTO = Resources(gpus_per_trial="auto")


def trial(network: str = "lenet", seed: int = 0, **other: Any) -> Stage:
    """A trial on small images; ``pictures`` and ``image_size`` make them larger."""
    training = {"batch_size": other.pop("batch_size", 64)}
    if "image_size" in other:
        training["image_size"] = other.pop("image_size")
    augment = "frame_crop_flip" if other.pop("pictures", False) else "none"
    inputs = {"dataset": other.pop("dataset", "dataset-0")}
    config = {"network": network, "training": training, "augment": augment, "seed": seed, **other}
    return Stage("classifier", 1, config, inputs)


# --- what a sweep file may say -------------------------------------------------------------------

SAYS = "must be 0, a part of one GPU from 0.01 to 1, or a whole number"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("gpus_per_trial=1.5", f"gpus_per_trial: {SAYS}, or must be 'auto' (found 1.5)"),
        ("gpus_per_trial=-1", f"gpus_per_trial: {SAYS}, or must be 'auto' (found -1)"),
        ("gpus_per_trial=0.001", f"gpus_per_trial: {SAYS}, or must be 'auto' (found 0.001)"),
        ("gpus_per_trial=.inf", f"gpus_per_trial: {SAYS}, or must be 'auto' (found inf)"),
        ("gpus_of={lenet: 2.5}", f"gpus_of.lenet: {SAYS} (found 2.5)"),
        ("gpus_of={lenet: true}", "gpus_of.lenet: must not be true or false (found True)"),
    ],
)
def test_amounts_that_ray_cannot_place_are_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(None, [f"resources.{override}"])
    assert str(error.value) == f"resources.{message}"


@pytest.mark.parametrize("amount", [0, 0.01, 0.3, 1, 2, 8.0])
def test_parts_and_whole_gpus_are_taken(amount: float) -> None:
    assert Resources(gpus_per_trial=amount, gpus_of={"lenet": amount}).gpus_per_trial == amount


def test_a_key_says_gpu_of_the_stages_that_are_given_a_part_of_one(micro: list[str]) -> None:
    for words in (
        ["resources.gpus_per_trial=auto", "resources.gpus_of={lenet: 0}"],
        ["resources.gpus_of={lenet: 0.5}", "resources.gpus_per_generator=1"],
    ):
        plan = prepare([*micro, *words])
        cluster = Cluster(2, 1.0, {}, plan.sweep.resources)
        for stage in (node.stage for node in plan.graph):
            device = "gpu" if cluster.gpus_of(stage) else "cpu"
            assert kinds.of(stage).read(stage.config).device == device, stage.kind


# --- GPUs of a stage -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lenet", "resnet50", "mobilenet_v3_small", "deit_s"])
def test_the_table_says_what_autograd_keeps(name: str) -> None:
    network = zoo.build(name, 20, 224, False, None, 0).train()
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    totals, alive = [], []
    for batch in (2, 3):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            images, labels = torch.zeros(batch, 3, 224, 224), torch.zeros(batch, dtype=torch.int64)
            alive.append(F.cross_entropy(network(images), labels))
        totals.append(sum(kept.values()))
    assert NETWORKS[name].footprint.kept == pytest.approx((totals[1] - totals[0]) / 1e6, rel=0.05)
    parameters = sum(weight.numel() for weight in network.parameters()) / 1e6
    assert NETWORKS[name].footprint.parameters == pytest.approx(parameters, rel=0.05)


def test_auto_gives_these_parts_of_a_gpu() -> None:
    small = {name: gpus(trial(name), AUTO) for name in NETWORKS}
    large = {name: gpus(trial(name, pictures=True), AUTO) for name in NETWORKS}
    assert small == {
        "lenet": 0.1,
        "alexnet": 0.2,
        "vgg19": 0.25,
        "resnet50": 0.2,
        "mobilenet_v3_small": 0.1,
        "mobilenet_v3_large": 0.1,
        "deit_s": 0.2,
        "resnet8": 0.1,
    }
    assert large == {
        "lenet": 0.1,
        "alexnet": 0.2,
        "vgg19": 0.5,
        "resnet50": 0.5,
        "mobilenet_v3_small": 0.2,
        "mobilenet_v3_large": 0.25,
        "deit_s": 0.5,
        "resnet8": 0.2,
    }


@given(
    network=st.sampled_from(sorted(NETWORKS)),
    sides=st.tuples(st.integers(8, 1024), st.integers(8, 1024)),
    batches=st.tuples(st.integers(2, 1024), st.integers(2, 1024)),
)
def test_larger_pictures_and_batches_never_get_less(network, sides, batches) -> None:
    few = placement.share(network, min(sides), min(batches))
    assert 0 < few <= placement.share(network, max(sides), max(batches)) <= 1


def test_images_enlarged_for_the_network_count_as_large() -> None:
    assert gpus(trial("resnet50", image_size=224), AUTO) == 0.5
    assert gpus(trial("resnet50", pictures=True, batch_size=256), AUTO) == 1.0


def test_an_override_counts_before_the_table_and_the_common_amount() -> None:
    own = {"vgg19": 1.0, "lenet": 0.0}
    for common in ("auto", 0.3):
        resources = Resources(gpus_per_trial=common, gpus_of=own)
        assert gpus(trial("vgg19"), resources) == 1.0
        assert gpus(trial("lenet"), resources) == 0.0
    assert gpus(trial("resnet50"), Resources(gpus_per_trial=0.3, gpus_of=own)) == 0.3
    assert gpus(trial("resnet50"), Resources(gpus_of=own)) == 0.0


def test_all_stages_of_a_sweep_have_an_amount(micro: list[str]) -> None:
    stages = [node.stage for node in prepare([*micro, "tune={}"]).graph]
    assert {"search", "classifier", "scorer", "kept"} <= {stage.kind for stage in stages}
    for stage in stages:
        assert gpus(stage, Resources(gpus_per_trial=0.5)) == 0.5
        of_lenet = stage.kind in ("search", "classifier")
        assert gpus(stage, AUTO) == (0.1 if of_lenet else placement.READING)


def test_a_probe_gets_what_its_network_needs() -> None:
    probe = {"network": "resnet50", "augment": "frame_crop_flip", "batch_size": 64}
    stage = Stage("probe", 1, {"probe": probe}, {})
    assert gpus(stage, AUTO) == 0.5
    assert gpus(stage, Resources(gpus_per_trial=0.1, gpus_of={"resnet50": 1})) == 1


# --- memory --------------------------------------------------------------------------------------


def test_processes_that_fill_a_gpu_have_room_for_their_contexts() -> None:
    total = int(24e9)
    for part in placement.PARTS[:-1]:
        processes = round(1 / part)
        taken = processes * (placement.allocatable(part, total) * total + placement.CONTEXT * 1e9)
        assert taken == pytest.approx(total)


def test_a_part_that_a_process_cannot_live_in_is_refused() -> None:
    with pytest.raises(ResourceError, match=r"^0\.02 of a GPU of 24\.0 GB was asked for"):
        placement.allocatable(0.02, int(24e9))


def test_on_a_cpu_memory_is_not_held() -> None:
    placement.hold_memory(0.5, "cpu")
    assert not torch.cuda.is_initialized()


class _Gpu:
    total_memory = int(20e9)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Memory limits that CUDA was asked for, of a GPU of 20 GB that is not there."""
    asked: list[float] = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device=None: _Gpu())
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", asked.append)
    return asked


def test_each_trial_sets_its_own_limit_and_a_whole_gpu_has_none(limits: list[float]) -> None:
    for part in (0.25, 1.0, 0.5, 2.0):
        placement.hold_memory(part, "cuda")
    assert limits == pytest.approx([0.225, 1.0, 0.475, 1.0])
    assert all(isinstance(limit, float) for limit in limits)


# --- the plan's words ----------------------------------------------------------------------------


def test_the_plan_says_how_trials_are_placed(tmp_path: Path) -> None:
    words = ["loop.classifier_seeds=[0, 1, 2]", f"storage={tmp_path}"]
    trials = [node.stage for node in prepare(words).graph.of_kind("classifier")]
    assert sentences(trials, Resources()) == []
    assert sentences(trials, AUTO) == [
        "trials on GPUs (estimated for 24 GB, not measured):",
        "  lenet: 0.1 GPU each, 10 at once on one GPU",
        "  resnet8: 0.1 GPU each, 10 at once on one GPU",
    ]
    own = Resources(gpus_per_trial=0.3, gpus_of={"lenet": 0, "resnet8": 2})
    assert sentences(trials, own) == [
        "trials on GPUs:",
        "  resnet8: 2 GPUs each, of which a trial uses one",
    ]
