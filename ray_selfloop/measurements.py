"""What is measured of what a run has published: which trials there are shows only then.

Fairness of each scenario; then eq. 6, the paper's claims and what the axes do, over all of them.
"""

from collections.abc import Mapping, Sequence

from ray_selfloop.config.sweep import Scenario, Sweep
from ray_selfloop.graph import Graph, Place, Stage
from ray_selfloop.stages import axes, claims, equation6, fairness, names
from ray_selfloop.stages.kind import Named

KINDS = (fairness.KIND.name, equation6.KIND.name, claims.KIND.name, axes.KIND.name)
Measured = tuple[Scenario, Named]
"""A scenario, and what of it is published: see `published`."""


def published(data: Stage, trials: Mapping[Place, Stage], metrics: Mapping[Place, Stage]) -> Named:
    """One scenario's dataset, trials and generator metrics, by the names that they are read by."""
    named = {f"{names.TRIAL}{names.at(place)}": trials[place] for place in sorted(trials)}
    named |= {f"{names.METRICS}{names.at(place)}": metrics[place] for place in sorted(metrics)}
    return {"dataset": data, **named}


def add_fairness(
    scenario: Scenario, trials: Mapping[Place, Stage], data: Stage, graph: Graph
) -> Stage:
    """The measurement of one scenario's published trials."""
    inputs = {names.at(place): trials[place] for place in sorted(trials)} | {"dataset": data}
    return fairness.KIND.add_settings(graph, fairness.settings(scenario), inputs, _end(scenario))


def add_equation6(
    sweep: Sweep, measured: Sequence[Measured], graph: Graph, declared: bool = True
) -> Stage:
    """Eq. 6 over all scenarios. declared: whether it was frozen before the data."""
    scenarios = [scenario for scenario, _ in measured]
    settings = equation6.settings(sweep, scenarios, declared)
    return equation6.KIND.add_settings(graph, settings, _all(measured), _end(scenarios[0]))


def add_claims(
    sweep: Sweep,
    measured: Sequence[Measured],
    graph: Graph,
    declared: bool = True,
    settled: bool = True,
) -> Stage:
    """Declared statements, decomposition by arms and other readings, over all scenarios.

    settled: whether nothing of the sweep's chains is still to be computed.
    """
    scenarios = [scenario for scenario, _ in measured]
    settings = claims.settings(sweep, scenarios, declared, settled)
    return claims.KIND.add_settings(graph, settings, _all(measured), _end(scenarios[0]))


def add_axes(sweep: Sweep, measured: Sequence[Measured], graph: Graph) -> Stage | None:
    """Each setting that is varied beside the arm, across its values; None where none is."""
    settings = axes.settings(sweep, [scenario for scenario, _ in measured])
    if settings is None:
        return None
    compared = {one.name for one in settings.scenarios}
    used = [(scenario, of) for scenario, of in measured if scenario.name in compared]
    return axes.KIND.add_settings(graph, settings, _all(used), _end(used[0][0]))


def _all(measured: Sequence[Measured]) -> Named:
    return {
        f"{scenario.name}/{name}": stage
        for scenario, named in measured
        for name, stage in named.items()
    }


def _end(scenario: Scenario) -> Place:
    return Place(scenario.name, 0, scenario.sweep.loop.generations)
