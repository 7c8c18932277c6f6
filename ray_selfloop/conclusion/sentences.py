"""What a reader must know of the data behind the numbers, in sentences."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ray_selfloop import arms
from ray_selfloop.conclusion.published import of_scenario, published
from ray_selfloop.config.sweep import Scenario
from ray_selfloop.planning import Plan
from ray_selfloop.stages import classifier, kept, samples, search
from ray_selfloop.stages.kind import Kind

MOST_FILES = 3  # names of damaged files in a sentence


def statements(plan: Plan) -> list[str]:
    """What a reader must know of the data behind the numbers, each sentence once."""
    said = dict.fromkeys(_filling(scenario) for scenario in plan.scenarios)
    for node, record in published(plan, search.KIND):
        network = search.KIND.read(node.stage.config).network
        said[f"Searched at generation 0: {search.sentence(network, record.summary)}."] = None
    for node, record in published(plan, classifier.KIND):
        said[record.summary["training_set"]["statement"]] = None
        if node.awaited and record.summary["collapsed"]:
            said[f"{node.places[0]} is collapsed, and the filter or the judge reads it."] = None
    said |= dict.fromkeys(_stopped_early(plan))
    for scenario in plan.scenarios:
        said |= dict.fromkeys(
            (_damage(plan, scenario), _resampled(plan, scenario), _skewed(plan, scenario))
        )
    return [sentence for sentence in said if sentence]


def _stopped_early(plan: Plan) -> Iterator[str]:
    """Of each group of arms: how often patience, not the budget, ended a training."""
    members: dict[str, list[Scenario]] = defaultdict(list)
    for scenario in plan.scenarios:
        members[arms.group(scenario)].append(scenario)
    for group, scenarios in members.items():
        trials: dict[str, Mapping[str, Any]] = {}  # key -> summary; arms share generation 0
        steps = []
        for scenario in scenarios:
            own = {s.key: r.summary for _, s, r in of_scenario(plan, classifier.KIND, scenario)}
            if own:
                mean = np.mean([summary["steps"] for summary in own.values()])
                steps.append(f"{scenario.sweep.loop.arm} {mean:.0f}")
            trials |= own
        stopped = sum(summary["outcome"] == "early_stopped" for summary in trials.values())
        if stopped:
            yield (
                f"{group}: early stopping ended {stopped} of {len(trials)} trainings before their "
                f"budget; mean optimiser steps: {', '.join(steps)}."
            )


def _damage(plan: Plan, scenario: Scenario) -> str:
    """Which damaged files are not among the data, or may be; empty where all are sound."""
    record = plan.records.get(plan.dataset(scenario.name).key)
    summary = record.summary if record else {}
    if not summary.get("official", True):
        return (
            f"{scenario.name}: the files are not the official MNIST: they are damaged, or another "
            "set in its form."
        )
    names = summary.get("left_out", [])
    more = f" and {len(names) - MOST_FILES:,} more" if len(names) > MOST_FILES else ""
    said = (
        f"{scenario.name}: {len(names):,} damaged files are left out of the data: "
        f"{', '.join(names[:MOST_FILES])}{more} (all: `left_out` in the dataset's record)."
    )
    return said if names else ""


def _resampled(plan: Plan, scenario: Scenario) -> str:
    """What `queue.tilt` and arm `subgroup_matched` could not do; empty where that is nothing."""
    repeated, missing = _totals(plan, kept.KIND, scenario, "repeated", "missing")
    parts = [f"{repeated} kept images were repeated"] if repeated else []
    if missing:
        parts.append(
            f"{missing} were missing because no image of their subgroup was kept in their class "
            "(other subgroups stand in for them)"
        )
    return f"{scenario.name}: for the asked subgroup shares {', '.join(parts)}." if parts else ""


def _skewed(plan: Plan, scenario: Scenario) -> str:
    """Where arm `real_skewed` is not what it should be; empty where that is nowhere."""
    repeated, unread = _totals(plan, samples.KIND, scenario, "repeated", "unread_classes")
    parts = [f"{repeated} real images were repeated"] if repeated else []
    if unread:
        parts.append(
            f"the shares of {unread} classes (of all generations and chains) could not be read "
            "from generated images, and are the original ones"
        )
    return f"{scenario.name}: {', '.join(parts)}." if parts else ""


def _totals(plan: Plan, kind: Kind[Any], scenario: Scenario, *names: str) -> list[int]:
    """Counts in the summaries of one kind, over all generations and chains of a scenario."""
    found = [record.summary for _, _, record in of_scenario(plan, kind, scenario)]
    return [sum(summary.get(name, 0) for summary in found) for name in names]


def _filling(scenario: Scenario) -> str:
    """Which steps change the dose as well as the generation; empty where none does."""
    regime, capacity = scenario.sweep.loop.regime, scenario.sweep.queue.capacity
    last = scenario.sweep.loop.generations if arms.generates(scenario.sweep) else 0
    mixed = scenario.sweep.queue.mixing.ratio != "all"
    if last == 0 or mixed or regime not in ("stack", "accumulate"):
        return ""
    until = min(capacity, last) if regime == "stack" else last
    return (
        f"{scenario.name}: the queue grows up to generation {until}; until then each generation "
        "trains on more generated images than the one before, so that dose and generation are "
        "confounded in these steps."
    )
