"""Settings of the evaluation that contradict each other are refused."""

import pytest
from pydantic import ValidationError

from ray_selfloop.config.evaluation import PIXEL_FEATURES, Evaluation
from ray_selfloop.images.features import OF_PIXELS


@pytest.mark.parametrize("fewer", ["samples", "reference"])
def test_neighbours_must_be_fewer_than_the_images(fewer):
    with pytest.raises(ValidationError, match=rf"must be smaller than {fewer} \(20\)") as caught:
        Evaluation(**{fewer: 20, "neighbours": 20})
    (fault,) = caught.value.errors()
    assert fault["loc"] == ("neighbours",)
    assert Evaluation(**{fewer: 20, "neighbours": 19}).neighbours == 19


def test_the_accuracy_score_is_a_quality_only_where_it_is_measured():
    chosen = {"dynamics": {"quality": "cas"}}
    with pytest.raises(ValidationError, match="not measured while evaluation"):
        Evaluation(**chosen)
    assert Evaluation(cas_epochs=1, **chosen).dynamics.quality == "cas"


def test_the_features_of_pixels_that_settings_allow_are_those_that_exist():
    assert set(PIXEL_FEATURES) == set(OF_PIXELS)
