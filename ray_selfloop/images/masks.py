"""Masks of objects: pictures beside pictures, encoded as those are.

Decides what of a mask is object. Knows nothing of datasets.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ray_selfloop.images.pictures import View, opened, rgb


def mask(encoded: bytes, view: View, reference: bool, name: str) -> NDArray[np.bool_]:
    """Where the object is, ``(side, side)``, seen as the picture is in the same view.

    A pixel is object where anything of the object falls into it: the mask is resized as the picture
    is (bilinear), and what is then above zero is object, as in the reference code. That code takes
    compression noise for object too (``reference``: pixel for pixel as it does). Here the mask is
    made binary before it is resized: in a PNG what is not zero (black), in a JPEG or WebP what has
    at least half of its largest value. So both agree on a gray or RGB mask of 0 and 255 without
    loss, and a faint one of 0 and 1 stays whole. Transparency is never object. Raises DataError
    where ``name`` is no readable picture.
    """
    picture = opened(encoded, name)
    shown = picture if reference else _binary(picture)
    return _largest(view(shown)) > 0


def _binary(picture: Image.Image) -> Image.Image:
    """0 where there is no object, else 255."""
    colours = rgb(picture) if picture.mode in ("P", "CMYK") else picture
    values = _largest(colours)
    least = 1 if picture.format == "PNG" else max(1, values.max() / 2)
    return Image.fromarray((values >= least).astype(np.uint8) * 255)


def _largest(picture: Image.Image) -> NDArray[Any]:
    """The largest value of a pixel's channels, ``(H, W)``, but for its transparency."""
    values = np.asarray(picture).reshape(picture.height, picture.width, -1)
    own = [i for i, band in enumerate(picture.getbands()) if band != "A"]
    largest: NDArray[Any] = values[..., own].max(axis=-1)
    return largest
