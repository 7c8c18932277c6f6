"""Training and sampling of the small diffusion model, at tiny widths and budgets."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from ray_selfloop.config.datasets.coloured import ColorizedDigits
from ray_selfloop.config.generators.ddpm import Ddpm
from ray_selfloop.datasets import colours, digits
from ray_selfloop.errors import ConfigError, StageError
from ray_selfloop.generators import ddpm
from ray_selfloop.generators.base import Lesson, Part, Scene, Trained, TrainingImages
from ray_selfloop.generators.diffusion.workers import ALONE
from ray_selfloop.generators.stopping import CRITERION
from ray_selfloop.images.imageset import Ids, Images, Splits
from ray_selfloop.store.blobs import Folder

CPU = torch.device("cpu")
NAMES = colours.DIGIT_NAMES
TINY: dict[str, Any] = {
    "width": 8, "batch_size": 16, "sampler_steps": 3, "max_steps": 6, "min_steps": 0,
    "check_every": 3, "check_samples": 60, "collapse_ratio": 0.01,
}  # fmt: skip
IDS, LABELS = np.arange(100, 120), np.arange(20) % 10


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@cache
def splits() -> Splits:
    settings = ColorizedDigits(initialization="biased")
    return colours.colorize(*digits.scans(), settings)


def lesson(
    data: TrainingImages, held_out: TrainingImages, seed: int, previous: Any = None
) -> Lesson:
    part = Part("dataset", *data, np.arange(len(data.labels)), None)
    names = NAMES[: int(data.labels.max()) + 1]
    place = Folder("/nowhere")
    return Lesson([part], held_out, names, seed, CPU, previous, None, place, ALONE)


def trained(seed: int = 0, previous: Any = None, **changes: object) -> Trained:
    parts = (TrainingImages(p.images, p.labels) for p in (splits().train, splits().held_out))
    return ddpm.train(lesson(*parts, seed, previous), Ddpm.model_validate(TINY | changes))


@cache
def short() -> Trained:
    return trained()


def sample(
    of: Trained, ids: Ids, labels: Ids, seed: int, shape: Any = (3, 8, 8), **changes: object
) -> Images:
    images = TrainingImages(np.zeros((0, *shape), np.uint8), np.zeros(0, np.int64))
    weights = dict(of.weights)
    scene = Scene(images, images, NAMES, None, CPU, weights, None, None)
    return ddpm.sampler(scene, Ddpm.model_validate(TINY | changes)).sample(ids, labels, seed)


def same(a: Trained, b: Trained) -> bool:
    return all(torch.equal(a.weights[name], value) for name, value in b.weights.items())


def test_the_same_seed_gives_the_same_bits_whatever_ran_before() -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again = trained()
    assert torch.equal(torch.get_rng_state(), before)
    assert same(again, short())
    assert again.history == short().history
    assert not same(trained(seed=1), again)


@pytest.mark.parametrize("solver", ["ddim", "dpmsolver++"])
def test_a_sample_depends_on_its_id_label_and_seed_but_not_on_its_neighbours(solver: str) -> None:
    order = np.random.default_rng(0).permutation(20)
    drawn = sample(short(), IDS, LABELS, 3, sampler=solver)
    shuffled = sample(short(), IDS[order], LABELS[order], 3, sampler=solver)
    np.testing.assert_array_equal(shuffled, drawn[order])
    assert drawn.dtype == np.uint8
    assert drawn.shape == (20, 3, 8, 8)
    for ids, labels, seed in (
        (IDS + 20, LABELS, 3),
        (IDS, LABELS, 4),
        (IDS, (LABELS + 1) % 10, 3),
    ):
        other = sample(short(), ids, labels, seed, sampler=solver)
        assert (other != drawn).any(axis=(1, 2, 3)).all()


def test_weights_survive_safetensors_and_sample_the_same() -> None:
    restored = short()._replace(weights=load(save(dict(short().weights))))
    drawn = [sample(of, IDS, LABELS, 0) for of in (restored, short())]
    np.testing.assert_array_equal(*drawn)


def test_weights_of_another_width_are_refused() -> None:
    with pytest.raises(StageError, match="another generator"):
        sample(short(), IDS, LABELS, 0, width=16)


@pytest.mark.parametrize("side", [28, 32])
def test_other_image_sizes_train_and_sample(side: int) -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (30, 3, side, side)).astype(np.uint8)
    data = TrainingImages(images, np.arange(30) % 10)
    settings = Ddpm.model_validate(TINY | {"max_steps": 1})
    found = ddpm.train(lesson(data, data, 0), settings)
    drawn = sample(found, IDS[:4], LABELS[:4], 0, shape=(3, side, side))
    assert drawn.shape == (4, 3, side, side)
    assert found.outcome == "budget"


@pytest.mark.parametrize(("side", "lowest"), [(8, 4), (28, 7), (32, 4), (25, 25)])
def test_the_network_halves_as_long_as_a_side_can_be_halved(side: int, lowest: int) -> None:
    net = ddpm.network(Ddpm(width=8), 10, (3, side, side))
    assert side >> (len(net.config.block_out_channels) - 1) == lowest


def test_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(ConfigError, match="ddpm makes square images; the data has 8x9"):
        ddpm.network(Ddpm(), 10, (3, 8, 9))


def test_the_budget_ends_training_and_the_best_look_is_kept() -> None:
    assert short().outcome == "budget"
    assert [look["step"] for look in short().history] == [3, 6]
    distances = {look["step"]: look[CRITERION] for look in short().history}
    best = min(distances, key=lambda step: distances[step])
    assert short().facts == {"steps": 6, "best_step": best}


def test_training_that_does_not_improve_is_converged_and_a_share_of_the_budget_ends_it() -> None:
    still = {"learning_rate": 1e-12, "patience_steps": 3, "max_steps": 12, "ema_decay": 0.0}
    found = trained(**still)
    assert (found.outcome, found.facts["steps"]) == ("converged", 6)
    assert trained(**still, budget=0.25).facts["steps"] == 3


def test_too_little_diversity_is_called_collapsed_and_no_number_diverged() -> None:
    assert trained(collapse_ratio=0.999999, sampler_steps=1).outcome == "collapsed"
    assert trained(learning_rate=1e30, clip_norm=1e30, warmup_steps=0).outcome == "diverged"


def test_previous_weights_are_where_training_starts() -> None:
    found = trained(5, dict(short().weights), learning_rate=1e-12, max_steps=1)
    for name, value in found.weights.items():
        torch.testing.assert_close(value, short().weights[name])


def test_a_few_steps_bring_samples_nearer_to_the_held_out_images() -> None:
    found = trained(max_steps=40, check_every=20, width=16, sampler_steps=5, warmup_steps=10)
    first, last = (look[CRITERION] for look in found.history)
    assert last < first
