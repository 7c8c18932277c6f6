"""Augmentation as tensor code: a random crop, and a horizontal flip.

Draws on the CPU whatever the images' device, so that the draw does not depend on it.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ray_selfloop.config.datasets.base import Augmentation


def augmented(images: Tensor, augment: Augmentation, draw: torch.Generator, side: int) -> Tensor:
    """uint8 ``(n, C, H, W)`` -> ``(n, C, side, side)``, each image by its own draw.

    ``crop_flip``: zero padding of an eighth of the side (4 pixels at 32), a random crop of the
    original size, a flip with probability 1/2. ``frame_crop_flip``: a random crop out of the larger
    frame that pictures are given with, and the flip. ``none``: the images as they are.
    """
    if augment == "none":
        return images
    n = len(images)
    pad = max(1, side // 8) if augment == "crop_flip" else 0
    room = images.shape[-1] + 2 * pad - side
    corners = torch.randint(0, room + 1, (n, 2), generator=draw)
    flip = torch.rand(n, generator=draw) < 0.5
    columns = torch.arange(side).repeat(n, 1)
    columns[flip] = columns[flip].flip(1)
    rows = (torch.arange(side) + corners[:, :1]).to(images.device)  # (n, H)
    columns = (columns + corners[:, 1:]).to(images.device)  # (n, W)
    padded = F.pad(images, (pad, pad, pad, pad))
    which = torch.arange(n, device=images.device)[:, None, None]
    cropped = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)
