"""Axes that change nothing, and scenarios that are the same.

Each scenario is a case of its own in every table and judgement; two that have the same results look
like agreement. Decided from settings alone, by the keys that the stages of a chain would have with
the settings left out that nothing reads. Knows nothing of what is published.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ray_selfloop import arms, loop
from ray_selfloop.config.arms import TREATMENT
from ray_selfloop.config.plain import shown
from ray_selfloop.config.sweep import Scenario, Sweep
from ray_selfloop.graph import Graph
from ray_selfloop.stages import fairness
from ray_selfloop.stages.chain import chains, volume

COUNTED = "one result is counted as several cases"


def sentences(
    axes: Mapping[str, Sequence[Any]], scenarios: Sequence[Scenario], sources: Mapping[str, str]
) -> Iterator[str]:
    """One for values of an axis that are the same whatever the other axes say, and one for all
    scenarios that are the same beside others that differ.

    scenarios: of the axes' product, in its order. sources: scenario -> digest of its original data.
    Where there is a treatment, controls that are the same are meant: each group has its own.
    """
    if len(scenarios) == 1:
        return
    treated = [arms.of(scenario.sweep) is TREATMENT for scenario in scenarios]
    known: dict[object, int] = {}
    found = (_result(scenario, sources[scenario.name]) for scenario in scenarios)
    results = [known.setdefault(result, len(known)) for result in found]
    points = list(itertools.product(*(range(len(values)) for values in axes.values())))
    first = [[*range(len(values))] for values in axes.values()]  # of those that are alike
    for number, (axis, values) in enumerate(axes.items()):
        rows = [[r for r, p in enumerate(points) if p[number] == i] for i in range(len(values))]
        alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, own in enumerate(rows):
            alike[tuple(results[row] for row in own)].append(i)
        for same in alike.values():
            first[number] = [same[0] if i in same else f for i, f in enumerate(first[number])]
            meant = any(treated) and not any(treated[row] for i in same for row in rows[i])
            if len(same) > 1 and not meant:
                yield f"axes: {axis}: {_listed(values, same)} make no difference here: {COUNTED}"
    judged = [row for row, own in enumerate(treated) if own or not any(treated)]
    told = [tuple(f[i] for f, i in zip(first, point, strict=True)) for point in points]
    names: dict[int, dict[tuple[int, ...], str]] = defaultdict(dict)
    for row in judged:
        names[results[row]].setdefault(told[row], scenarios[row].name)
    yield from _coinciding(names.values())


def _coinciding(names: Iterable[Mapping[tuple[int, ...], str]]) -> Iterator[str]:
    """names: of the scenarios of each result, one for all that an axis' sentence speaks of."""
    several = [" and ".join(own.values()) for own in names if len(own) > 1]
    if several:
        yield f"axes: {shown('; '.join(several))} have the same results: {COUNTED}"


def _listed(values: Sequence[Any], which: Sequence[int]) -> str:
    return shown(" and ".join(shown(values[i], 100) for i in which))


def _result(scenario: Scenario, source: str) -> object:
    """Equal for scenarios whose results are: keys of one chain, the seeds, what measures them."""
    graph, seeds = Graph(), scenario.sweep.loop.loop_seeds
    for chain in chains(scenario):
        if chain.loop_seed == min(seeds):
            sweep, treatment = _acting(chain.sweep), _acting(chain.treatment)
            loop.add_chain(replace(chain, sweep=sweep, treatment=treatment), source, graph)
    return frozenset(graph.nodes), frozenset(seeds), str(fairness.settings(scenario).held())


def _acting(sweep: Sweep) -> Sweep:
    """Settings with one value in the place of several that make no difference to a chain."""
    filters, generator = sweep.filter.read, sweep.generator.read
    queue = sweep.queue.model_copy(update={"volume": volume(sweep)}).read
    if filters.score == "none" or filters.drop == 0:  # as many are kept as are drawn
        queue = queue.model_copy(update={"count": "after_filtering"})
    if sweep.loop.generations < 2:
        generator = generator.fresh  # no other is before it
    probe = {"probe": sweep.evaluation.probe.read}
    trained = {name: sweep.training_for(name).read.model_dump() for name in sweep.classifiers}
    parts = {
        "dataset": sweep.dataset.read,
        "generator": generator,
        "queue": queue,
        "filter": filters,
        "training_of": trained,
        "evaluation": sweep.evaluation.model_copy(update=probe),
    }
    return sweep.model_copy(update=parts)
