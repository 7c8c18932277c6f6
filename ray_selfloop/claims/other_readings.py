"""Readings of the definitions that the paper leaves open. Knows no claim and no number."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ray_selfloop.evaluation.predictions import KINDS

LOG_ODDS_RANKS = "ranked_cross_fitted_log_odds"  # add-half log odds in place of accuracies
DROP, RELATIVE = "ablation_drop/", "ablation_drop_relative/"  # and the kind of ablation


@dataclass(frozen=True)
class Choice:
    """One reading of every ambiguous definition. rates: "" for the one that applies."""

    ordered: bool
    rates: str = ""
    impact: str = "di"
    ranks: str = "ranked_cross_fitted"
    without_last: bool = False
    log_odds: bool = False
    relative: bool = False

    def key(self, metric: str, applies: str, stored_ordered: bool) -> tuple[str, float]:
        """Metric of a statement -> key of the stored reading and the factor that it is taken by."""
        reading = self.rates or applies
        if metric == "gap_variance":
            return "gap_variance_per_class", 1.0  # a within-class number by definition
        if self.relative:
            return metric.replace(DROP, RELATIVE), 1.0
        if metric.startswith("ranked"):
            return LOG_ODDS_RANKS if self.log_odds else self.ranks, 1.0
        if self.log_odds and metric in ("meo", "md"):
            gap, sign = ("log_odds_gap_mean", -1.0) if metric == "meo" else ("log_odds_gap", 1.0)
            return f"{gap}_{reading}", sign
        if metric not in ("meo", "md", "di", "worst_subgroup"):
            return metric, 1.0
        name = self.impact if metric == "di" else metric
        doubled = 2.0 ** (float(self.ordered) - float(stored_ordered))
        factor = doubled if name in ("meo", "di") else 1.0
        end = "_without_last" if self.without_last and name in ("meo", "md", "di") else ""
        return f"{name}_{reading}{end}", factor


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
    gaps = ("meo", "di", "md")
    yield Definition(
        "pairs of subgroups (eq. 2, 3)", *pairs, gaps[:2], replace(used, ordered=not ordered)
    )
    yield Definition(
        "disparate impact", "eq. 3: mean over pairs", "smallest over largest rate", ("di",),
        replace(used, impact="di_min_max"),
    )  # fmt: skip
    for rates in ("pooled", "per_class", "by_share_rank"):
        choice = replace(used, rates=rates)
        yield Definition("rates of subgroups", "", rates, gaps, choice)
    yield Definition(
        "ranks (eq. 5)", "cross-fitted", "re-sorted each generation", ("ranked_cross_fitted",),
        replace(used, ranks="ranked_accuracy"),
    )  # fmt: skip
    yield Definition(
        "i, j < G (eq. 2 to 4)", "read as <= G", "literally: subgroup G left out", gaps,
        replace(used, without_last=True),
    )  # fmt: skip
    yield Definition(
        "scale of gaps", "rates", "log odds", ("meo", "md", "ranked_cross_fitted"),
        replace(used, log_odds=True),
    )  # fmt: skip
    yield Definition(
        "performance drop under ablation", "clean minus ablated accuracy",
        "the same over clean accuracy less chance", tuple(f"{DROP}{kind}" for kind in KINDS),
        replace(used, relative=True),
    )  # fmt: skip
