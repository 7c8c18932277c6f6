"""Sample grids: rows = generations, columns = classes (figures 10 to 12). Pixels only.

Small images are shown pixel by pixel. Photographs are shrunk by area and stored as JPEG, within a
number of bytes: a page holds a few hundred of them.
"""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ray_selfloop.report.view import Samples

Pixels = NDArray[np.uint8]

GRID_WIDTH = 900  # pixels that a row of cells may fill
WIDEST_CELL = 100
GAP = 2
LARGEST_PIXEL_ART = 48  # wider images than this are photographs
# How a row of photographs is made to fit its bytes, best first: samples of each class, pixels of
# one, JPEG quality.
STEPS = (
    (2, 112, 82),
    (2, 112, 72),
    (2, 96, 70),
    (2, 80, 65),
    (1, 96, 65),
    (1, 80, 55),
    (1, 64, 45),
)
MOST_BYTES = 1_400_000  # of all photographs of a page; base64 adds a third
MOST_BYTES_PER_ROW = 160_000
SHEET_QUALITY = 85
MOST_COLUMNS = 17  # classes side by side; with more, photographs go into bands one under another


def cell_width(classes: int) -> int:
    """Pixels that one cell may fill; no classes are known where the dataset has failed."""
    return min(WIDEST_CELL, GRID_WIDTH // max(classes, 1))


def cell(images: Pixels, width: int) -> Pixels:
    """``(k, C, h, w)`` -> ``(H, W, 3)``: a block of images, each pixel an exact square."""
    columns = math.isqrt(len(images))
    return _tiled(images, columns, max(1, (width + GAP) // columns // images.shape[-1]))


def _tiled(images: Pixels, columns: int, scale: int) -> Pixels:
    k, _, h, w = images.shape
    rows = -(-k // columns)
    size = (rows * (h * scale + GAP) - GAP, columns * (w * scale + GAP) - GAP)
    out = np.full((*size, 3), 255, np.uint8)
    for i, image in enumerate(images):
        rgb = np.broadcast_to(image, (3, h, w)).transpose(1, 2, 0)
        top, left = (i // columns) * (h * scale + GAP), (i % columns) * (w * scale + GAP)
        large = rgb.repeat(scale, axis=0).repeat(scale, axis=1)
        out[top : top + h * scale, left : left + w * scale] = large
    return out


def fitting(images: Pixels, width: int) -> Pixels:
    """``(k, C, h, w)`` -> all where they fit into ``width``, else fewer, else one, shrunk."""
    k, _, _, w = images.shape
    if w > width:
        return np.stack([_shrunk(images[0], width)])
    columns = (width + GAP) // (w + GAP)
    return images if columns >= math.isqrt(k) else images[: columns**2]


def _shrunk(image: Pixels, width: int) -> Pixels:
    rgb = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
    high = max(1, round(image.shape[1] * width / image.shape[2]))
    small = Image.fromarray(np.ascontiguousarray(rgb)).resize((width, high), Image.Resampling.BOX)
    return np.asarray(small).transpose(2, 0, 1)


def row_png(samples: Samples, width: int) -> bytes:
    """One row of the grid, a cell of about ``width`` pixels for each class, as PNG."""
    return _encode(_row([cell(fitting(one, width), width) for one in samples.images], 2 * GAP))


def _row(cells: Sequence[Pixels], aside: int) -> Image.Image:
    """Side by side, with so many white pixels at both sides of each."""
    gap = np.full((cells[0].shape[0], aside, 3), 255, np.uint8)
    parts = [part for c in cells for part in (gap, c, gap)]
    return Image.fromarray(np.concatenate(parts, axis=1))


def photographs(samples: Samples) -> bool:
    """Whether the images are too large to be shown pixel by pixel."""
    return samples.images.shape[-1] > LARGEST_PIXEL_ART


def bands(classes: int) -> list[slice]:
    """The classes of each band of a grid of photographs, all bands about equally wide."""
    count = max(1, -(-classes // MOST_COLUMNS))
    width = max(1, -(-classes // count))
    return [slice(first, min(first + width, classes)) for first in range(0, classes, width)]


def bytes_per_row(rows: int) -> int:
    """What one of a page's ``rows`` of photographs may take, all its bands together."""
    return min(MOST_BYTES_PER_ROW, MOST_BYTES // max(rows, 1))


def rows_jpeg(rows: Sequence[Samples], band: slice, most: int) -> list[bytes]:
    """The rows of a band as JPEG, of at most ``most`` bytes together.

    All rows are made alike, by the first of `STEPS` that fits; by the last if none does. Under each
    class stand its samples, one above another.
    """
    for k, width, quality in STEPS:
        pictures = [_row_of_photographs(row.images[band, :k], width) for row in rows]
        encoded = [_encode(picture, quality) for picture in pictures]
        if sum(map(len, encoded)) <= most:
            break
    return encoded


def _row_of_photographs(images: Pixels, width: int) -> Image.Image:
    """``(classes, k, C, h, w)`` as one picture, white between."""
    if images.shape[-1] > width:
        images = np.stack([[_shrunk(image, width) for image in of_class] for of_class in images])
    return _row([_tiled(of_class, columns=1, scale=1) for of_class in images], GAP)


def sheet(samples: Sequence[Samples], class_names: Sequence[str]) -> bytes:
    """The whole grid of one chain, labelled: as JPEG where it holds photographs, else as PNG."""
    quality = SHEET_QUALITY if any(map(photographs, samples)) else None
    return _encode(_sheet(samples, class_names), quality)


def _sheet(samples: Sequence[Samples], class_names: Sequence[str]) -> Image.Image:
    rows = [
        [cell(fitting(of_class, WIDEST_CELL), WIDEST_CELL) for of_class in row.images]
        for row in samples
    ]
    high, wide = rows[0][0].shape[:2]
    margin, head, gap = 110, 24, 8
    size = (margin + len(class_names) * (wide + gap), head + len(rows) * (high + gap))
    drawn = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(13)
    for column, name in enumerate(class_names):
        left = margin + column * (wide + gap)
        draw.text((left, 4), _fitted(name, font, wide), "black", font)
        for row, cells in enumerate(rows):
            drawn.paste(Image.fromarray(cells[column]), (left, head + row * (high + gap)))
    for row, of_generation in enumerate(samples):
        place = (4, head + row * (high + gap) + high // 2 - 8)
        draw.text(place, label(of_generation.generation), "black", font)
    return drawn


def _fitted(text: str, font: Any, width: float) -> str:
    """``text``, cut where it would run into the next column."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def label(generation: int) -> str:
    return f"generation {generation}" if generation else "real images"


def _encode(image: Image.Image, quality: int | None = None) -> bytes:
    """As PNG, or with a quality as JPEG."""
    out = io.BytesIO()
    if quality is None:
        image.save(out, format="PNG", optimize=True)
    else:
        image.save(out, format="JPEG", quality=quality, optimize=True)
    return out.getvalue()
