"""The boxes of Hard ImageNet's published code, with all that its text does not say.

Facts, not code, of mmoayeri/HardImageNet, for numbers that can be laid beside published ones:
- A box ends before the object's last row and column, so that these stay visible. One row or one
  column of object pixels has no box.
- ``replace_with_gray`` takes one box around all objects, ``tile`` one around each connected piece
  of the mask (corners do not connect), whose box is shorter by one more row and column. Pieces are
  filled one after another in reading order, later ones from what earlier fills have left.
- ``tile`` swaps rows and columns where it reads: what fills a box comes from the mirror image
  across the diagonal, though from the right place in it.
- The four windows beside the box are as large as the box and are cut at the picture's edge; the
  one to its left contains the box as well, is twice as wide and usually wins.
- A window that holds object pixels is cut by counts that are mixed up, see `_cut`.
- A window of no size makes a black fill.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor


class Box(NamedTuple):
    """Rows ``top:bottom`` and columns ``left:right`` of a picture; the ends are exclusive."""

    top: int
    bottom: int
    left: int
    right: int


class _Window(NamedTuple):
    """What is read of the mirror image (the transposed picture), and the size it is chosen by."""

    box: Box
    size: int


def _spanned(mask: NDArray[np.bool_]) -> Box:
    """From the first object pixel up to, not with, the last one in rows and columns."""
    rows, columns = np.nonzero(mask)
    return Box(int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max()))


def box_gray(picture: Tensor, mask: Tensor, gray: float) -> Tensor:
    """``(3, H, W)`` with the box around all object pixels gray; as it is without any box."""
    changed, there = picture.clone(), mask.cpu().numpy()
    if there.any():
        box = _spanned(there)
        changed[:, box.top : box.bottom, box.left : box.right] = gray
    return changed


def box_neighbour(picture: Tensor, mask: Tensor) -> Tensor:
    """``(3, S, S)`` with a box for each piece of the mask filled; as it is without any box."""
    changed, there = picture.clone(), mask.cpu().numpy()
    labels, count = ndimage.label(there)
    for piece in range(1, count + 1):
        outer = _spanned(labels == piece)
        if outer.top == outer.bottom or outer.left == outer.right:
            continue
        box = outer._replace(bottom=outer.bottom - 1, right=outer.right - 1)
        fill = _fill(changed.transpose(1, 2), box, there.T)
        changed[:, box.top : box.bottom, box.left : box.right] = fill
    return changed


def _fill(mirror: Tensor, box: Box, mask: NDArray[np.bool_]) -> Tensor:
    """The largest window of the mirror image, repeated up to the box's size; the first of equals.

    From below and from the right the repetition begins at the box's top and left, from above and
    from the left it ends at its bottom and right.
    """
    windows = {side: _cut(side, box, mask) for side in ("below", "above", "right", "left")}
    side = max(windows, key=lambda name: windows[name].size)
    window, downwards = windows[side].box, side in ("below", "above")
    need = box.bottom - box.top if downwards else box.right - box.left
    first, last = window[:2] if downwards else window[2:]
    if first == last:
        return torch.zeros(3, box.bottom - box.top, box.right - box.left)
    offset = 0 if side in ("below", "right") else need
    source = first + (torch.arange(need) - offset) % (last - first)
    if downwards:
        return mirror[:, source, window.left : window.right]
    return mirror[:, window.top : window.bottom, source]


def _cut(side: str, box: Box, mask: NDArray[np.bool_]) -> _Window:
    """The window on one side; mask: of the mirror image.

    One that holds object pixels keeps, with c the clear lines between box and first object pixel:
    below: of its n rows the first n - c, or none if c = 0. Right: of its n columns the first n - c,
    with c counted in rows from the box's top. Above, left: all that follows the last column with an
    object pixel, counted from the box's left and cut off in rows (above), or counted from the
    window's left (left); the size that it competes with is what was cut off.
    """
    height, width = box.bottom - box.top, box.right - box.left
    rows, columns = mask.shape
    window = {
        "below": box._replace(top=box.bottom, bottom=min(box.bottom + height, rows)),
        "above": box._replace(top=max(box.top - height, 0), bottom=box.top),
        "right": box._replace(left=box.right, right=min(box.right + width, columns)),
        "left": box._replace(left=max(box.left - width, 0)),
    }[side]
    inside = mask[window.top : window.bottom, window.left : window.right]
    if not inside.any():
        return _Window(window, inside.size)
    downwards = side in ("below", "above")
    lines, length = inside.shape if downwards else inside.shape[::-1]
    if side in ("below", "right"):
        clear = int(inside.any(axis=1).argmax())
        kept = max(lines - clear, 0) if clear else 0
        end = {"bottom": window.top + kept} if downwards else {"right": window.left + kept}
        return _Window(window._replace(**end), kept * length)
    last = 1 + int(np.nonzero(inside)[1].max())
    gone = last if last < lines else 0
    start = {"top": window.top + gone} if downwards else {"left": window.left + gone}
    return _Window(window._replace(**start), gone * length)
