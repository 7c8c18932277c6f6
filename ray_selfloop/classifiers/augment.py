"""Augmentation as tensor code: random crop after padding, and horizontal flip.

Draws on the CPU whatever the images' device, so that the draw does not depend on it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

AUGMENTATIONS = ("none", "crop_flip")


def augmented(images: Tensor, augment: str, draw: torch.Generator) -> Tensor:
    """uint8 ``(n, C, H, W)`` -> the same, each image cropped and flipped by its own draw.

    ``crop_flip``: zero padding of an eighth of the side (4 pixels at 32), a random crop of the
    original size, a flip with probability 1/2. ``none``: the images as they are.
    """
    if augment == "none":
        return images
    assert augment in AUGMENTATIONS, augment
    n, _, height, width = images.shape
    pad = max(1, height // 8)
    corners = torch.randint(0, 2 * pad + 1, (n, 2), generator=draw)
    flip = torch.rand(n, generator=draw) < 0.5
    columns = torch.arange(width).repeat(n, 1)
    columns[flip] = columns[flip].flip(1)
    rows = (torch.arange(height) + corners[:, :1]).to(images.device)  # (n, H)
    columns = (columns + corners[:, 1:]).to(images.device)  # (n, W)
    padded = F.pad(images, (pad, pad, pad, pad))
    which = torch.arange(n, device=images.device)[:, None, None]
    cropped = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)
