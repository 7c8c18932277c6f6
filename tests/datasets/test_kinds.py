"""Every dataset that a sweep file can name has settings and a reader of its own."""

from typing import get_args

import pytest

from ray_selfloop.config.dataset import Dataset
from ray_selfloop.datasets.base import DatasetKind, kind_of

SETTINGS = get_args(get_args(Dataset)[0])


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.__name__)
def test_the_reader_that_the_settings_name_is_there(settings) -> None:
    assert isinstance(kind_of(settings()), DatasetKind)
