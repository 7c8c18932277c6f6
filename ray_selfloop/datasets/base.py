"""What every kind of dataset offers the dataset stage, and where the one of some settings is found.

Knows no dataset: the settings of each name its own object, which is loaded when it is asked for.
"""

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ray_selfloop.config.datasets.base import DatasetSettings
from ray_selfloop.datasets.contents import Contents
from ray_selfloop.images.imageset import Ids, Splits


class Prepared(NamedTuple):
    """A dataset cut, and what its record says besides names and sizes.

    facts: must hold those of `common`: ``pooled`` (subgroup i means the same and has the same
    training share in every class), ``crossed`` (every test image is shown in every subgroup) and
    ``subgroups_from`` (``pixels`` or ``probe``: how the subgroup of a generated image is read;
    ``none``: there are no subgroups). Of pictures also ``pictures`` (their view), ``masks``
    (whether each test picture has one) and ``left_out`` (the damaged files that are not among
    them); of MNIST ``official`` (whether its values are the published ones). test_masks: those
    masks, encoded; empty where there are none.
    """

    splits: Splits
    facts: Mapping[str, Any]
    test_masks: Sequence[bytes] = ()


class DatasetKind(NamedTuple):
    """One kind of dataset; its file ends with the one of its own, called `KIND`.

    source: digest of the original files' content. original_and_reserve: labels of D0 and of the
    reserve. prepare: the dataset itself. All raise DataError where the files are not there.
    Pictures are known by looks at their files, others are read each time.
    """

    source: Callable[[Any, Contents], str]
    original_and_reserve: Callable[[Any, Contents], tuple[Ids, Ids]]
    prepare: Callable[[Any, Contents], Prepared]


def common(settings: DatasetSettings) -> dict[str, Any]:
    """The facts that every record must hold, from the settings."""
    return {
        "pooled": settings.pooled,
        "crossed": settings.crossed,
        "subgroups_from": settings.subgroups_from,
    }


def kind_of(settings: DatasetSettings) -> DatasetKind:
    found: DatasetKind = pkgutil.resolve_name(settings.traits.reader)
    return found
