"""Augmentation that gradients pass through: what each word does, and that gradients pass."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from ray_selfloop.config.generators.gan import ConditionalGan
from ray_selfloop.generators.gan.augment import augmented

WORDS = get_args(ConditionalGan.model_fields["augment"].annotation)


def _draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _images(n: int = 64, size: int = 32) -> Tensor:
    return 2 * torch.rand((n, 3, size, size), generator=_draw(9)) - 1


def test_none_changes_nothing_and_draws_nothing() -> None:
    draw, images = _draw(), _images()
    assert augmented(images, "none", draw) is images
    assert torch.equal(draw.get_state(), _draw().get_state())


@pytest.mark.parametrize("size", [8, 28, 32])
@pytest.mark.parametrize("augment", WORDS)
def test_the_draw_decides_and_gradients_reach_every_image(augment: str, size: int) -> None:
    images = _images(8, size).requires_grad_()
    changed = augmented(images, augment, _draw())
    assert changed.shape == images.shape
    assert torch.equal(changed, augmented(images, augment, _draw()))
    if augment != "none":
        assert not torch.equal(changed, augmented(images, augment, _draw(1)))
    changed.square().sum().backward()
    assert images.grad is not None
    assert bool((images.grad.abs().sum(dim=(1, 2, 3)) > 0).all())


def test_a_flip_is_the_image_or_its_mirror_image() -> None:
    images = _images()
    changed = augmented(images, "flip", _draw())
    same = (changed == images).all(dim=(1, 2, 3))
    mirrored = (changed == images.flip(3)).all(dim=(1, 2, 3))
    assert bool((same ^ mirrored).all())
    assert 16 < int(same.sum()) < 48


def test_a_translation_is_one_window_of_the_image_framed_with_gray() -> None:
    images = _images(32, 16)
    framed = torch.nn.functional.pad(images, (2, 2, 2, 2))
    seen = set()
    for image, changed in zip(framed, augmented(images, "translate", _draw()), strict=True):
        windows = {
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(image[:, y : y + 16, x : x + 16], changed)
        }
        assert len(windows) == 1
        seen |= windows
    assert len(seen) > 10


def test_a_cutout_is_one_gray_rectangle_of_at_most_half_the_side() -> None:
    images = _images(size=16)
    changed = augmented(images, "translate_cutout", _draw())
    same = augmented(images, "translate", _draw())
    gone = ((changed == 0) & (same != 0)).any(dim=1)  # (n, H, W)
    down, across = gone.any(dim=2).sum(dim=1), gone.any(dim=1).sum(dim=1)
    assert int(down.max()) <= 8
    assert int(across.max()) <= 8
    assert int(gone.sum()) > 0
    kept = ~gone[:, None].expand_as(same)
    assert torch.equal(changed[kept], same[kept])


def test_colour_changes_no_place_and_keeps_gray_images_gray() -> None:
    gray = _images()[:, :1].expand(-1, 3, -1, -1)
    moved = augmented(gray, "colour_translate_cutout", _draw())
    assert float((moved - moved.mean(dim=1, keepdim=True)).abs().max()) < 1e-5
