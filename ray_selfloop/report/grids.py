"""Sample grids: rows = generations, columns = classes (figures 10 to 12). Pixels only."""

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


def cell_width(classes: int) -> int:
    """Pixels that one cell may fill; no classes are known where the dataset has failed."""
    return min(WIDEST_CELL, GRID_WIDTH // max(classes, 1))


def cell(images: Pixels, width: int) -> Pixels:
    """``(k, C, h, w)`` -> ``(H, W, 3)``: a block of images, each pixel an exact square."""
    k, _, h, w = images.shape
    columns = math.isqrt(k)
    scale = max(1, (width + GAP) // columns // w)
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
    cells = [cell(fitting(of_class, width), width) for of_class in samples.images]
    gap = np.full((cells[0].shape[0], 2 * GAP, 3), 255, np.uint8)
    parts = [part for c in cells for part in (gap, c, gap)]
    return _encode(Image.fromarray(np.concatenate(parts, axis=1)))


def sheet_png(samples: Sequence[Samples], class_names: Sequence[str]) -> bytes:
    """The whole grid of one chain as one labelled PNG."""
    rows = [
        [cell(fitting(of_class, WIDEST_CELL), WIDEST_CELL) for of_class in row.images]
        for row in samples
    ]
    high, wide = rows[0][0].shape[:2]
    margin, head, gap = 110, 24, 8
    size = (margin + len(class_names) * (wide + gap), head + len(rows) * (high + gap))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, name in enumerate(class_names):
        left = margin + column * (wide + gap)
        draw.text((left, 4), _fitted(name, font, wide), "black", font)
        for row, cells in enumerate(rows):
            sheet.paste(Image.fromarray(cells[column]), (left, head + row * (high + gap)))
    for row, of_generation in enumerate(samples):
        place = (4, head + row * (high + gap) + high // 2 - 8)
        draw.text(place, label(of_generation.generation), "black", font)
    return _encode(sheet)


def _fitted(text: str, font: Any, width: float) -> str:
    """``text``, cut where it would run into the next column."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def label(generation: int) -> str:
    """The name of a grid's row."""
    return f"generation {generation}" if generation else "real images"


def _encode(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return out.getvalue()
