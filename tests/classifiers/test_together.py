"""Seeds trained side by side: each has the numbers of training it alone, but for rounding."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MICRO
from torch.utils._python_dispatch import TorchDispatchMode

from ray_selfloop.classifiers import together as together_module
from ray_selfloop.classifiers import zoo
from ray_selfloop.classifiers.together import possible, train_together
from ray_selfloop.classifiers.train import Examples, LabeledImages, Trained, train
from ray_selfloop.config.training import Training
from ray_selfloop.datasets import colours, digits
from ray_selfloop.graph import Stage
from ray_selfloop.images.imageset import Splits
from ray_selfloop.planning import prepare
from ray_selfloop.stages.bundle import execute_together, side_by_side
from ray_selfloop.stages.run import execute
from ray_selfloop.store.records import Store

CPU = torch.device("cpu")
SEEDS = (0, 1, 2, 3)
PATIENT = {"max_steps": 40, "check_steps": 5, "batch_size": 8, "patience_steps": 5, "min_steps": 8}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def _double() -> Iterator[None]:
    """In float64 what is left of a difference is rounding, far below what a fault would leave."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def splits() -> Splits:
    colouring = colours.Colouring("biased", (0.7, 0.2, 0.1), "crossed")
    return colours.colorize(*digits.scans(), colouring, 0.0, 0)


def examples(splits: Splits, augment: str, enlarged: int = 1) -> Examples:
    """Few of the 8 x 8 digits, or the same with every pixel repeated."""
    parts = [
        LabeledImages(
            part.images[:n].repeat(enlarged, axis=2).repeat(enlarged, axis=3), part.labels[:n]
        )
        for part, n in ((splits.train, 300), (splits.held_out, 100))
    ]
    return Examples(*parts, 10, augment)


def difference(one: Trained, other: Trained) -> float:
    """The largest difference of two trainings in any weight or number of the history."""
    weights = zip(one.network.state_dict().items(), other.network.state_dict().items(), strict=True)
    apart = [float((a - b).abs().max()) for (_, a), (_, b) in weights]
    for row, same in zip(one.history, other.history, strict=True):
        apart += [abs(row[name] - same[name]) for name in row]
    return max(apart)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize(("augment", "enlarged"), [("none", 1), ("crop_flip", 1), ("crop_flip", 4)])
def test_each_seed_is_trained_as_if_alone_and_ends_when_it_would(
    splits: Splits, augment: str, enlarged: int
) -> None:
    data, settings = examples(splits, augment, enlarged), Training(**PATIENT)
    beside = train_together("lenet", data, settings, SEEDS, CPU)
    alone = [train("lenet", data, settings, seed, CPU) for seed in SEEDS]
    for one, other in zip(beside, alone, strict=True):
        assert difference(one, other) < 1e-12
        for name in ("outcome", "steps", "best_step", "collapsed", "recipe"):
            assert getattr(one, name) == getattr(other, name)
        assert one.held_out_accuracy == other.held_out_accuracy
    ends = {(run.outcome, run.steps) for run in alone}
    assert len(ends) > 1, "the seeds must not all end alike, or freezing is not tested"


def test_in_single_precision_the_curves_agree_to_rounding(splits: Splits) -> None:
    data, settings = examples(splits, "crop_flip"), Training(max_steps=30, check_steps=10)
    beside = train_together("lenet", data, settings, SEEDS, CPU)
    for seed, one in zip(SEEDS, beside, strict=True):
        assert difference(one, train("lenet", data, settings, seed, CPU)) < 1e-3
        assert one.network.side == 28


@pytest.mark.usefixtures("_double")
def test_a_seeds_numbers_do_not_depend_on_its_neighbours(splits: Splits) -> None:
    data, settings = examples(splits, "none"), Training(max_steps=8, check_steps=4, batch_size=8)
    among_others = train_together("lenet", data, settings, (5, 6, 7), CPU)[1]
    assert difference(among_others, train_together("lenet", data, settings, (6,), CPU)[0]) < 1e-12
    assert difference(among_others, train_together("lenet", data, settings, (8, 6), CPU)[1]) < 1e-12


