"""The settings that a sweep varies beside the arm, each compared across its values."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray_selfloop.config.arms import AXIS as ARM
from ray_selfloop.config.arms import CONTROL, TREATMENT
from ray_selfloop.config.networks import parts
from ray_selfloop.config.sweep import Scenario, Sweep, overrides, scenario_name
from ray_selfloop.evaluation.metrics import About, in_key
from ray_selfloop.stages.claims import Described, described
from ray_selfloop.stages.evaluated import Evaluated, judged_with
from ray_selfloop.stages.inputs import Inputs
from ray_selfloop.stages.kind import Held, Kind, Summary, Work

if TYPE_CHECKING:
    from ray_selfloop.claims import axes as compared


class Point(Held):
    """One value, as it is told: the scenario of its treatment, and of its control or ""."""

    told: str
    treatment: str
    control: str


class Axis(Held):
    """name: as in the sweep file. setting: values of the other axes, "" without any. points: two or
    more, in the sweep's order; all others are compared with the first."""

    name: str
    setting: str
    points: tuple[Point, ...]


class Settings(Evaluated):
    """scenarios: those that any axis compares."""

    scenarios: tuple[Described, ...]
    axes: tuple[Axis, ...]


def settings(sweep: Sweep, scenarios: Sequence[Scenario]) -> Settings | None:
    """None where a sweep varies nothing but the arm."""
    axes = tuple(axis for name in sweep.axes for axis in _of(name, sweep, scenarios))
    if not axes:
        return None
    used = {s for axis in axes for point in axis.points for s in (point.treatment, point.control)}
    return Settings(
        evaluation=judged_with(sweep),
        scenarios=tuple(described(scenario) for scenario in scenarios if scenario.name in used),
        axes=axes,
        **in_key(About.CLASSIFIERS, About.EQUATION_6),
    )


def _of(name: str, sweep: Sweep, scenarios: Sequence[Scenario]) -> Iterator[Axis]:
    """One axis in every setting of the others, where it has two values or more."""
    values = sweep.axes[name]
    keys = dict.fromkeys(
        k for value in values for k in (value if overrides(value) else [name]) if k != ARM
    )
    found: dict[str, dict[str, dict[str, str]]] = {}  # setting -> value -> arm -> scenario
    for scenario in scenarios if keys else ():
        rest = {k: v for k, v in scenario.values.items() if k not in keys and k != ARM}
        setting = scenario_name(rest, scenario.short) if rest else ""
        at = found.setdefault(setting, {}).setdefault(_told(scenario, [*keys]), {})
        at[scenario.sweep.loop.arm] = scenario.name
    for setting, by_value in found.items():
        points = tuple(
            Point(told=told, treatment=of[TREATMENT.name], control=of.get(CONTROL.name, ""))
            for told, of in by_value.items()
            if TREATMENT.name in of
        )
        if len(points) > 1:
            yield Axis(name=name, setting=setting, points=points)


def _told(scenario: Scenario, keys: Sequence[str]) -> str:
    """``0.3``; of an axis that sets several keys ``budget=0.5,tilt=0.0``."""
    values = {key: setting(scenario, key) for key in keys}
    return str(values[keys[0]]) if len(keys) == 1 else scenario_name(values, scenario.short)


def setting(scenario: Scenario, key: str) -> Any:
    """What a scenario has at a dotted key: of its axes, else of its other settings."""
    if key in scenario.values:
        return scenario.values[key]
    found: Any = scenario.sweep.model_dump(mode="json")
    for part in parts(key):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def run(work: Work[Settings]) -> Summary:
    """A row for each value's change and for each comparison with the first value."""
    from ray_selfloop.claims.axes import effects
    from ray_selfloop.equation6.fit import entries
    from ray_selfloop.stages.judged import arm

    settings = work.settings.how
    bound = settings.dynamics.least_fidelity
    arms = {one.name: arm(one, work.inputs, bound) for one in work.settings.scenarios}
    found = [_read(axis, arms, work.inputs) for axis in work.settings.axes]
    return {"effects": entries(row for axis in found for row in effects(axis, settings))}


def _read(axis: Axis, arms: Mapping[str, Any], inputs: Inputs) -> "compared.Axis":
    """With what is published of it; a control that is the same at every value stands once."""
    from ray_selfloop.claims import axes as compared

    controls = [point.control for point in axis.points]
    held = [_trials(inputs, name) for name in controls]
    same = all(controls) and all(one == held[0] for one in held)
    points = [
        compared.Point(point.told, arms[point.treatment], arms.get(point.control))
        for point in axis.points
    ]
    return compared.Axis(axis.name, axis.setting, tuple(points), same)


def _trials(inputs: Inputs, scenario: str) -> dict[str, str]:
    """Place -> key of what a scenario's numbers are of."""
    start = f"{scenario}/"
    return {n.removeprefix(start): key for n, key in inputs.keys.items() if n.startswith(start)}


KIND = Kind("axes", version=1, holds=Settings, run="ray_selfloop.stages.axes:run")
