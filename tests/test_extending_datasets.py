"""The example of docs/extending.md for a dataset, run as it stands: its settings and its reader."""

import sys
from types import ModuleType

import numpy as np
import pytest
from extending_page import example
from pydantic import ValidationError

from ray_selfloop import told
from ray_selfloop.claims import power
from ray_selfloop.datasets.base import kind_of
from ray_selfloop.datasets.contents import Contents


@pytest.fixture
def stripes(monkeypatch: pytest.MonkeyPatch) -> type:
    """The settings, with both files where a person would put them."""
    for room, name in (("config.datasets", "settings"), ("datasets", "reader")):
        module = ModuleType(f"ray_selfloop.{room}.stripes")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(f"ray_selfloop.{room}.stripes", module, raising=False)
        exec(example(f"dataset.{name}"), module.__dict__)
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
