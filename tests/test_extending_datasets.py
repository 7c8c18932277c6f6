"""The example of docs/extending.md for a dataset, run as it stands: its settings and its reader."""

import sys
from types import ModuleType

import numpy as np
import pytest
from pydantic import ValidationError

from ray_selfloop import told
from ray_selfloop.claims import power
from ray_selfloop.datasets.base import kind_of
from ray_selfloop.datasets.contents import Contents

SETTINGS = '''
"""config/datasets/stripes.py: striped squares, upright or lying, red or green."""

from typing import ClassVar, Literal

from pydantic import Field

from ray_selfloop.config.datasets.base import DatasetSettings, Reserve, Traits


class Stripes(DatasetSettings):
    """Drawn squares of 8 x 8: how the stripes run is the class, their colour the subgroup."""

    traits: ClassVar[Traits] = Traits(
        title="Stripes",
        reader="ray_selfloop.datasets.stripes:KIND",
        subgroups="probe",
        fewer={"count": lambda d: f"{d.count} images"},
    )
    name: Literal["stripes"] = "stripes"
    count: int = Field(default=400, ge=80, description="Images of each class and colour together.")
    reserve: Reserve = 0.0
    seed: int = Field(default=0, ge=0, description="Of the cuts and the noise.")
    groups: ClassVar[int] = 2
'''
READER = '''
"""datasets/stripes.py: what draws them, and how they are cut."""

import numpy as np

from ray_selfloop import seeding
from ray_selfloop.config.datasets.stripes import Stripes
from ray_selfloop.datasets.base import DatasetKind, Prepared, common
from ray_selfloop.datasets.contents import Contents
from ray_selfloop.graph import digest
from ray_selfloop.images.imageset import Ids, ImageSet, Splits
from ray_selfloop.images.split import cut_rows

CLASSES, COLOURS = ("upright", "lying"), ("red", "green")


def drawn(settings: Stripes, part: str) -> ImageSet:
    rows = np.arange(settings.count)
    labels, colours = rows % 2, rows // 2 % 2
    images = seeding.rng(settings.seed, part).integers(0, 60, (len(rows), 3, 8, 8), np.uint8)
    for row, label, colour in zip(rows, labels, colours, strict=True):
        stripes = images[row, colour].T if label else images[row, colour]
        stripes[:, ::2] += 180
    return ImageSet(images, labels, colours, rows, CLASSES, COLOURS)


def source(settings: Stripes, contents: Contents) -> str:
    return digest("stripes 1")  # of files: of what is in them


def cut(settings: Stripes) -> tuple[Ids, Ids, Ids]:
    strata = np.arange(settings.count) % 4  # class and colour
    names = [f"{label} {colour}" for colour in COLOURS for label in CLASSES]
    return cut_rows(strata, settings.reserve, settings.seed, names)


def original_and_reserve(settings: Stripes, contents: Contents) -> tuple[Ids, Ids]:
    original, _, reserve = cut(settings)
    return original % 2, reserve % 2


def prepare(settings: Stripes, contents: Contents) -> Prepared:
    train = drawn(settings, "train")
    original, held_out, reserve = (train.take(rows) for rows in cut(settings))
    splits = Splits(original, held_out, drawn(settings, "test"), reserve)
    return Prepared(splits, common(settings))


KIND = DatasetKind(source, original_and_reserve, prepare)
'''


@pytest.fixture
def stripes(monkeypatch: pytest.MonkeyPatch) -> type:
    """The settings, with both files where a person would put them."""
    for room, text in (("config.datasets", SETTINGS), ("datasets", READER)):
        module = ModuleType(f"ray_selfloop.{room}.stripes")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(f"ray_selfloop.{room}.stripes", module, raising=False)
        exec(text, module.__dict__)
    found: type = sys.modules["ray_selfloop.config.datasets.stripes"].Stripes
    return found


def test_a_dataset_is_its_settings_and_its_reader(stripes: type) -> None:
    settings = stripes(count=80, reserve=0.5)
    kind = kind_of(settings)
    prepared = kind.prepare(settings, Contents())
    train, test = prepared.splits.train, prepared.splits.test
    assert [len(p) for p in (train, prepared.splits.held_out, prepared.splits.reserve)] == [
        36, 8, 36,
    ]  # fmt: skip
    assert np.bincount(test.labels * 2 + test.subgroups).tolist() == [20] * 4
    by_colour = [test.images[test.subgroups == g].mean(axis=(0, 2, 3)) for g in (0, 1)]
    assert [int(np.argmax(channels)) for channels in by_colour] == [0, 1]
    labels, reserve = kind.original_and_reserve(settings, Contents())
    assert np.array_equal(labels, train.labels)
    assert np.array_equal(reserve, prepared.splits.reserve.labels)
    assert prepared.facts == {"pooled": False, "crossed": False, "subgroups_from": "probe"}


def test_what_others_ask_of_it_stands_in_its_traits(stripes: type) -> None:
    settings = stripes(count=80)
    assert told.title(settings) == "stripes, 80 images"
    assert not told.of_the_paper(settings)
    assert power.known_size(settings) is None
    with pytest.raises(ValidationError):
        stripes(count=8)
