"""Whether a sweep goes on until its primary statements are decided: its looks and its budget.

Loads nothing of what judges.
"""

from itertools import pairwise
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from ray_selfloop.config.base import Settings

if TYPE_CHECKING:
    from ray_selfloop.config.sweep import Scenario, Sweep


class Decide(Settings):
    """Looks, declared beforehand, at growing numbers of chains; `loop.loop_seeds` are the first
    chains' seeds, those of further chains the numbers after the largest. The level is
    `evaluation.level`: of all looks together."""

    looks: tuple[int, ...] = Field(
        default=(3, 5, 8, 12),
        min_length=1,
        description="Numbers of chains at which the primary statements are judged; at the first "
        "look where all are decided, and at the last one, the sweep ends. Every interval holds "
        "over all looks together; all but the primary statements is exploratory",
    )
    hours: float | None = Field(
        default=None,
        gt=0,
        description="Core-hours beyond which no further look is begun, as `plan` predicts them; "
        "what the storage holds counts. The first look is always made. null: no limit. It may be "
        "raised later, and the sweep goes on: no result and no interval depends on it",
    )

    @field_validator("looks")
    @classmethod
    def _rising(cls, looks: tuple[int, ...]) -> tuple[int, ...]:
        if looks[0] < 2:
            raise ValueError("the first look needs 2 chains: one chain has no error")
        if any(a >= b for a, b in pairwise(looks)):
            raise ValueError("numbers of chains must rise from look to look")
        return looks


def grown(seeds: tuple[int, ...], chains: int) -> tuple[int, ...]:
    """The loop seeds of so many chains: the first of those given, then the numbers after them."""
    more = range(max(seeds) + 1, max(seeds) + 1 + chains)
    return (*seeds, *more)[:chains]


def at_look(sweep: "Sweep", chains: int) -> "Sweep":
    """A sweep with so many chains."""
    seeds = grown(sweep.loop.loop_seeds, chains)
    loop = sweep.loop.model_copy(update={"loop_seeds": seeds})
    return sweep.model_copy(update={"loop": loop})


def all_at_look(
    sweep: "Sweep", scenarios: "list[Scenario]", chains: int
) -> "tuple[Sweep, list[Scenario]]":
    """The whole of it, scenarios included."""
    each = [s.model_copy(update={"sweep": at_look(s.sweep, chains)}) for s in scenarios]
    return at_look(sweep, chains), each
