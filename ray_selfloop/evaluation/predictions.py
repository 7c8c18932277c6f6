"""What evaluation is given: the test set's structure and the stored predictions of each trial.

Knows nothing of images, networks or files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

KINDS = ("object_gray", "box_gray", "box_neighbour")
"""The ablations of sec. 4.4: what becomes of the object in a test picture."""
NOISES = ("noise_foreground", "noise_background")
"""Where noise is added for relative foreground sensitivity: on the object, and beside it."""


@dataclass(frozen=True)
class TestSet:
    """The test images as evaluation sees them; ``n`` rows, C classes, G subgroups.

    labels: int64 ``(n,)``, 0..C-1.
    subgroups: int64 ``(n,)``, 0..G-1; ignored where ``subgroup_names`` is empty.
    units: int64 ``(n,)``, the resampling unit of each row: the original image that it shows.
    train_shares: float ``(C, G)``, subgroup shares (or counts) within each class of D0; rows are
        normalised here.
    pooled: True where subgroup i means the same and has the same training share in every class
        (colours that are not rotated): then the pooled reading applies, else the per-class one.
    crossed: True where every unit is shown once in every subgroup (a digit in all colours).
    alike: True where subgroup i means the same in every class, whatever its share there.
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name

    labels: Ids
    subgroups: Ids
    units: Ids
    class_names: tuple[str, ...]
    subgroup_names: tuple[str, ...]
    train_shares: Floats
    pooled: bool
    crossed: bool
    alike: bool = False

    def __post_init__(self) -> None:
        n, shape = len(self.labels), (self.classes, self.groups)
        assert len(self.subgroups) == len(self.units) == n
        assert set(np.unique(self.labels)) <= set(range(self.classes))
        if self.groups:
            shares = np.asarray(self.train_shares, np.float64)
            assert shares.shape == shape, (shares.shape, shape)
            object.__setattr__(self, "train_shares", shares / shares.sum(axis=1, keepdims=True))
            assert set(np.unique(self.subgroups)) <= set(range(self.groups))
        rows_per_unit = self.groups if self.crossed else 1
        assert (np.unique(self.units, return_counts=True)[1] == rows_per_unit).all()

    @property
    def classes(self) -> int:
        """C, the number of classes."""
        return len(self.class_names)

    @property
    def groups(self) -> int:
        """G, the number of subgroups; 0 for a dataset without any."""
        return len(self.subgroup_names)


@dataclass(frozen=True)
class Outcome:
    """The stored result of one trial on the test set.

    predictions: int ``(n,)``, predicted class of each test row, in the test set's order.
    collapsed: the classifier is no better than chance; it never enters a mean.
    ablated: kind (of `KINDS` and `NOISES`) -> int ``(n,)``, predicted class of each test row under
        that ablation, -1 where it is not defined; empty for test images without masks.
    """

    loop_seed: int
    generation: int
    classifier: str
    seed: int
    predictions: NDArray[np.integer]
    collapsed: bool = False
    ablated: Mapping[str, NDArray[np.integer]] = field(default_factory=dict)


def right(outcomes: Sequence[Outcome], test: TestSet) -> NDArray[np.bool_]:
    """Which test rows each trial classifies correctly, ``(T, n)``."""
    return np.stack([np.asarray(o.predictions) == test.labels for o in outcomes])


def confusions(outcomes: Sequence[Outcome], test: TestSet) -> Floats:
    """Test rows of each class and subgroup by predicted class, ``(T, C, G, C)``; G of 1 or more."""
    classes, groups = test.classes, test.groups
    cells = (test.labels * groups + test.subgroups) * classes
    size = classes * groups * classes
    found = [np.bincount(cells + o.predictions, minlength=size) for o in outcomes]
    return np.stack(found).reshape(-1, classes, groups, classes).astype(np.float64)


def without_subgroups(test: TestSet) -> TestSet:
    """A dataset without subgroups, as one with a single nameless one."""
    zeros, ones = np.zeros(len(test.labels), np.int64), np.ones((test.classes, 1))
    return replace(test, subgroups=zeros, subgroup_names=("",), train_shares=ones, crossed=False)
