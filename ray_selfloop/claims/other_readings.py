"""Readings of the definitions that the paper leaves open. Knows no claim and no number."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ray_selfloop.evaluation.metrics import (
    ABLATION_DROP,
    ABLATION_DROP_RELATIVE,
    DI,
    DI_MIN_MAX,
    GAP_VARIANCE,
    LOG_ODDS_GAP,
    LOG_ODDS_GAP_MEAN,
    MD,
    MEO,
    METRICS,
    RANKED_ACCURACY,
    RANKED_CROSS_FITTED,
    READINGS,
    WORST_SUBGROUP,
    Reads,
)
from ray_selfloop.evaluation.predictions import KINDS

# add-half log odds in place of accuracies
LOG_ODDS_RANKS = RANKED_CROSS_FITTED.read("log_odds")
RANKED = (RANKED_ACCURACY.name, RANKED_CROSS_FITTED.name, LOG_ODDS_RANKS)
DROP, RELATIVE = f"{ABLATION_DROP.name}/", f"{ABLATION_DROP_RELATIVE.name}/"  # and the ablation
GAPS = (MEO, DI, MD)
WITHOUT_LAST = "_without_last"
ON_LOG_ODDS = {MEO.name: (LOG_ODDS_GAP_MEAN, -1.0), MD.name: (LOG_ODDS_GAP, 1.0)}
"""Metric of rates -> the same of log odds, and the factor that turns it."""


@dataclass(frozen=True)
class Choice:
    """One reading of every ambiguous definition. rates: "" for the one that applies."""

    ordered: bool
    rates: str = ""
    impact: str = DI.name
    ranks: str = RANKED_CROSS_FITTED.name
    without_last: bool = False
    log_odds: bool = False
    relative: bool = False

    def key(self, metric: str, applies: str, stored_ordered: bool) -> tuple[str, float]:
        """Metric of a statement -> key of the stored reading and the factor that it is taken by."""
        reading = self.rates or applies
        if metric == GAP_VARIANCE.name:
            return GAP_VARIANCE.read("per_class"), 1.0  # a within-class number by definition
        if self.relative:
            return metric.replace(DROP, RELATIVE), 1.0
        if metric in RANKED:
            return LOG_ODDS_RANKS if self.log_odds else self.ranks, 1.0
        if self.log_odds and metric in ON_LOG_ODDS:
            gap, sign = ON_LOG_ODDS[metric]
            return gap.read(reading), sign
        return self._of_rates(metric, reading, stored_ordered)

    def _of_rates(self, metric: str, reading: str, stored_ordered: bool) -> tuple[str, float]:
        one = METRICS.get(self.impact if metric == DI.name else metric)
        if one is None or not (one.reads is Reads.RATES or one is WORST_SUBGROUP):
            return metric, 1.0
        doubled = 2.0 ** (float(self.ordered) - float(stored_ordered))
        end = WITHOUT_LAST if self.without_last and one in GAPS else ""
        return f"{one.read(reading)}{end}", doubled if one.pairs else 1.0


@dataclass(frozen=True)
class Definition:
    """used: "" for the case's own reading of rates."""

    name: str
    used: str
    other: str
    metrics: tuple[str, ...]
    choice: Choice


def definitions(ordered: bool) -> Iterator[Definition]:
    """Every other reading."""
    used = Choice(ordered)
    pairs = ("ordered", "unordered") if ordered else ("unordered", "ordered")
    gaps, ranks = tuple(gap.name for gap in GAPS), RANKED_CROSS_FITTED.name
    drops = tuple(f"{DROP}{kind}" for kind in KINDS)
    of_rates = ("rates of subgroups", "")
    readings: tuple[tuple[Any, ...], ...] = (
        ("pairs of subgroups (eq. 2, 3)", *pairs, gaps[:2], replace(used, ordered=not ordered)),
        ("disparate impact", "eq. 3: mean over pairs", "smallest over largest rate", (DI.name,),
         replace(used, impact=DI_MIN_MAX.name)),
        *((*of_rates, rates, gaps, replace(used, rates=rates)) for rates in READINGS),
        ("ranks (eq. 5)", "cross-fitted", "re-sorted each generation", (ranks,),
         replace(used, ranks=RANKED_ACCURACY.name)),
        ("i, j < G (eq. 2 to 4)", "read as <= G", "literally: subgroup G left out", gaps,
         replace(used, without_last=True)),
        ("scale of gaps", "rates", "log odds", (*ON_LOG_ODDS, ranks), replace(used, log_odds=True)),
        ("performance drop under ablation", "clean minus ablated accuracy",
         "the same over clean accuracy less chance", drops, replace(used, relative=True)),
    )  # fmt: skip
    yield from (Definition(*reading) for reading in readings)
