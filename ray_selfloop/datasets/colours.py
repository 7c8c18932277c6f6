"""Colorized digits: gray scans in, ImageSets with a red, blue or green foreground out.

The colour is the subgroup. How colours are shared out is the dataset's initial bias; nothing here
knows of training.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_selfloop import seeding
from ray_selfloop.images.imageset import Ids, Images, ImageSet, Splits
from ray_selfloop.images.split import apportion, cut_rows

COLOURS = ("red", "blue", "green")
CHANNEL_OF_COLOUR = np.array([0, 2, 1])  # images are RGB: blue is channel 2
NONE_CLEAR = len(COLOURS)
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Colouring:
    """How colours are shared out.

    initialization: ``unbiased`` (equal shares), ``biased`` (``ratios`` in the same order in every
        class) or ``spurious`` (``ratios`` rotated by the class: the dominant colour tells the
        class).
    test_colours: ``crossed`` (every test image in every colour) or ``random`` (as in training).
    """

    initialization: str
    ratios: tuple[float, float, float]
    test_colours: str

    def shares(self, label: int) -> NDArray[np.float64]:
        """Share of each colour within class ``label``; sums to 1."""
        if self.initialization == "unbiased":
            return np.full(3, 1 / 3)
        if self.initialization == "spurious":
            return np.roll(np.asarray(self.ratios), label)
        return np.asarray(self.ratios)


def paint(gray: Images, colours: Ids) -> Images:
    """``(n, H, W)`` scans and a colour each -> ``(n, 3, H, W)``: ink in one channel, black else."""
    images = np.zeros((len(gray), 3, *gray.shape[1:]), np.uint8)
    images[np.arange(len(gray)), CHANNEL_OF_COLOUR[colours]] = gray
    return images


def read_colours(images: Images) -> Ids:
    """The colour of each image, read from its pixels: 0..2 as in COLOURS, 3 where none is clear.

    Clear means that one channel carries at least 60 % of the image's total intensity.
    """
    sums = images.astype(np.float64).sum(axis=(2, 3))[:, CHANNEL_OF_COLOUR]  # (n, 3)
    total = np.maximum(sums.sum(axis=1), 1.0)
    best = sums.argmax(axis=1)
    clear = sums.max(axis=1) / total >= 0.6
    return np.where(clear, best, NONE_CLEAR).astype(np.int64)


def _draw_colours(labels: Ids, colouring: Colouring, rng: np.random.Generator) -> Ids:
    """A colour per image; within each class the shares are exact up to rounding."""
    colours = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        counts = apportion(len(rows), colouring.shares(int(label)))
        colours[rows] = np.repeat(np.arange(3), counts)
    return colours


def _coloured(gray: Images, labels: Ids, units: Ids, colours: Ids) -> ImageSet:
    return ImageSet(paint(gray, colours), labels, colours, units, DIGIT_NAMES, COLOURS)


def colorize(
    train: tuple[Images, Ids],
    test: tuple[Images, Ids],
    colouring: Colouring,
    reserve: float,
    seed: int,
) -> Splits:
    """Paint the official train and test scans and cut the held-out tenth and the reserve.

    train, test: gray ``(n, H, W)`` and labels ``(n,)``. 10 % of train is held out; ``reserve``
    (0..1) of what remains is set apart. Cuts are stratified by class; colours are drawn within
    each part, so that every part has the shares of ``colouring``.
    """
    gray, labels = train
    original, held, apart = cut_rows(labels, reserve, seed, DIGIT_NAMES)

    def part(name: str, rows: Ids) -> ImageSet:
        colours = _draw_colours(labels[rows], colouring, seeding.rng(seed, "colours", name))
        return _coloured(gray[rows], labels[rows], rows, colours)

    return Splits(
        train=part("train", original),
        held_out=part("held_out", held),
        test=_test_part(*test, colouring, seed),
        reserve=part("reserve", apart),
    )


def _test_part(gray: Images, labels: Ids, colouring: Colouring, seed: int) -> ImageSet:
    units = np.arange(len(labels))
    if colouring.test_colours == "crossed":
        rows, colours = np.tile(units, 3), np.repeat(np.arange(3), len(units))
        return _coloured(gray[rows], labels[rows], rows, colours)
    colours = _draw_colours(labels, colouring, seeding.rng(seed, "colours", "test"))
    return _coloured(gray, labels, units, colours)
