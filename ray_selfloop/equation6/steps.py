"""What acts on every step t -> t+1 of a chain in eq. 6: q and u of the data that entered.

Decides which generation's rows a step takes, how a queue's generations are weighed, and how sure
the result is. Knows the results table, and nothing of how q and u were measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import pandas as pd

from ray_selfloop.config.evaluation import Dynamics
from ray_selfloop.evaluation import metrics


@dataclass(frozen=True)
class Step:
    """What acts on the step t -> t+1 of one chain; NaN where it is not known.

    q_error, u_error: standard errors, 0 where shares are designed or no error is known.
    """

    q: float
    u: float
    q_error: float = 0.0
    u_error: float = 0.0


Steps = Mapping[tuple[str, str, int, int], Step]  # scenario, classifier or "", chain, t
UNKNOWN = Step(float("nan"), float("nan"))
# (classifier, chain, generation) -> kept generation -> images of it
Contents = Mapping[tuple[str, int, int], Mapping[int, float]]


def acting(factors: Steps, scenario: str, classifier: str, chain: int, t: int) -> Step:
    """On a classifier's step: its own chain's, else the shared chain's."""
    own = factors.get((scenario, classifier, chain, t))
    return own or factors.get((scenario, "", chain, t), UNKNOWN)


def over_queue(values: Mapping[int, float], content: Mapping[int, float]) -> float:
    """Volume-weighted mean of ``values`` over the generations in a queue; NaN where one lacks."""
    total = sum(content.values())
    if not total:
        return float("nan")
    return sum(values.get(g, float("nan")) * n for g, n in content.items()) / total


def queue_error(errors: Mapping[int, float], content: Mapping[int, float]) -> float:
    """Standard error of `over_queue`, generations being independent; 0 where none is known."""
    total = sum(content.values())
    if not total:
        return 0.0
    return float(sum((errors.get(g, 0.0) * n) ** 2 for g, n in content.items()) ** 0.5 / total)


def steps(
    table: pd.DataFrame,
    contents: Mapping[str, Contents],
    settings: Dynamics,
    level: float = 0.95,
) -> dict[tuple[str, str, int, int], Step]:
    """q and u behind every step, from generator rows of the results table.

    contents: scenario -> (classifier, chain, generation n) -> what generated images train it.
    level: of the table's intervals; an error is half an interval's width over its normal quantile.
    A row without classifier belongs to a chain that all classifiers share.
    ``cas`` is measured on what was generated alone, whatever the split of u.
    ``incoming``: step t -> t+1 takes those of t+1; ``literal``: those of t (nothing at t = 0).
    """
    offset = 1 if settings.factor_index == "incoming" else 0
    return {
        (scenario, classifier, chain, n - offset): _step(found, settings.quality, content)
        for (scenario, classifier, chain), found in _measured(table, settings, level).items()
        for (who, of, n), content in contents.get(scenario, {}).items()
        if of == chain and classifier in ("", who) and n - offset >= 0
    }


# metric -> generation -> (value, standard error)
_Found = dict[str, dict[int, tuple[float, float]]]


def _step(found: _Found, quality: str, content: Mapping[int, float]) -> Step:
    (q, q_error), (u, u_error) = (
        (
            over_queue({g: value for g, (value, _) in by_generation.items()}, content),
            queue_error({g: error for g, (_, error) in by_generation.items()}, content),
        )
        for by_generation in (found.get(quality, {}), found.get(metrics.U.name, {}))
    )
    return Step(q, u, q_error, u_error)


def _measured(
    table: pd.DataFrame, settings: Dynamics, level: float
) -> dict[tuple[str, str, int], _Found]:
    """By scenario, classifier and chain: the chosen q and u of every generation."""
    plain = (table["class"] == "") & (table["subgroup"] == "") & table["seed"].isna()
    source = "generated" if settings.quality == metrics.CAS.name else settings.split
    quality = (table["metric"] == settings.quality) & (table["split"] == source)
    balance = (table["metric"] == metrics.U.name) & (table["split"] == settings.split)
    rows = table[plain & (quality | balance)]
    rows = rows[rows["loop_seed"].notna() & rows["generation"].notna()]
    quantile = NormalDist().inv_cdf(0.5 + level / 2)
    found: dict[tuple[str, str, int], _Found] = {}
    for row in rows.to_dict("records"):
        key = (row["scenario"], row["classifier"], int(row["loop_seed"]))
        width = float(row["high"]) - float(row["low"])
        error = width / 2.0 / quantile if width > 0 else 0.0  # NaN: no interval
        of = found.setdefault(key, {}).setdefault(row["metric"], {})
        of[int(row["generation"])] = (float(row["value"]), error)
    return found
