"""What each metric on the page means, read from the registry in ``evaluation/metrics.py``."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from ray_selfloop.evaluation import metrics


@dataclass(frozen=True)
class Definition:
    """One metric in words; ``ideal`` is "" where no value is better than another."""

    metric: str
    meaning: str
    unit: str
    ideal: str
    range: str


def of(key: str) -> Definition:
    """The definition of a table key; one that the registry lacks is shown as unregistered."""
    try:
        metric = metrics.describe(key)
    except KeyError:
        return Definition(key, "not in the registry", "", "", "")
    ideal = "" if metric.ideal is None else f"{metric.ideal:g}"
    low, high = map(_end, metric.range)
    return Definition(key, metric.definition, metric.unit, ideal, f"{low} to {high}")


def used(keys: Iterable[str]) -> list[Definition]:
    """One definition for each metric behind the keys, readings and suffixes taken off."""
    return [of(metric) for metric in dict.fromkeys(map(_base, keys))]


def ordered(keys: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """``(metric, split)`` in the page's order; metrics that the page does not list are left out."""
    rank = {metric.name: i for i, metric in enumerate(metrics.shown(metrics.Shown.QUALITY))}
    kept = {metric.name for metric in metrics.shown(metrics.Shown.KEPT)}
    known = [
        (metric, split)
        for metric, split in keys
        if metric.split("/")[0] in rank and (split == "generated" or metric in kept)
    ]
    return sorted(known, key=lambda key: rank[key[0].split("/")[0]])


def listed(key: str) -> bool:
    """Whether the page's table of all numbers shows a key: no floors, no second readings."""
    return _base(key).split("/")[0] == key.split("/")[0].removesuffix("_change")


def _base(key: str) -> str:
    try:
        return metrics.base(key)
    except KeyError:
        return key


def _end(value: float) -> str:
    return {inf: "∞", -inf: "−∞"}.get(value, f"{value:g}")
