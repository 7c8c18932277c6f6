"""What nothing but new seeds does: the arm `a_a` as a test of the intervals, and the scatter
between chains and seeds that `plan` needs. Knows no claim."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ray_selfloop.claims.cases import Group
from ray_selfloop.claims.contrasts import LAST_MINUS_FIRST, NAN
from ray_selfloop.claims.measured import Sweep
from ray_selfloop.claims.paired import CONTROL, TREATMENT, Key, Measured
from ray_selfloop.config import arms as loop_arms
from ray_selfloop.evaluation.metrics import ACCURACY, MD, WORST_SUBGROUP
from ray_selfloop.inference.chains import effect
from ray_selfloop.inference.families import holm

A_A = loop_arms.A_A.name
METRICS = (ACCURACY, MD, WORST_SUBGROUP)
AS_EXPECTED = "as no effect"
NOT_EXPECTED = "not as no effect: the intervals of this page are not to be believed"
UNTESTED = "not tested: one chain"


@dataclass(frozen=True)
class Null:
    """Last minus first generation in arm `a_a`, where nothing but seeds changes: the true effect is
    0. p_holm: two-sided, adjusted over all rows of the sweep."""

    scenario_group: str
    classifier: str
    metric: str
    value: float
    low: float
    high: float
    chains: int
    p_holm: float
    verdict: str


@dataclass(frozen=True)
class Scatter:
    """How a change (last minus first generation) scatters, in the metric's unit.

    source: ``treatment - no_synthetic`` or ``a_a``. chain_sd: between chains beyond their seeds
    (0 or more); seed_sd: between classifier seeds of a chain, their test images included, NaN with
    one seed, where chain_sd holds both. networks: pooled over so many.
    """

    scenario_group: str
    metric: str
    source: str
    chain_sd: float
    seed_sd: float
    chains: int
    seeds: int
    networks: int


def keys_of(group: Group) -> dict[str, Key]:
    """Metric -> the reading of it that applies."""
    keys = {m.name: m.name if m is ACCURACY else m.read(group.reading) for m in METRICS}
    return {metric: (key, "") for metric, key in keys.items()}


def nulls(sweep: Sweep, groups: Sequence[Group]) -> list[Null]:
    """A row for every group, network and metric that has the arm."""
    rows: list[Null] = []
    p: list[float] = []
    for group, classifier, measured in _measured(sweep, groups, (A_A,)):
        for metric, key in keys_of(group).items():
            if key in measured.values:
                draws = measured.contrast(key, LAST_MINUS_FIRST, (A_A,)).draws
                found = effect(draws, sweep.settings.level)
                ends = found.value, found.low, found.high, found.chains
                rows.append(Null(group.name, classifier, metric, *ends, NAN, UNTESTED))
                p.append(found.p_change() if found.tested else NAN)
    known = [i for i, x in enumerate(p) if x == x]
    for i, value in zip(known, holm([p[i] for i in known]), strict=True):
        word = AS_EXPECTED if value > 1 - sweep.settings.level else NOT_EXPECTED
        rows[i] = replace(rows[i], p_holm=value, verdict=word)
    return rows


def _measured(
    sweep: Sweep, groups: Sequence[Group], arms: Sequence[str]
) -> Iterator[tuple[Group, str, Measured]]:
    for group in groups:
        if not group.lacking(arms):
            for classifier in group.classifiers:
                measured = sweep.measured(group.name, classifier)
                if measured is not None:
                    yield group, classifier, measured


def scatter(sweep: Sweep, groups: Sequence[Group]) -> Iterator[Scatter]:
    """Of each group and source, pooled over its networks; nothing with one chain."""
    for arms in ((TREATMENT, CONTROL), (A_A,)):
        for group in groups:
            here = [m for _, _, m in _measured(sweep, [group], arms)]
            for metric, key in keys_of(group).items():
                runs = [m.by_run(key, LAST_MINUS_FIRST, arms) for m in here if key in m.values]
                found = [parts for of in runs if (parts := components(of)) is not None]
                if found:
                    chain, seed = np.sqrt(np.mean(found, axis=0)[:2]).tolist()
                    size = (int(found[0][2]), int(found[0][3]), len(found))
                    yield Scatter(group.name, metric, " - ".join(arms), chain, seed, *size)


def components(runs: dict[tuple[int, int], float]) -> tuple[float, float, int, int] | None:
    """Variance between chains beyond seeds (0 or more) and between seeds of a chain (NaN with one
    seed), chains, seeds; runs: (chain, seed) -> value. None with one chain."""
    by_chain: dict[int, list[float]] = {}
    for (chain, _), value in runs.items():
        by_chain.setdefault(chain, []).append(value)
    if len(by_chain) < 2:
        return None
    seeds = min(len(values) for values in by_chain.values())
    means = float(np.var([np.mean(values) for values in by_chain.values()], ddof=1))
    if seeds < 2:
        return means, NAN, len(by_chain), seeds
    within = float(np.mean([np.var(values, ddof=1) for values in by_chain.values()]))
    return max(means - within / seeds, 0.0), within, len(by_chain), seeds
