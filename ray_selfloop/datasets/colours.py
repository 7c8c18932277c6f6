"""Colorized digits: gray scans in, ImageSets with a red, blue or green foreground out.

The colour is the subgroup. How colours are shared out is the dataset's initial bias; nothing here
knows of training.
"""

import numpy as np

from ray_selfloop import seeding
from ray_selfloop.config.datasets.coloured import ColorizedDigits
from ray_selfloop.images.imageset import Ids, Images, ImageSet, Splits
from ray_selfloop.images.split import apportion, cut_rows

COLOURS = ("red", "blue", "green")
CHANNEL_OF_COLOUR = np.array([0, 2, 1])  # images are RGB: blue is channel 2
NONE_CLEAR = len(COLOURS)
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


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


def _draw_colours(labels: Ids, settings: ColorizedDigits, rng: np.random.Generator) -> Ids:
    """A colour per image; within each class the shares are exact up to rounding."""
    colours = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        counts = apportion(len(rows), settings.shares(int(label)))
        colours[rows] = np.repeat(np.arange(3), counts)
    return colours


def _coloured(gray: Images, labels: Ids, units: Ids, colours: Ids) -> ImageSet:
    return ImageSet(paint(gray, colours), labels, colours, units, DIGIT_NAMES, COLOURS)


def colorize(
    train: tuple[Images, Ids], test: tuple[Images, Ids], settings: ColorizedDigits
) -> Splits:
    """Paint the official train and test scans and cut the held-out tenth and the reserve.

    train, test: gray ``(n, H, W)`` and labels ``(n,)``. 10 % of train is held out; the reserve is
    set apart of what remains. Cuts are stratified by class; colours are drawn within each part, so
    that every part has the shares of ``settings``. Test images in all colours, or as in training.
    """
    gray, labels = train
    original, held, apart = cut_rows(labels, settings.reserve, settings.seed, DIGIT_NAMES)

    def part(name: str, gray: Images, labels: Ids, rows: Ids) -> ImageSet:
        rng = seeding.rng(settings.seed, "colours", name)
        colours = _draw_colours(labels[rows], settings, rng)
        return _coloured(gray[rows], labels[rows], rows, colours)

    units = np.arange(len(test[1]))
    if settings.crossed:
        rows, colours = np.tile(units, 3), np.repeat(np.arange(3), len(units))
        tested = _coloured(test[0][rows], test[1][rows], rows, colours)
    else:
        tested = part("test", *test, units)
    return Splits(
        train=part("train", gray, labels, original),
        held_out=part("held_out", gray, labels, held),
        test=tested,
        reserve=part("reserve", gray, labels, apart),
    )
