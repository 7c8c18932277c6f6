"""How a stage computes is in its key where it is not the default, and is enforced."""

import json

import numpy as np
import pytest
import torch

from ray_selfloop.classifiers.train import Examples, LabeledImages, train
from ray_selfloop.config.training import Training
from ray_selfloop.graph import Graph
from ray_selfloop.planning import prepare
from ray_selfloop.stages import classifier, generator, kinds
from ray_selfloop.stages.run import computing, execute, hold
from ray_selfloop.store.records import Store

TRAINED = {"classifier", "generator"}  # of what the micro-sweep has


def losses_of(history: str) -> np.ndarray:
    """All losses of a training's looks."""
    return np.array([v for row in json.loads(history) for k, v in row.items() if "loss" in k])


def configs(graph: Graph) -> dict[str, list[dict[str, object]]]:
    """Kind -> what its keys hold."""
    found: dict[str, list[dict[str, object]]] = {}
    for node in graph:
        found.setdefault(node.stage.kind, []).append(dict(node.stage.config))
    return found


def test_the_precision_is_in_the_keys_of_what_trains_and_changes_all_that_follows(
    micro: list[str],
) -> None:
    usual = prepare(micro, writes=False).graph
    lower = prepare([*micro, "compute.precision=bfloat16"], writes=False).graph
    held = {kind for kind, all_of in configs(lower).items() if "precision" in all_of[0]}
    assert held == TRAINED
    assert not any("precision" in one for all_of in configs(usual).values() for one in all_of)
    apart = {lower.nodes[key].stage.kind for key in lower.nodes.keys() - usual.nodes.keys()}
    assert {*TRAINED, "samples", "kept"} <= apart


@pytest.mark.parametrize(
    ("words", "kind", "device"),
    [
        (["resources.gpus_per_trial=0.5"], "classifier", "gpu"),
        (["resources.gpus_per_trial=auto"], "classifier", "gpu"),
        (["resources.gpus_of={lenet: 0.5}"], "classifier", "gpu"),
        (["resources.gpus_of={lenet: 0}", "resources.gpus_per_trial=1"], "classifier", "cpu"),
        (["resources.gpus_per_trial=0.5"], "generator", "cpu"),
        (["resources.gpus_per_generator=1"], "generator", "gpu"),
        (["resources.gpus_per_generator=1"], "samples", "gpu"),
        (["resources.gpus_per_trial=1", "resources.gpus_per_generator=1"], "dataset", "cpu"),
        ([], "classifier", "cpu"),
    ],
)
def test_what_has_a_part_of_a_gpu_has_another_key_than_on_a_cpu(
    micro: list[str], words: list[str], kind: str, device: str
) -> None:
    found = configs(prepare([*micro, *words], writes=False).graph)[kind]
    lenets = [one for one in found if one.get("network", "lenet") == "lenet"]
    assert {kinds.NAMED[kind].read(one).device for one in lenets} == {device}
    assert all(("device" in one) == (device == "gpu") for one in lenets)


def test_how_much_of_a_gpu_it_is_changes_no_key(micro: list[str]) -> None:
    graphs = [
        prepare([*micro, f"resources.gpus_per_trial={part}"], writes=False).graph.nodes.keys()
        for part in (0.25, 1, "auto")
    ]
    assert graphs[0] == graphs[1] == graphs[2]


@pytest.mark.parametrize("way", ["a stage", "a worker of a stream"])
def test_float32_is_never_tf32(way: str) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    if way == "a stage":
        with computing(classifier.Settings(), "cpu"):
            pass
    else:
        hold(1)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_bfloat16_computes_other_numbers_and_finite_losses(micro: list[str]) -> None:
    losses: dict[str, dict[str, np.ndarray]] = {}
    for precision in ("float32", "bfloat16"):
        plan = prepare([*micro, f"compute.precision={precision}"])
        store = Store(plan.store.address)
        losses[precision] = {}
        wanted = [plan.graph.of_kind(kind)[0].stage for kind in ("dataset", "generator")]
        wanted.append(
            next(n.stage for n in plan.graph.of_kind("classifier") if n.places[0].generation == 0)
        )
        for stage in wanted:
            execute(stage, store)
        for stage in wanted[1:]:
            record = store.get(stage.key)
            losses[precision][stage.kind] = losses_of(
                store.path(record, "history.json").read_text()
            )
    for kind in TRAINED:
        usual, lower = losses["float32"][kind], losses["bfloat16"][kind]
        assert np.isfinite(lower).all()
        assert not np.array_equal(usual, lower)


def test_bfloat16_learns_as_float32_does() -> None:
    """Weights cast once and kept for the whole stage would learn nothing."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 256)
    images = (labels[:, None, None, None] * 100 + rng.integers(0, 100, (256, 3, 28, 28))).astype(
        np.uint8
    )
    part = LabeledImages(images, labels)
    recipe = Training(max_steps=30, batch_size=32, min_steps=30, check_steps=30)
    last = {}
    for precision in ("float32", "bfloat16"):
        with computing(classifier.Settings(precision=precision), "cpu"):
            examples = Examples(part, part, 2, "none")
            found = train("lenet", examples, recipe, 0, torch.device("cpu"))
        last[precision] = found.history[-1]["held_out_loss"]
    assert last["float32"] < 0.1
    assert last["bfloat16"] == pytest.approx(last["float32"], abs=0.05)


def test_a_key_of_before_reads_as_one_thread_of_a_cpu_in_float32() -> None:
    read = generator.KIND.read({"threads": 1})
    assert (read.threads, read.device, read.precision) == (1, "cpu", "float32")
