"""Every dataset that a sweep file can name has settings and a reader of its own."""

import pytest

from ray_selfloop.config import load
from ray_selfloop.config.datasets.known import KINDS, traits_of
from ray_selfloop.datasets.base import DatasetKind, kind_of


@pytest.mark.parametrize("name", KINDS)
def test_the_reader_that_the_settings_name_is_there(name: str) -> None:
    assert isinstance(kind_of(KINDS[name]()), DatasetKind)


@pytest.mark.parametrize("name", KINDS)
def test_its_traits_speak_of_fields_that_it_has(name: str) -> None:
    kind, traits = KINDS[name], traits_of(name)
    of = kind.model_fields.keys()
    assert traits.title
    assert {*traits.places, *traits.other, *traits.starts} <= of
    assert not {*traits.fewer} - of - {"limit_train", "limit_test"}  # of digits there are few


def test_of_an_unknown_dataset_nothing_but_its_name_is_known() -> None:
    assert (traits_of("mine").title, traits_of("mine").paper) == ("mine", "")


@pytest.mark.parametrize(
    ("words", "augmentation"),
    [
        ([], "frame_crop_flip"),
        (["evaluation.probe.augment=crop_flip"], "crop_flip"),
    ],
)
def test_the_probe_sees_pictures_as_the_classifiers_do_unless_it_is_told_otherwise(
    words: list[str], augmentation: str
) -> None:
    assert load.load("breeds", words)[0].probe.augment == augmentation
