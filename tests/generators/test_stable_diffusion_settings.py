"""What the settings of Stable Diffusion refuse, and how many pictures are drawn at once."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from ray_selfloop.config.generators.diffusion import StableDiffusion
from ray_selfloop.config.generators.known import Generator


def test_the_name_selects_it() -> None:
    chosen: Any = TypeAdapter(Generator).validate_python({"name": "stable_diffusion", "rank": 8})
    assert isinstance(chosen, StableDiffusion)
    assert chosen.scale == 1.0
    assert StableDiffusion(rank=8, alpha=4.0).scale == 0.5


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"prompt": "a photo"}, r"prompt 'a photo' must hold \{\} exactly once"),
        ({"prompt": "{} or {}"}, r"must hold \{\} exactly once, no other brace"),
        ({"prompt": "a {name} {}"}, r"must hold \{\} exactly once, no other brace"),
        (
            {"batch_size": 6, "accumulation": 2, "workers": 2},
            "batch_size 6 is not a multiple of accumulation x workers = 2 x 2",
        ),
        ({"most_at_once": 12}, "most_at_once 12 is not a power of two"),
        ({"resolution": 500}, "multiple of 8"),
        ({"guidance": 0.5}, "greater than or equal to 1"),
        ({"precision": "half"}, "'float32', 'bfloat16' or 'float16'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected) as failure:
        StableDiffusion(**changes)
    assert failure.value.error_count() == 1
    assert "\n" not in failure.value.errors()[0]["msg"]


def test_a_list_of_the_fixed_targets_is_taken() -> None:
    targets = list(StableDiffusion().targets)
    assert StableDiffusion.model_validate({"targets": targets}) == StableDiffusion()


def test_pictures_at_once_are_a_power_of_two_that_grows_with_memory() -> None:
    sizes = [
        StableDiffusion(sample_memory=memory, most_at_once=64).sample_batch
        for memory in (1, 6, 8, 12, 24, 48, 1_000)
    ]
    assert sizes == [1, 2, 4, 16, 32, 64, 64]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 16),
        ({"precision": "float16"}, 32),
        ({"precision": "float16", "sample_memory": 6.0}, 8),
        ({"resolution": 768}, 4),
        ({"most_at_once": 2}, 2),
    ],
)
def test_pictures_at_once_by_precision_and_resolution(
    changes: dict[str, Any], expected: int
) -> None:
    assert StableDiffusion(**changes).sample_batch == expected
