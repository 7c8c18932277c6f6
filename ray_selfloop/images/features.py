"""Named features that need no network. Features of classifiers are computed where classifiers are.

A name fixes the numbers: whoever reads `frechet_distance/pixels8` or `energy_distance/pixels8`
knows what was compared.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SIDE = 8


def _area_weights(size: int, cells: int) -> Floats:
    """``(cells, size)``: share of each pixel in each of equal intervals; rows sum to 1."""
    edges = np.linspace(0.0, size, cells + 1)
    pixel = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.maximum(overlap, 0.0) * (cells / size)


def pixels8(images: NDArray[np.uint8]) -> Floats:
    """Images averaged to 8 x 8 by area: ``(n, C, H, W)`` 0..255 -> ``(n, C * 64)``, 0..1.

    Sees colour and coarse shape; at 8 x 8 it is the image itself.
    """
    n, _, height, width = images.shape
    rows, columns = _area_weights(height, SIDE), _area_weights(width, SIDE)
    small = rows @ (images.astype(np.float64) / 255.0) @ columns.T
    return small.reshape(n, -1)


def gray8(images: NDArray[np.uint8]) -> Floats:
    """``pixels8`` averaged over the channels: ``(n, C, H, W)`` 0..255 -> ``(n, 64)``, 0..1.

    Sees coarse shape and is blind to which channel carries the ink, so that a quality taken from it
    does not move with the colours that generated images have.
    """
    n, channels = images.shape[:2]
    return np.asarray(pixels8(images).reshape(n, channels, -1).mean(axis=1))


OF_PIXELS: Mapping[str, Callable[[NDArray[np.uint8]], Floats]] = {
    "pixels8": pixels8,
    "gray8": gray8,
}
