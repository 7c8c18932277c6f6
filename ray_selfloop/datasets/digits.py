"""scikit-learn's bundled 8x8 digit scans: real data that needs no download."""

import functools
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ray_selfloop import seeding
from ray_selfloop.images.imageset import Ids, Images
from ray_selfloop.images.split import stratified_cut

TEST_SIZE = 360
SPLIT_SEED = 0  # one published split: 1,437 / 360, the same for every sweep


@functools.cache
def _rows() -> NDArray[np.float64]:
    """``(n, 65)``: 64 pixels 0..16 and the label, as scikit-learn's `load_digits` reads them.

    From its file: importing the library takes longer than all else that looking at a sweep does.
    """
    package = find_spec("sklearn")
    assert package is not None, "scikit-learn is a dependency"
    folder = Path(str(package.origin)).parent
    return np.loadtxt(folder / "datasets/data/digits.csv.gz", delimiter=",")


def scans() -> tuple[tuple[Images, Ids], tuple[Images, Ids]]:
    """``(train, test)``: gray ``(n, 8, 8)`` uint8 0..255 and labels 0..9; 1,437 and 360 images."""
    rows = _rows()
    gray = np.round(rows[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = rows[:, -1].astype(np.int64)
    train, test = stratified_cut(labels, TEST_SIZE, seeding.rng(SPLIT_SEED, "digits"))
    return (gray[train], labels[train]), (gray[test], labels[test])
