"""Which settings of a sweep are compared across their values, and with what."""

import pytest

from ray_selfloop.config import load
from ray_selfloop.stages.axes import Axis, settings


def axes(*words: str) -> list[Axis]:
    found = settings(*load.load(words[0], words[1:]))
    return list(found.axes) if found else []


@pytest.mark.parametrize("sweep", ["cifar20_100_small", "regimes_small", "hard_imagenet"])
def test_the_arm_alone_is_no_axis(sweep: str) -> None:
    assert axes(sweep) == []


def test_an_axis_is_compared_in_every_setting_of_the_others_each_arm_in_its_place() -> None:
    found = axes(
        "quickstart", "axes={dataset.initialization: [unbiased, biased], filter.drop: [0, 0.3], "
        "loop.arm: [treatment, no_synthetic]}",
    )  # fmt: skip
    assert [(axis.name, axis.setting) for axis in found] == [
        ("dataset.initialization", "drop=0.0"), ("dataset.initialization", "drop=0.3"),
        ("filter.drop", "initialization=unbiased"), ("filter.drop", "initialization=biased"),
    ]  # fmt: skip
    assert [point.told for point in found[3].points] == ["0.0", "0.3"]
    first = found[3].points[0]
    assert first.treatment == "initialization=biased,drop=0.0,arm=treatment"
    assert first.control == "initialization=biased,drop=0.0,arm=no_synthetic"


def test_an_axis_that_sets_several_keys_is_one_and_tells_them_all() -> None:
    (design,) = axes("dynamics_small")
    assert design.name == "design"
    told = [point.told for point in design.points]
    assert told[0] == "budget=0.25,tilt=0.0"
    assert len(set(told)) == len(told) == 4


def test_what_a_value_leaves_as_it_is_is_told_too() -> None:
    """And arms among the values are no value: the regimes alone are compared."""
    (regimes,) = axes("regimes")
    assert [point.told.partition(",")[0] for point in regimes.points] == [
        f"regime={one}" for one in ("stack", "replace", "accumulate", "accumulate_subsample")
    ]
    assert all(point.control for point in regimes.points)


def test_a_value_without_a_treatment_is_not_compared() -> None:
    found = axes("quickstart", "axes={filter.drop: [0, 0.3], loop.arm: [no_synthetic]}")
    assert found == []
