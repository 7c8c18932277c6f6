"""scikit-learn's bundled 8x8 digit scans: real data that needs no download."""

import functools

import numpy as np
from sklearn.datasets import load_digits

from ray_selfloop import seeding
from ray_selfloop.images.imageset import Ids, Images
from ray_selfloop.images.split import stratified_cut

TEST_SIZE = 360
SPLIT_SEED = 0  # one published split: 1,437 / 360, the same for every sweep


_bunch = functools.cache(load_digits)  # read once for all scenarios, and never written to


def scans() -> tuple[tuple[Images, Ids], tuple[Images, Ids]]:
    """``(train, test)``: gray ``(n, 8, 8)`` uint8 0..255 and labels 0..9; 1,437 and 360 images."""
    bunch = _bunch()
    gray = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    train, test = stratified_cut(labels, TEST_SIZE, seeding.rng(SPLIT_SEED, "digits"))
    return (gray[train], labels[train]), (gray[test], labels[test])
