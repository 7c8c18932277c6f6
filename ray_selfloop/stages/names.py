"""The names under which stages read others: each form is written and read here alone.

They are in keys, so that a form never changes.
"""

import re

from ray_selfloop.config.networks import TIMM
from ray_selfloop.graph import Place

TRIAL, METRICS = "trial/", "metrics/"
PLACED = re.compile(rf"(?:^|/)(\d+)/(\d+)/((?:{TIMM})?[^/]*)(?:/(\d+))?$")


def numbered(what: str, number: int) -> str:
    """One of several: ``kept.3``."""
    return f"{what}.{number}"


def number(name: str) -> int:
    """Which one it is."""
    return int(name.rpartition(".")[2])


def at(place: Place) -> str:
    """``<loop seed>/<generation>/<classifier>``, of a trial ``.../<seed>``; timm's networks have a
    slash inside."""
    seed = f"/{place.seed}" if place.seed >= 0 else ""
    return f"{place.loop_seed}/{place.generation}/{place.classifier}{seed}"


def place(scenario: str, name: str) -> Place:
    """The place that a name ends in."""
    found = PLACED.search(name)
    assert found, name
    loop_seed, generation, classifier, seed = found.groups()
    return Place(scenario, int(loop_seed), int(generation), classifier, int(seed or -1))
