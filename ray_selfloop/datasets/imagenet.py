"""ImageNet's own layout: ``<root>/{train,val}/<wnid>/<name>.JPEG``, val sorted too.

Decides what is said where something of it is missing. Knows no class: which wnids are used and what
they mean is told to it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ray_selfloop.datasets.pictures import Found, files
from ray_selfloop.errors import DataError

FETCH = (
    "Get it: register at https://image-net.org, then `kaggle competitions download -c "
    "imagenet-object-localization-challenge`, unzip, and set dataset.root to its "
    "ILSVRC/Data/CLS-LOC"
)
SORT = (
    "Sort it: `cd {folder} && wget -qO- https://raw.githubusercontent.com/soumith/"
    "imagenetloader.torch/master/valprep.sh | bash`"
)


def pictures_of(root: Path, split: str, wnid: str) -> list[str]:
    """``<wnid>/<name>`` of the pictures in ``<root>/<split>/<wnid>``, at least one.

    Raises DataError that names the first thing missing and how to get it.
    """
    folder = root / split / wnid
    for path in (root, root / split):
        if not path.is_dir():
            raise DataError(f"ImageNet is not complete: {path} is missing. {FETCH}.")
    if not folder.is_dir():
        if files(root / split, root):
            sort = SORT.format(folder=root / split)
            raise DataError(
                f"ImageNet: {folder} is missing: {root / split} holds its pictures side by side, "
                f"not in one folder per class. {sort}."
            )
        raise DataError(f"ImageNet is not complete: {folder} is missing. {FETCH}.")
    found = files(folder, root)
    if not found:
        raise DataError(f"ImageNet is not complete: {folder} holds no picture. {FETCH}.")
    return [f"{wnid}/{name}" for name in found]


def found_in(root: Path, split: str, listed: Sequence[Sequence[str]]) -> Found:
    """One split from its cells, each with the names (``<wnid>/<name>``) in it."""
    names = [f"{split}/{name}" for cell in listed for name in cell]
    cells = np.repeat(np.arange(len(listed)), [len(cell) for cell in listed])
    return Found(root, names, cells.astype(np.int64))