def test_a_seed_that_diverges_leaves_the_others_alone() -> None:
    training = Training()
    images, labels = torch.rand(3, 8, 3, 28, 28), torch.arange(24).reshape(3, 8) % 10

    def stepped(spoilt: bool) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
        nets = [zoo.build("lenet", 10, 28, False, None, seed) for seed in range(3)]
        stack = together_module._Stack(nets, training, 10)
        if spoilt:
            next(nets[1].parameters()).data.fill_(torch.nan)
        losses = [stack.step(images, labels) for _ in range(3)]
        return torch.stack(losses), [net.state_dict() for net in nets]

    (losses, states), (sound, others) = stepped(True), stepped(False)
    assert losses[:, 1].isnan().all()
    for seed in (0, 2):
        assert torch.equal(losses[:, seed], sound[:, seed])
        assert all(torch.equal(states[seed][name], others[seed][name]) for name in states[seed])


class _Launches(TorchDispatchMode):
    """Counts operators that compute something: views of a tensor launch nothing on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func._schema.returns
        self.count += not any(r.alias_info and not r.alias_info.is_write for r in results)
        return func(*args, **(kwargs or {}))


def test_four_seeds_launch_less_than_half_of_the_operators_of_four_apart(splits: Splits) -> None:
    data = examples(splits, "none")

    def per_step(seeds: int) -> float:
        counts = []
        for steps in (2, 7):
            settings = Training(max_steps=steps, check_steps=steps, batch_size=8)
            with _Launches() as launches:
                if seeds == 1:
                    train("lenet", data, settings, 0, CPU)
                else:
                    train_together("lenet", data, settings, range(seeds), CPU)
            counts.append(launches.count)
        return (counts[1] - counts[0]) / 5

    assert per_step(4) < 0.5 * 4 * per_step(1)
    assert per_step(8) == pytest.approx(per_step(4), abs=2)


def test_networks_with_batchnorm_or_dropout_and_pictures_are_left_apart(splits: Splits) -> None:
    data = examples(splits, "none")
    assert [name for name in zoo.NETWORKS if possible(name, data)] == ["lenet"]
    decoded_by_the_batch = _Decoded()
    pictures = data._replace(train=LabeledImages(decoded_by_the_batch, data.train.labels))
    assert not possible("lenet", pictures)


class _Decoded:
    """Images that are no array."""

    shape = (2, 3, 8, 8)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, rows: Any) -> Any:
        return np.zeros((len(rows), 3, 8, 8), np.uint8)


# --- as stages -----------------------------------------------------------------------------------


def trials_of(folder: Path) -> tuple[list[Stage], Store]:
    """Three seeds of generation 0 whose data are published; the first has a role."""
    words = ("loop.classifier_seeds=[0, 1, 2]", "training.max_steps=20", f"storage={folder}")
    plan = prepare([*MICRO, *words])
    for node in plan.graph.of_kind("dataset"):
        execute(node.stage, plan.store)
    first = {p.seed: n.stage for n in plan.graph.of_kind("classifier") for p in n.places
             if p.generation == 0}  # fmt: skip
    assert [first[seed].config["weights"] for seed in (0, 1, 2)] == [True, False, False]
    return [first[seed] for seed in (0, 1, 2)], plan.store


def test_seeds_side_by_side_publish_the_records_and_files_of_each(tmp_path: Path) -> None:
    trials, store = trials_of(tmp_path / "together")
    _, other = trials_of(tmp_path / "apart")
    side_by_side(trials, store, "cpu")
    for trial in trials:
        found, alone = store.get(trial.key), execute(trial, other)
        assert found.files.keys() == alone.files.keys()
        assert (found.config, found.inputs) == (alone.config, alone.inputs)
        same = found.summary.keys() & alone.summary.keys() - {"accuracy", "held_out_accuracy"}
        assert {k: found.summary[k] for k in same} == {k: alone.summary[k] for k in same}
        assert found.summary["accuracy"] == pytest.approx(alone.summary["accuracy"], abs=0.02)


def test_on_a_cpu_a_bundle_gives_the_bits_of_trials_one_by_one_and_keeps_what_is_there(
    tmp_path: Path,
) -> None:
    trials, store = trials_of(tmp_path / "bundle")
    _, other = trials_of(tmp_path / "alone")
    before = execute(trials[1], store)
    execute_together(trials, store, "cpu")
    assert store.get(trials[1].key) == before
    for trial in trials:
        assert store.get(trial.key).files == execute(trial, other).files
