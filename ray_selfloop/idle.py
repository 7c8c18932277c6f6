"""Axes that change nothing: values of one under which all results are the same.

Each scenario is a case of its own in every table and judgement; two that have the same results look
like agreement. Decided from settings alone, by the keys that the stages of a chain would have with
the settings left out that nothing reads. Knows nothing of what is published.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ray_selfloop import arms, loop
from ray_selfloop.config.plain import shown
from ray_selfloop.config.sweep import Scenario
from ray_selfloop.graph import Graph

SAID = "make no difference here: one result is counted as several cases"


def sentences(
    axes: Mapping[str, Sequence[Any]], scenarios: Sequence[Scenario], sources: Mapping[str, str]
) -> Iterator[str]:
    """One for values of an axis that are the same whatever the other axes say.

    scenarios: of the axes' product, in its order. sources: scenario -> digest of its original data.
    Where there is a treatment, controls that are the same are meant: each group has its own.
    """
    if len(scenarios) == 1:
        return
    treated = [scenario.sweep.loop.arm == arms.TREATMENT for scenario in scenarios]
    known: dict[object, int] = {}
    found = (_result(scenario, sources[scenario.name]) for scenario in scenarios)
    results = [known.setdefault(result, len(known)) for result in found]
    points = list(itertools.product(*(range(len(values)) for values in axes.values())))
    for number, (axis, values) in enumerate(axes.items()):
        rows = [[r for r, p in enumerate(points) if p[number] == i] for i in range(len(values))]
        alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for i, own in enumerate(rows):
            alike[tuple(results[row] for row in own)].append(i)
        for same in alike.values():
            meant = any(treated) and not any(treated[row] for i in same for row in rows[i])
            if len(same) > 1 and not meant:
                yield f"axes: {axis}: {_listed(values, same)} {SAID}"


def _listed(values: Sequence[Any], which: Sequence[int]) -> str:
    return shown(" and ".join(shown(values[i], 100) for i in which))


def _result(scenario: Scenario, source: str) -> object:
    """Equal for scenarios whose results are: keys of one chain, the seeds, what measures them."""
    graph, seeds = Graph(), scenario.sweep.loop.loop_seeds
    for chain in loop.chains(scenario):
        if chain.loop_seed == seeds[0]:
            read = {"filter": chain.sweep.filter.read, "queue": chain.sweep.queue.read}
            acting = chain.sweep.model_copy(update=read)
            loop.add_chain(replace(chain, sweep=acting), source, graph)
    return frozenset(graph.nodes), frozenset(seeds), str(loop.measurement(scenario))
