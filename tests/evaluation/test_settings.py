"""Settings of the evaluation that contradict each other are refused."""

import pytest
from pydantic import ValidationError

from ray_selfloop.config.evaluation import Evaluation


@pytest.mark.parametrize("fewer", ["samples", "reference"])
def test_neighbours_must_be_fewer_than_the_images(fewer):
    with pytest.raises(ValidationError, match=rf"must be smaller than {fewer} \(20\)") as caught:
        Evaluation(**{fewer: 20, "neighbours": 20})
    (fault,) = caught.value.errors()
    assert fault["loc"] == ("neighbours",)
    assert Evaluation(**{fewer: 20, "neighbours": 19}).neighbours == 19
