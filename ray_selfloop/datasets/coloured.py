"""Digit scans in colours: scikit-learn's bundled ones, or MNIST's.

Decides which scans are used; how they are coloured stands in `colours`.
"""

import hashlib

import numpy as np

from ray_selfloop import seeding
from ray_selfloop.config.datasets.coloured import ColorizedDigits, ColorizedMnist
from ray_selfloop.datasets import colours, digits, mnist
from ray_selfloop.datasets.base import DatasetKind, Prepared, common
from ray_selfloop.datasets.contents import Contents
from ray_selfloop.graph import digest
from ray_selfloop.images.imageset import Ids, Images
from ray_selfloop.images.split import cut_rows, stratified_cut

Part = tuple[Images, Ids]


def source(settings: ColorizedDigits, contents: Contents) -> str:
    """Digest of all scans and labels, used or not."""
    if isinstance(settings, ColorizedMnist) and settings.download:
        mnist.download(settings.root)
    parts = mnist.scans(settings.root) if isinstance(settings, ColorizedMnist) else digits.scans()
    arrays = [np.ascontiguousarray(array) for part in parts for array in part]
    return digest([hashlib.sha256(array.data).hexdigest() for array in arrays])


def original_and_reserve(settings: ColorizedDigits, contents: Contents) -> tuple[Ids, Ids]:
    (_, labels), _ = _scans(settings)
    names = colours.DIGIT_NAMES
    original, _, apart = cut_rows(labels, settings.reserve, settings.seed, names)
    return labels[original], labels[apart]


def prepare(settings: ColorizedDigits, contents: Contents) -> Prepared:
    splits, facts = colours.colorize(*_scans(settings), settings), common(settings)
    if isinstance(settings, ColorizedMnist):
        facts["official"] = source(settings, contents) == mnist.OFFICIAL
    return Prepared(splits, facts)


def _scans(settings: ColorizedDigits) -> tuple[Part, Part]:
    if not isinstance(settings, ColorizedMnist):
        return digits.scans()
    train, test = mnist.scans(settings.root)
    seed = settings.seed
    return (
        _limited(train, settings.limit_train, seeding.rng(seed, "limit", "train")),
        _limited(test, settings.limit_test, seeding.rng(seed, "limit", "test")),
    )


def _limited(part: Part, size: int | None, rng: np.random.Generator) -> Part:
    images, labels = part
    if size is None or size >= len(labels):
        return part
    _, rows = stratified_cut(labels, size, rng)
    return images[rows], labels[rows]


KIND = DatasetKind(source, original_and_reserve, prepare)
