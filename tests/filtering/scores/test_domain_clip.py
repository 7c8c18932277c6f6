"""The in-domain CLIP model ranks well, whatever the images' size, and repeats."""

import numpy as np
import open_clip
import pytest
import torch
from scipy.stats import mannwhitneyu
from torch.nn import functional as F

from ray_selfloop.config.datasets.coloured import ColorizedDigits
from ray_selfloop.config.filter import DomainClip
from ray_selfloop.datasets import colours, digits
from ray_selfloop.filtering.scores import domain_clip
from ray_selfloop.images.imageset import ImageSet, Splits

CPU = torch.device("cpu")
TINY = DomainClip(steps=3, batch_size=16, image_layers=1, image_width=16, score_batch=32)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def splits() -> Splits:
    settings = ColorizedDigits(initialization="unbiased")
    return colours.colorize(*digits.scans(), settings)


def trained(part: ImageSet, settings: DomainClip, seed: int) -> dict[str, torch.Tensor]:
    names = part.class_names
    return domain_clip.train_domain_clip(part.images, part.labels, names, settings, seed, CPU)


def scorer(weights: dict, part: ImageSet, settings: DomainClip) -> domain_clip.DomainClip:
    size = part.images.shape[-1]
    return domain_clip.DomainClip(weights, part.class_names, size, settings, CPU)


@pytest.mark.slow
def test_with_defaults_the_right_label_outscores_a_wrong_one(splits: Splits) -> None:
    held, settings = splits.held_out, DomainClip()
    model = scorer(trained(splits.train, settings, 0), held, settings)
    shift = np.random.default_rng(0).integers(1, 10, len(held))
    right = model.score(held.images, held.labels)
    wrong = model.score(held.images, (held.labels + shift) % 10)
    area = mannwhitneyu(right, wrong).statistic / (len(right) * len(wrong))
    assert area > 0.95
    assert right.dtype == np.float32
    assert np.abs(right).max() <= 1 + 1e-6


@pytest.mark.parametrize("side", [8, 28, 32])
def test_any_image_size_and_the_same_bits_for_a_seed(splits: Splits, side: int) -> None:
    rows = np.arange(60)
    part = splits.train.take(rows)
    images = np.ascontiguousarray(
        np.kron(part.images, np.ones((4, 4), np.uint8))[..., :side, :side]
    )
    part = ImageSet(images, part.labels, part.subgroups, part.units, part.class_names)
    torch.manual_seed(1)
    first = trained(part, TINY, 3)
    before = torch.random.get_rng_state()
    second = trained(part, TINY, 3)
    model = scorer(second, part, TINY)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(trained(part, TINY, 4)["logit_scale"], first["logit_scale"])
    whole = model.score(part.images, part.labels)
    assert np.array_equal(model.score(part.images[:40], part.labels[:40]), whole[:40])


def test_the_loss_counts_no_image_of_the_same_class_as_a_negative() -> None:
    texts = torch.eye(3)
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    perfect = contrastive(texts[labels], texts, labels, 50.0)
    assert perfect == pytest.approx(sum(np.log([3, 1, 2])) / 3 / 2, abs=1e-4)  # entropy of targets
    turned = contrastive(texts[(labels + 1) % 3], texts, labels, 50.0)
    assert turned > perfect + 10


def test_with_one_image_per_class_it_is_clips_own_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = (F.normalize(torch.randn(6, 8, generator=generator)) for _ in range(2))
    ours = contrastive(images, texts, torch.arange(6), 10.0)
    theirs = open_clip.ClipLoss()(images, texts, torch.tensor(10.0))
    assert ours == pytest.approx(float(theirs), abs=1e-5)


def contrastive(images: torch.Tensor, texts: torch.Tensor, labels: torch.Tensor, scale: float):
    return float(domain_clip.contrastive_loss(images, texts, labels, torch.tensor(scale)))


def test_tokens_are_distinct_bounded_and_end_at_the_highest() -> None:
    rows = domain_clip.tokens(["zero", "one", "a zero", "ämter"])
    assert rows.shape == (4, 8)
    assert len({tuple(row.tolist()) for row in rows}) == 4
    assert int(rows.max()) == domain_clip.END == 98
    assert rows.argmax(1).tolist() == [5, 4, 7, 6]
