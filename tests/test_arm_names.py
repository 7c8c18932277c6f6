"""An arm is named by its string in the file that defines it, and nowhere else in the package."""

from typing import get_args

from test_metric_names import FILES, strings

from ray_selfloop.config.arms import ARMS, ArmName
from ray_selfloop.config.generators.control import DuplicateReal, HeldOutReal

HOME = "config/arms.py"
OF_GENERATORS = {DuplicateReal().name, HeldOutReal().name}  # that bear their arms' names


def test_no_other_file_names_an_arm_by_its_string() -> None:
    """What is named is imported from the file that defines it."""
    others = [file for file in FILES if file != HOME]
    named = {file: ({*strings(file)} & {*ARMS}) - OF_GENERATORS for file in others}
    assert {file: found for file, found in named.items() if found} == {}
    assert {*ARMS} <= {*strings(HOME)}


def test_the_names_that_the_settings_take_are_those_of_the_arms() -> None:
    assert sorted(get_args(ArmName)) == sorted(ARMS)
    assert all(name == arm.name for name, arm in ARMS.items())
