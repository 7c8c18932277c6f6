"""Test pictures with their object taken out, or with noise on it or beside it (sec. 4.4).

Decides what each ablation does to pixels, and for which pictures it means anything. Works on the
pixels that a network is about to see, before normalisation. Knows nothing of networks, of files or
of what becomes of the predictions (`reliance`).
"""

from collections.abc import Iterator

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ray_selfloop import seeding
from ray_selfloop.config.evaluation import Ablation
from ray_selfloop.evaluation import predictions
from ray_selfloop.evaluation.ablation import reference
from ray_selfloop.evaluation.ablation.reference import Box

KINDS, NOISES = predictions.KINDS, predictions.NOISES
RANGE = 255.0
GRAY = 0.5 * RANGE  # "a uniform value of 0.5"


def ablated(
    images: Tensor, masks: Tensor, kind: str, settings: Ablation, ids: Tensor
) -> tuple[Tensor, Tensor]:
    """The pictures under one ablation, and for which of them it is defined.

    images: uint8 or float ``(b, 3, H, W)``, 0..255. masks: bool ``(b, H, W)``, True on objects.
    kind: one of `KINDS` or `NOISES`. ids: int ``(b,)``, what the noise of each picture is drawn
    for, so that it depends on no batch. Result: float32 ``(b, 3, H, W)``, 0..255, and bool
    ``(b,)``; a picture for which the kind is not defined comes back as it is. Raises ValueError for
    another kind.

    ``object_gray``: object pixels become gray, the middle of the range. ``box_gray``: the bounding
    box of all object pixels does, its edges included (one for each connected piece of the mask
    under ``boxes: each``). ``box_neighbour``: the box is replaced by the region next to it, see
    `_filled`. Not defined without object pixels; ``box_neighbour`` moreover where the box leaves
    no room. ``noise_foreground``, ``noise_background``: Gaussian noise on the object or beside it,
    cut at the range; both have the same noise, and both need an object and a background. Under
    ``compat: reference`` every picture counts; it needs H = W.
    """
    if kind not in (*KINDS, *NOISES):
        raise ValueError(f"{kind!r} is no ablation: {', '.join((*KINDS, *NOISES))}")
    pictures = images.to(torch.float32)
    inside = masks.flatten(1)
    if kind in NOISES:
        defined = inside.any(dim=1) & ~inside.all(dim=1)
        changed = _noisy(pictures, masks if kind == NOISES[0] else ~masks, settings, ids)
    elif kind == "object_gray":
        defined = inside.any(dim=1)
        changed = torch.where(masks[:, None], GRAY, pictures)
    else:
        changed, defined = _boxed(pictures, masks, kind, settings)
    if settings.compat == "reference":
        return changed, torch.ones_like(defined)
    return torch.where(defined[:, None, None, None], changed, pictures), defined


def _noisy(pictures: Tensor, where: Tensor, settings: Ablation, ids: Tensor) -> Tensor:
    """Noise of ``noise_std`` of the range on the pixels ``where`` ``(b, H, W)``."""
    shape = pictures.shape[1:]
    drawn = [
        seeding.rng(settings.seed, "ablation noise", int(i)).standard_normal(shape, np.float32)
        for i in ids
    ]
    noise = torch.from_numpy(np.stack(drawn)).to(pictures.device)
    added = settings.noise_std * RANGE * noise * where[:, None]
    return (pictures + added).clamp(0.0, RANGE)


def _boxed(pictures: Tensor, masks: Tensor, kind: str, settings: Ablation) -> tuple[Tensor, Tensor]:
    found = [
        _without_boxes(picture, mask, kind, settings)
        for picture, mask in zip(pictures, masks, strict=True)
    ]
    pairs = zip(found, pictures, strict=True)
    changed = torch.stack([picture if new is None else new for new, picture in pairs])
    return changed, torch.tensor([new is not None for new in found], device=masks.device)


def _without_boxes(picture: Tensor, mask: Tensor, kind: str, settings: Ablation) -> Tensor | None:
    """One picture ``(3, H, W)`` without its boxes; None where that is not defined."""
    if settings.compat == "reference":
        if kind == "box_gray":
            return reference.box_gray(picture, mask, GRAY)
        return reference.box_neighbour(picture, mask)
    boxes = [box_of(piece) for piece in _pieces(mask, settings)]
    changed = picture.clone()
    for box in boxes:
        fill = GRAY if kind == "box_gray" else _filled(picture, box, mask)
        if fill is None:
            return None
        changed[:, box.top : box.bottom, box.left : box.right] = fill
    return changed if boxes else None


def _pieces(mask: Tensor, settings: Ablation) -> Iterator[Tensor]:
    """The whole mask, or its connected pieces (corners connect); nothing of an empty mask."""
    if settings.boxes == "joint":
        yield from [mask] * bool(mask.any())
        return
    labels, count = ndimage.label(mask.cpu().numpy(), structure=np.ones((3, 3)))
    yield from (torch.from_numpy(labels == i) for i in range(1, count + 1))


def box_of(mask: Tensor) -> Box:
    """The tight bounding box of the True pixels of ``(H, W)``, of which there must be some."""
    rows, columns = (torch.nonzero(mask.any(dim=axis)).flatten() for axis in (1, 0))
    return Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)


def _filled(picture: Tensor, box: Box, mask: Tensor) -> Tensor | None:
    """What the box is replaced by: the region next to it on the side that has most to offer.

    That is the side from which most of the box can be filled without repetition; of equal ones that
    with more room up to the picture's edge or the next object pixel; of those the first of right,
    left, below, above. The region there has the box's size and is copied as it is. Where the room
    is narrower than the box it is repeated: from the right and from below beginning at the box's
    left and top, from the left and from above ending at its right and bottom. None without room.
    """
    height, width = box.bottom - box.top, box.right - box.left
    across, along = mask[box.top : box.bottom], mask[:, box.left : box.right]
    rooms = {  # of each side: free lines of pixels, lines needed, length of a line
        "right": (_free(across[:, box.right :].any(dim=0)), width, height),
        "left": (_free(across[:, : box.left].any(dim=0).flip(0)), width, height),
        "below": (_free(along[box.bottom :].any(dim=1)), height, width),
        "above": (_free(along[: box.top].any(dim=1).flip(0)), height, width),
    }
    covered = {side: min(room, need) * line for side, (room, need, line) in rooms.items()}
    side = max(rooms, key=lambda name: (covered[name], rooms[name][0]))
    room, need, _ = rooms[side]
    if not room:
        return None
    k, steps = min(room, need), torch.arange(need)
    source = {
        "right": box.right + steps % k,
        "left": box.left - k + (steps - need) % k,
        "below": box.bottom + steps % k,
        "above": box.top - k + (steps - need) % k,
    }[side]
    if side in ("right", "left"):
        return picture[:, box.top : box.bottom, source]
    return picture[:, source, box.left : box.right]


def _free(blocked: Tensor) -> int:
    """How many of the lines come before the first blocked one, ``(n,)``."""
    return int((~blocked).int().cumprod(dim=0).sum())
