"""Augmentation that gradients pass through, for what a discriminator sees on small data.

Real and generated images are changed by the same kind of draw before they are judged (Zhao et al.
2020, Karras et al. 2020), so that the discriminator cannot learn the few real images by heart, and
the generator does not learn the changes. Flips and shifts are products with matrices of zeros and
ones, which are quick and deterministic in both directions. Knows nothing of networks and losses.
"""

import torch
from torch import Tensor

SHIFT = 1 / 8  # largest shift, of the side
HOLE = 1 / 2  # side of the square that is cut out, of the side
BRIGHTNESS = 0.5  # largest change of all channels, images being in -1..1


def augmented(images: Tensor, augment: str, draw: torch.Generator) -> Tensor:
    """Images ``(n, C, H, H)`` in -1..1 -> the same, each changed by its own draw.

    augment: words joined by ``_``, or ``none``, which draws nothing. ``flip``: left to right, with
    probability 1/2. ``translate``: by up to an eighth of the side, gray comes in. ``colour``:
    brightness, saturation and contrast. ``cutout``: a square of half the side becomes gray.
    ``draw`` is on the CPU, whatever the images' device.
    """
    words = augment.split("_")
    if "colour" in words:
        images = _recoloured(images, draw)
    if "flip" in words or "translate" in words:
        images = _moved(images, "flip" in words, "translate" in words, draw)
    return _cut_out(images, draw) if "cutout" in words else images


def _recoloured(images: Tensor, draw: torch.Generator) -> Tensor:
    light, saturation, contrast = (
        torch.rand((3, len(images), 1, 1, 1), generator=draw).to(images.device).unbind()
    )
    images = images + (2 * light - 1) * BRIGHTNESS
    gray = images.mean(dim=1, keepdim=True)
    images = gray + (images - gray) * 2 * saturation
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def _moved(images: Tensor, flip: bool, translate: bool, draw: torch.Generator) -> Tensor:
    """Row and column of ``H`` that each place is taken from; places out of range become 0."""
    n, size = len(images), images.shape[-1]
    places = torch.arange(size).expand(n, size)
    rows = columns = places
    if flip:
        mirrored = torch.rand((n, 1), generator=draw) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    if translate:
        reach = max(1, int(size * SHIFT))
        shift = torch.randint(-reach, reach + 1, (2, n, 1), generator=draw)
        rows, columns = rows + shift[0], columns + shift[1]
    down, across = (
        (lines[:, :, None] == places[:, None, :]).to(images) for lines in (rows, columns)
    )
    return down[:, None] @ images @ across.mT[:, None]


def _cut_out(images: Tensor, draw: torch.Generator) -> Tensor:
    n, size = len(images), images.shape[-1]
    hole = max(1, int(size * HOLE))
    corner = torch.randint(1 - hole // 2, size - hole // 2, (2, n, 1), generator=draw)
    offsets = torch.arange(size) - corner  # (2, n, H)
    down, across = (offsets >= 0) & (offsets < hole)
    kept = ~(down[:, :, None] & across[:, None, :])
    return images * kept[:, None].to(images)
