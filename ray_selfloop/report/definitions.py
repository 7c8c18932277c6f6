"""Which metrics the page lists, and in which order: read from the registry."""

from collections.abc import Iterable
from math import inf
from typing import Any

from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.metrics import METRICS, Metric, Shown


def used(keys: Iterable[str]) -> list[Metric[..., Any]]:
    return [METRICS[name] for name in dict.fromkeys(map(metrics.base, keys))]


def ordered(keys: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """``(metric, split)`` in the page's order; metrics that the page does not list are left out."""
    rank = {metric.name: i for i, metric in enumerate(metrics.shown(Shown.QUALITY))}
    kept = {metric.name for metric in metrics.shown(Shown.KEPT)}
    known = [
        (metric, split)
        for metric, split in keys
        if metric.split("/")[0] in rank and (split == "generated" or metric in kept)
    ]
    return sorted(known, key=lambda key: rank[key[0].split("/")[0]])


def listed(key: str) -> bool:
    """Whether the page's table of all numbers shows a key: no floors, no second readings."""
    return metrics.base(key) == key.split("/")[0].removesuffix("_change")


def end(value: float) -> str:
    return {inf: "∞", -inf: "−∞"}.get(value, f"{value:g}")
