"""The arm that a scenario runs, and the settings that it runs with.

What an arm is stands in `config.arms`; what its facts do to the loop, in `loop`. Knows nothing of
stages.
"""

from collections.abc import Mapping
from typing import Any

from ray_selfloop.config.arms import ARMS, AXIS, Arm
from ray_selfloop.config.base import Settings
from ray_selfloop.config.sweep import Scenario, Sweep, scenario_name


def of(sweep: Sweep) -> Arm:
    return ARMS[sweep.loop.arm]


def generates(sweep: Sweep) -> bool:
    """Whether the arm has a queue at all."""
    return of(sweep).generates


def adapted(sweep: Sweep) -> Sweep:
    sets = of(sweep).sets
    return sweep.model_copy(
        update={name: _set(getattr(sweep, name), value) for name, value in sets.items()}
    )


def _set(before: Settings, to: Settings | Mapping[str, Any]) -> Settings:
    """A group of settings with some of them set, or another in its place."""
    if isinstance(to, Settings):
        return to
    return type(before).model_validate({**before.model_dump(), **to})


def group(scenario: Scenario) -> str:
    """The scenario's name without its arm: scenarios of one group differ in the arm alone."""
    others = {path: value for path, value in scenario.values.items() if path != AXIS}
    return scenario_name(others, scenario.short)
