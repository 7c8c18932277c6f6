"""Rows of the results table under construction: its columns, types and unique keys.

Knows the table's form and nothing of how a number is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.predictions import Floats

COLUMNS = (
    "scenario", "loop_seed", "generation", "classifier", "seed", "split", "class", "subgroup",
    "metric", "value", "low", "high",
)  # fmt: skip
KEY = COLUMNS[:-3]
NAN = float("nan")


@dataclass(frozen=True)
class Where:
    """What a number belongs to; None and "" where it belongs to all of them."""

    loop_seed: int | None = None
    generation: int | None = None
    classifier: str = ""
    seed: int | None = None


@dataclass
class Rows:
    """Rows of one scenario and one split."""

    scenario: str
    split: str
    found: list[tuple[object, ...]] = field(default_factory=list)

    def add(
        self,
        metric: str,
        ends: Sequence[float] | Floats,
        where: Where,
        of: tuple[str, str] = ("", ""),
    ) -> None:
        """One row. ends: value, or value, low, high; bounds are cut at the metric's range.
        of: (class, subgroup)."""
        low, high = metrics.describe(metric).range
        bounds = [float(min(max(bound, low), high)) for bound in ends[1:]] or [NAN, NAN]
        self.found.append(
            (self.scenario, where.loop_seed, where.generation, where.classifier, where.seed,
             self.split, *of, metric, float(ends[0]), *bounds)
        )  # fmt: skip

    def frame(self) -> pd.DataFrame:
        """The table's columns and types; ValueError where two rows have the same key."""
        return typed(pd.DataFrame(self.found, columns=list(COLUMNS)))


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Column types of the table; ``ValueError`` where two rows have the same key."""
    repeated = frame.duplicated(list(KEY))
    if repeated.any():
        first = frame.loc[repeated, list(KEY)].iloc[0].to_dict()
        raise ValueError(f"two rows of the results table have the same key: {first}")
    kinds = dict.fromkeys(("loop_seed", "generation", "seed"), "Int64")
    return frame.astype(kinds | dict.fromkeys(("value", "low", "high"), "float64"))
