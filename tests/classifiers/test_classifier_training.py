"""Training classifiers: it learns, it repeats, it stops, it knows when it has collapsed."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import binomtest
from torchvision import models

from ray_selfloop.classifiers import train as training_module
from ray_selfloop.classifiers.augment import augmented
from ray_selfloop.classifiers.train import Examples, LabeledImages, collapsed, logits, train
from ray_selfloop.config.datasets.coloured import ColorizedDigits
from ray_selfloop.config.training import Training
from ray_selfloop.datasets import colours, digits
from ray_selfloop.images.imageset import Splits

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def splits() -> Splits:
    settings = ColorizedDigits(initialization="biased")
    return colours.colorize(*digits.scans(), settings)


def examples(splits: Splits, n: int | None = None, augment: str = "none") -> Examples:
    train_part, held = splits.train, splits.held_out
    return Examples(
        LabeledImages(train_part.images[:n], train_part.labels[:n]),
        LabeledImages(held.images, held.labels),
        10,
        augment,
    )


PINNED = [2.1854, 1.4266, 0.9171]  # raise the stage's version when this moves
QUICK = Training(max_steps=260, batch_size=32, check_steps=20)


def test_default_recipe_learns_the_biased_digits(splits: Splits) -> None:
    trained = train("lenet", examples(splits), QUICK, 0, CPU)
    outputs = logits(trained.network, splits.test.images, 256, CPU)
    assert (outputs.argmax(1) == splits.test.labels).mean() >= 0.9
    assert not trained.collapsed
    assert (trained.outcome, trained.recipe, trained.source) == ("budget", "default", "scratch")
    accuracies = [row["held_out_accuracy"] for row in trained.history]
    best = max(trained.history, key=lambda row: (row["held_out_accuracy"], -row["held_out_loss"]))
    assert trained.held_out_accuracy == max(accuracies)
    assert trained.best_step == best["step"]


@pytest.mark.parametrize(
    ("name", "augment"), [("mobilenet_v3_small", "crop_flip"), ("lenet", "none")]
)
def test_a_seed_gives_the_same_bits_whatever_ran_before(
    splits: Splits, name: str, augment: str
) -> None:
    short = Training(max_steps=5, batch_size=16, check_steps=2)
    torch.manual_seed(1)
    first = train(name, examples(splits, 64, augment), short, 7, CPU)
    torch.manual_seed(2)
    torch.rand(5)
    before = torch.random.get_rng_state()
    second = train(name, examples(splits, 64, augment), short, 7, CPU)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.history == second.history
    states = first.network.state_dict(), second.network.state_dict()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    other = train(name, examples(splits, 64, augment), short, 8, CPU)
    assert other.history != first.history


@pytest.mark.filterwarnings("error")
def test_read_only_arrays_from_a_store_are_trained_on_without_a_warning(splits: Splits) -> None:
    data = examples(splits, 64)
    parts = [LabeledImages(*(array.copy() for array in part)) for part in data[:2]]
    for array in (*parts[0], *parts[1]):
        array.flags.writeable = False
    data = Examples(*parts, 10, "none")
    trained = train("lenet", data, Training(max_steps=2), 0, CPU)
    assert trained.steps == 2


def test_who_is_told_of_the_looks_may_stop_the_training_and_changes_no_number(
    splits: Splits,
) -> None:
    settings = Training(max_steps=50, check_steps=20, batch_size=16)
    data, told = examples(splits, 100), []
    alone = train("lenet", data, settings, 3, CPU)
    watched = train("lenet", data, settings, 3, CPU, lambda look: bool(told.append(look)))
    assert told == alone.history == watched.history
    assert len(told) == training_module.looks(100, settings) == 3
    stopped = train("lenet", data, settings, 3, CPU, lambda look: look["step"] >= 20)
    assert (stopped.outcome, stopped.steps) == ("stopped", 20)
    assert stopped.history == alone.history[:1]
    last = train("lenet", data, settings, 3, CPU, lambda look: look["step"] >= 50)
    assert last.outcome == "budget"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_fine_tuning_starts_from_the_weights_of_the_file(
    splits: Splits, tmp_path: Path, suffix: str
) -> None:
    """At a rate of 1e-30 no weight moves."""
    state = models.get_model("mobilenet_v3_small", weights=None).state_dict()
    path = tmp_path / f"imagenet{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    settings = Training(
        pretrained=str(path), image_size=40, max_steps=2, batch_size=8, learning_rate=1e-30
    )
    trained = train("mobilenet_v3_small", examples(splits, 32, "crop_flip"), settings, 0, CPU)
    assert trained.source.startswith("sha256/")
    assert trained.network.side == 40
    ours = trained.network.state_dict()
    assert torch.equal(ours["trunk.0.0.0.weight"], state["features.0.0.weight"])
    assert ours["tail.3.weight"].shape == (10, 1024)


def test_pinned_short_curve(splits: Splits) -> None:
    trained = train("lenet", examples(splits), Training(max_steps=60, check_steps=20), 0, CPU)
    losses = [row["train_loss"] for row in trained.history]
    assert losses == pytest.approx(PINNED, rel=1e-2)


def test_the_learning_rate_follows_the_cosine_to_zero(splits: Splits) -> None:
    settings = Training(max_steps=8, check_steps=1, batch_size=4, learning_rate=0.01)
    trained = train("lenet", examples(splits, 40), settings, 0, CPU)
    rates = [row["learning_rate"] for row in trained.history]
    expected = [0.01 * 0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(1, 9)]
    assert rates == pytest.approx(expected, abs=1e-12)


def test_the_paper_recipe_keeps_its_rate_and_leaves_lenet_at_chance(splits: Splits) -> None:
    settings = Training(recipe="paper", max_steps=100, check_steps=50)
    trained = train("lenet", examples(splits), settings, 0, CPU)
    assert {row["learning_rate"] for row in trained.history} == {0.1}
    assert trained.collapsed
    assert trained.recipe == "paper"


def test_patience_counts_steps_and_respects_the_minimum(splits: Splits) -> None:
    """At a rate of 1e-30 no weight moves, so the first look stays the best for ever."""
    settings = {"learning_rate": 1e-30, "check_steps": 5, "batch_size": 8, "max_steps": 200}
    data = examples(splits, 80)
    stops = {}
    for patience, least in ((20, 0), (20, 60), (1000, 0)):
        chosen = Training(patience_steps=patience, min_steps=least, **settings)
        trained = train("lenet", data, chosen, 0, CPU)
        stops[patience, least] = (trained.steps, trained.best_step, trained.outcome)
    assert stops == {
        (20, 0): (25, 5, "early_stopped"),
        (20, 60): (60, 5, "early_stopped"),
        (1000, 0): (200, 5, "budget"),
    }


@pytest.mark.parametrize("n", [1, 17, 33])
def test_a_rest_of_one_image_does_not_stop_batchnorm(splits: Splits, n: int) -> None:
    settings = Training(max_epochs=2, batch_size=16)
    trained = train("mobilenet_v3_small", examples(splits, n), settings, 0, CPU)
    assert trained.steps == math.ceil(2 * n / 16)
    assert logits(trained.network, splits.test.images[:1], 16, CPU).shape == (1, 10)


def test_every_image_is_shown_equally_often() -> None:
    rows = training_module.shuffled_rows(7, 3, 0)
    shown = torch.cat([next(rows) for _ in range(14)])  # 42 draws
    assert torch.bincount(shown).tolist() == [6] * 7
    assert all(sorted(shown[i : i + 7].tolist()) == list(range(7)) for i in range(0, 42, 7))


@pytest.mark.parametrize(
    ("n", "settings", "expected"),
    [
        (1293, {"max_epochs": 50, "batch_size": 64}, 1011),
        (1293, {"max_epochs": 50, "batch_size": 64, "max_steps": 300}, 300),
        (10, {"max_epochs": 1, "batch_size": 64, "max_steps": 300}, 1),
    ],
)
def test_the_budget_is_the_smaller_of_epochs_and_steps(n, settings, expected) -> None:
    assert training_module.budget(n, Training(**settings)) == expected


def test_logits_and_features_do_not_depend_on_how_many_are_asked_for(splits: Splits) -> None:
    net = train("lenet", examples(splits, 64), Training(max_steps=2), 0, CPU).network
    images = splits.test.images[:150]
    whole, part = logits(net, images, 64, CPU), logits(net, images[:70], 64, CPU)
    assert np.array_equal(whole[:70], part)
    features = training_module.features(net, images, 64, CPU)
    with torch.no_grad():
        again = net.tail[-1](torch.from_numpy(features)).numpy()
    assert np.allclose(again, whole, atol=1e-5)


def test_collapse_is_the_exact_binomial_test_against_the_best_constant_guess() -> None:
    labels = np.repeat(np.arange(10), 15)  # 150 images, guess 0.1
    for hits in range(10, 45):
        predictions = (labels + 1) % 10
        predictions[:hits] = labels[:hits]
        outputs = np.eye(10, dtype=np.float32)[predictions]
        p = binomtest(hits, 150, 0.1, alternative="greater").pvalue
        assert collapsed(outputs, labels) == (p > 1e-3), hits


def test_one_predicted_class_or_a_nan_is_a_collapse() -> None:
    labels = np.array([0] * 5 + [1] * 5)
    perfect = np.eye(2, dtype=np.float32)[labels].repeat(3, axis=0)
    assert not collapsed(perfect, labels.repeat(3))
    assert collapsed(np.eye(2, dtype=np.float32)[np.zeros(10, int)], labels)
    perfect[0, 0] = np.nan
    assert collapsed(perfect, labels.repeat(3))


def test_crop_and_flip_is_some_crop_of_the_padded_image_or_its_mirror() -> None:
    images = torch.randint(1, 256, (40, 3, 8, 8), dtype=torch.uint8)
    out = augmented(images, "crop_flip", torch.Generator().manual_seed(0), 8)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    seen = set()
    for i in range(40):
        found = [
            (top, left, flip)
            for top in range(3)
            for left in range(3)
            for flip in (False, True)
            if torch.equal(out[i], _crop(padded[i], top, left, flip))
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 10  # of 18
    assert augmented(images, "none", torch.Generator(), 8) is images


def test_a_crop_from_the_frame_adds_no_border() -> None:
    frames = torch.randint(0, 256, (30, 3, 10, 10), dtype=torch.uint8)
    out = augmented(frames, "frame_crop_flip", torch.Generator().manual_seed(0), 8)
    assert out.shape == (30, 3, 8, 8)
    for frame, cropped in zip(frames, out, strict=True):
        crops = [
            _crop(frame, top, left, flip)
            for top in range(3)
            for left in range(3)
            for flip in (False, True)
        ]
        assert sum(torch.equal(cropped, crop) for crop in crops) == 1


def _crop(padded: torch.Tensor, top: int, left: int, flip: bool) -> torch.Tensor:
    crop = padded[:, top : top + 8, left : left + 8]
    return crop.flip(2) if flip else crop
