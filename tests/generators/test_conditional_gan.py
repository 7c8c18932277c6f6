"""Training and sampling of the conditional GAN on real scans, at small budgets."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load, save
from sklearn.neighbors import KNeighborsClassifier

from ray_selfloop.config.datasets.coloured import ColorizedDigits
from ray_selfloop.config.generators.gan import ConditionalGan
from ray_selfloop.datasets import colours, digits
from ray_selfloop.errors import StageError
from ray_selfloop.generators.base import Lesson, Part, Scene, Trained, TrainingImages
from ray_selfloop.generators.diffusion.workers import ALONE
from ray_selfloop.generators.gan import conditional_gan
from ray_selfloop.generators.stopping import CRITERION
from ray_selfloop.images.imageset import Ids, Images, ImageSet, Splits
from ray_selfloop.images.split import apportion
from ray_selfloop.store.blobs import Folder

CPU = torch.device("cpu")
SHORT = {
    "max_steps": 20,
    "min_steps": 0,
    "check_every": 10,
    "check_samples": 100,
    "collapse_ratio": 0.01,  # so short a training gives little diversity yet
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@cache
def _splits(initialization: str) -> Splits:
    settings = ColorizedDigits(initialization=initialization)
    return colours.colorize(*digits.scans(), settings)


def _images(part: ImageSet) -> TrainingImages:
    return TrainingImages(part.images, part.labels)


def train(
    data: TrainingImages,
    held_out: TrainingImages,
    classes: int,
    settings: ConditionalGan,
    seed: int,
    device: torch.device,
    previous: dict[str, torch.Tensor] | None,
) -> Trained:
    parts = [Part("dataset", *data, np.arange(len(data.labels)), None)]
    names, place = colours.DIGIT_NAMES[:classes], Folder(Path("/nowhere"))
    lesson = Lesson(parts, held_out, names, seed, device, previous, None, place, ALONE)
    return conditional_gan.train(lesson, settings)


def sampler(
    weights: dict[str, torch.Tensor],
    classes: int,
    shape: tuple[int, int, int],
    settings: ConditionalGan,
    device: torch.device,
) -> conditional_gan.GanSampler:
    none = TrainingImages(np.empty((0, *shape), np.uint8), np.empty(0, np.int64))
    names = colours.DIGIT_NAMES[:classes]
    scene = Scene(none, none, names, None, device, weights, None, None)
    return conditional_gan.sampler(scene, settings)


def _train(
    seed: int = 0, initial: dict[str, torch.Tensor] | None = None, **changes: object
) -> Trained:
    splits = _splits("biased")
    settings = ConditionalGan.model_validate(SHORT | changes)
    parts = _images(splits.train), _images(splits.held_out)
    return train(*parts, 10, settings, seed, CPU, initial)


def _sample(trained: Trained, ids: Ids, labels: Ids, seed: int) -> Images:
    return sampler(trained.weights, 10, (3, 8, 8), ConditionalGan(), CPU).sample(ids, labels, seed)


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@cache
def _short() -> Trained:
    return _train()


def test_the_same_seed_gives_the_same_bits_whatever_ran_before() -> None:
    torch.manual_seed(123)
    again = _train()
    assert _same(again.weights, _short().weights)
    assert again.history == _short().history


def test_another_seed_gives_another_generator() -> None:
    assert not _same(_train(seed=1).weights, _short().weights)


def test_torchs_global_stream_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    _sample(_train(seed=2), np.arange(4), np.arange(4), 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sample_depends_on_its_id_label_and_seed_but_not_on_its_neighbours() -> None:
    ids, labels = np.arange(100, 132), np.arange(32) % 10
    order = np.random.default_rng(0).permutation(32)
    drawn = _sample(_short(), ids, labels, seed=3)
    shuffled = _sample(_short(), ids[order], labels[order], seed=3)
    np.testing.assert_array_equal(shuffled, drawn[order])
    assert drawn.dtype == np.uint8
    assert drawn.shape == (32, 3, 8, 8)
    for other in (
        _sample(_short(), ids + 32, labels, 3),
        _sample(_short(), ids, labels, 4),
        _sample(_short(), ids, (labels + 1) % 10, 3),
    ):
        assert (other != drawn).any(axis=(1, 2, 3)).all()


def test_weights_survive_safetensors_and_sample_the_same() -> None:
    weights = load(save(_short().weights))
    ids, labels = np.arange(16), np.arange(16) % 10
    restored = sampler(weights, 10, (3, 8, 8), ConditionalGan(), CPU).sample(ids, labels, 0)
    np.testing.assert_array_equal(restored, _sample(_short(), ids, labels, 0))


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(StageError, match="another generator"):
        sampler(_short().weights, 10, (3, 28, 28), ConditionalGan(), CPU)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_other_image_shapes_train_and_sample(shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(0)
    data = TrainingImages(random.integers(0, 256, (60, *shape)).astype(np.uint8), np.arange(60) % 3)
    changes = {"max_steps": 2, "check_every": 1, "generator_width": 32, "check_samples": 30}
    settings = ConditionalGan.model_validate(SHORT | changes)
    trained = train(data, data, 3, settings, 0, CPU, None)
    drawn = sampler(trained.weights, 3, shape, settings, CPU).sample(
        np.arange(4), np.array([0, 1, 2, 0]), 0
    )
    assert drawn.shape == (4, *shape)
    assert trained.outcome in {"budget", "collapsed"}


def test_a_class_without_images_is_never_asked_of_the_networks() -> None:
    splits = _splits("biased")
    some = _images(splits.train.take(np.flatnonzero(splits.train.labels != 7)))

    def embedding(steps: int) -> torch.Tensor:
        settings = ConditionalGan.model_validate(SHORT | {"max_steps": steps, "check_every": steps})
        trained = train(some, _images(splits.held_out), 10, settings, 0, CPU, None)
        return trained.weights["label.weight"]

    moved = (embedding(30) - embedding(1)).abs().sum(dim=1)
    assert moved[7] < 1e-5 < 0.1 * moved[torch.arange(10) != 7].min()


def test_the_budget_ends_training_and_the_best_look_is_kept() -> None:
    trained = _train(max_steps=25)
    assert trained.outcome == "budget"
    assert [look["step"] for look in trained.history] == [10, 20, 25]
    distances = {look["step"]: look[CRITERION] for look in trained.history}
    assert trained.facts["best_step"] == min(distances, key=lambda step: distances[step])


@pytest.mark.parametrize(("budget", "looks"), [(0.25, [10, 15]), (0.5, [10, 20, 30]), (0.01, [1])])
def test_a_share_of_the_budget_ends_training_there_and_says_so(
    budget: float, looks: list[int]
) -> None:
    trained = _train(max_steps=60, budget=budget)
    assert [look["step"] for look in trained.history] == looks
    assert trained.outcome == "budget"


def test_a_share_of_the_budget_is_the_same_training_cut_short() -> None:
    assert _same(_train(max_steps=40, budget=0.5).weights, _short().weights)


def test_the_share_is_of_all_that_stopping_counts_and_rounded_up() -> None:
    settings = ConditionalGan(max_steps=1_001, min_steps=7, patience_steps=2, budget=0.25)
    assert settings.granted == {"budget": 251, "minimum": 2, "patience": 1}
    assert ConditionalGan(max_steps=1_001).granted["budget"] == 1_001


@pytest.mark.parametrize("budget", [0.0, 1.01])
def test_a_share_of_nothing_or_more_than_all_is_refused(budget: float) -> None:
    with pytest.raises(ValidationError, match="budget"):
        ConditionalGan(budget=budget)


@pytest.mark.parametrize(
    "change",
    [
        {"augment": "translate_cutout"},
        {"upsampling": "nearest"},
        {"discriminator_gain": 1.5},
    ],
)
def test_each_setting_changes_the_generator_and_keeps_its_bits_for_a_seed(
    change: dict[str, Any],
) -> None:
    once, again = (_train(max_steps=10, **change) for _ in range(2))
    assert _same(once.weights, again.weights)
    assert not _same(once.weights, _train(max_steps=10).weights)


def test_training_that_explodes_is_called_diverged_and_leaves_finite_weights() -> None:
    trained = _train(generator_learning_rate=1e30)
    assert trained.outcome == "diverged"
    assert trained.facts["steps"] == 10
    assert all(bool(value.isfinite().all()) for value in trained.weights.values())


def test_too_little_diversity_is_called_collapsed() -> None:
    assert _short().outcome == "budget"
    assert _train(collapse_ratio=0.999).outcome == "collapsed"


def test_previous_weights_are_where_training_starts() -> None:
    still = {"generator_learning_rate": 1e-12, "max_steps": 1, "check_every": 1}
    trained = _train(seed=5, initial=_short().weights, **still)
    for name, value in trained.weights.items():
        if name.endswith("weight"):
            torch.testing.assert_close(value, _short().weights[name])


def test_a_batch_that_does_not_divide_into_groups_is_a_config_error() -> None:
    with pytest.raises(ValidationError, match="multiple of group_size"):
        ConditionalGan(batch_size=60, group_size=8)


def test_no_subgroup_can_reach_a_generator() -> None:
    assert TrainingImages._fields == ("images", "labels")


def _judged(trained: Trained, real: ImageSet) -> tuple[float, float]:
    """Label fidelity, and total variation of colours within the class, of 2,000 samples."""
    judge = KNeighborsClassifier(3).fit(real.images.max(axis=1).reshape(-1, 64), real.labels)
    counts = apportion(2_000, np.bincount(real.labels).astype(float))
    labels = np.repeat(np.arange(10), counts)
    drawn = _sample(trained, np.arange(2_000), labels, seed=1)
    fidelity = float((judge.predict(drawn.max(axis=1).reshape(-1, 64)) == labels).mean())
    seen = colours.read_colours(drawn)
    variations = []
    for label in range(10):
        ours = np.bincount(seen[labels == label], minlength=4) / counts[label]
        mine = real.labels == label
        theirs = np.bincount(real.subgroups[mine], minlength=4) / mine.sum()
        variations.append(np.abs(ours - theirs).sum() / 2)
    return fidelity, float(np.mean(variations))


@pytest.mark.slow
def test_four_hundred_steps_give_readable_digits_in_more_than_one_colour() -> None:
    trained = _train(max_steps=400, check_every=200, check_samples=500)
    fidelity, variation = _judged(trained, _splits("biased").train)
    assert fidelity > 0.8
    assert variation < 0.2  # one colour per class: 0.30
    assert trained.history[1][CRITERION] < trained.history[0][CRITERION]
