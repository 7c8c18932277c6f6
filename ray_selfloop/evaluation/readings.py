"""Every number of the results table that is computed from a tally, one array at a time.

Decides which readings exist (pooled, per class, by share rank). Knows nothing of means, intervals
or rows: a reading is an array over draws and trials, reduced elsewhere.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.evaluation import fairness
from ray_selfloop.evaluation.outcomes import Floats, Ids, TestSet
from ray_selfloop.evaluation.tallies import Tally

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Reading:
    """values: ``(B, T)``. cls and subgroup: "" for all.

    changes: has a change since generation 0. floored: means something under permuted subgroups.
    root: the table also gets ``gap_rms``, the root of the (averaged) value.
    rows: of a rate: the independent test rows behind it; else 0.
    """

    metric: str
    values: Floats
    cls: str = ""
    subgroup: str = ""
    changes: bool = True
    floored: bool = True
    root: bool = False
    rows: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What all readings of one classifier share.

    base: ``(T,)``, the trial of generation 0 with the same chain and seed, or -1.
    di_classes: ``(T, C)``, the classes over which DI is averaged: those where it is defined in
        every generation of the chain and seed, so that generations are comparable.
    """

    test: TestSet
    ordered: bool
    base: Ids
    di_classes: Mask


def di_classes(hits: Floats, support: Floats, runs: Ids) -> Mask:
    """``(T, C, G)`` observed hits and the run (chain x seed) of each trial -> mask ``(T, C)``."""
    defined = ~np.isnan(fairness.di(fairness.ratio(hits, support), ordered=False))
    common = np.empty_like(defined)
    for run in np.unique(runs):
        common[runs == run] = defined[runs == run].all(axis=0)
    return common


def _scalars(rates: Floats, logits: Floats, ordered: bool) -> Iterator[tuple[str, Floats]]:
    """The metrics of one set of subgroups; ``(..., G) -> (...)``."""
    yield "meo", fairness.meo(rates, ordered)
    yield "di", fairness.di(rates, ordered)
    yield "di_min_max", fairness.di_min_max(rates)
    yield "md", fairness.md(rates)
    yield "log_odds_gap", fairness.md(logits)
    yield "log_odds_gap_mean", fairness.mean_gap(logits)


def _over_classes(metric: str, values: Floats, plan: Plan) -> Floats:
    """Mean over classes ``(B, T, C) -> (B, T)``; DI over its common classes, all of them."""
    if metric != "di":
        return fairness.mean_defined(values)
    total = np.where(plan.di_classes, values, 0.0).sum(axis=-1)  # a NaN in a used class stays
    return fairness.ratio(total, plan.di_classes.sum(axis=-1).astype(np.float64))


def _shrinkage(tally: Tally, rates: Floats) -> Floats:
    """``(T, C, G)``: how far the observed rates stand out from their class by noise alone.

    ``(1 - s) (p_cg - mean_g p_cg)`` with ``s^2`` the share of the variance of the rates, mean over
    classes, that is no sampling noise (0..1).
    """
    (true, _), (raw, _) = _variances(replace(tally, hits=tally.hits[:1], spread=_first(tally)))
    signal = np.sqrt(np.clip(np.nan_to_num(fairness.ratio(true[0], raw[0])), 0.0, 1.0))
    apart = rates[0] - fairness.mean_defined(rates[0])[..., None]
    return (1.0 - signal)[:, None, None] * apart


def _first(tally: Tally) -> Floats | None:
    return None if tally.spread is None else tally.spread[:1]


def _without_noise_twice(metric: str, values: Floats, rates: Floats, noise: Floats, plan: Plan
                         ) -> Floats:  # fmt: skip
    """Bootstrap draws of a gap's mean over classes, around rates that scatter as the true ones do.

    A resample of observed rates adds noise to rates that hold it already. Drawn around rates from
    which the noise's share is taken (`_shrinkage`), errors are those of the estimate itself.
    Nominal 95 % intervals of `md_per_class` at CIFAR's test counts, true 0.06 / 0.20 / 0.40:
    cover 93 / 95 / 89 %, a plain bootstrap 54 / 95 / 89 %. At a true gap of 0 they cover 61 (0) %:
    that is what the floor is for.
    """
    gap = {"md": fairness.md, "meo": lambda r: fairness.meo(r, plan.ordered)}.get(metric)
    if gap is None or len(values) == 1:
        return values
    centre = fairness.mean_defined(gap(rates[0] - noise))
    drawn = fairness.mean_defined(gap(rates[1:] - noise))
    return np.concatenate([values[:1], values[:1] + drawn - centre])


def _gaps(tally: Tally, plan: Plan, bootstrap: bool) -> Iterator[Reading]:
    test = plan.test
    rates, logits = (
        fairness.ratio(tally.hits, tally.support),
        fairness.log_odds(tally.hits, tally.support),
    )
    noise = _shrinkage(tally, rates) if bootstrap else None
    for metric, values in _scalars(rates, logits, plan.ordered):
        mean = _over_classes(metric, values, plan)
        if noise is not None:
            mean = _without_noise_twice(metric, mean, rates, noise, plan)
        yield Reading(f"{metric}_per_class", mean)
        for label, name in enumerate(test.class_names):
            yield Reading(metric, values[..., label], cls=name, changes=False)
    hits, support = tally.hits.sum(axis=-2), tally.support.sum(axis=-2)
    pooled, logits = fairness.ratio(hits, support), fairness.log_odds(hits, support)
    for metric, values in _scalars(pooled, logits, plan.ordered):
        yield Reading(f"{metric}_pooled", values)
    yield Reading("worst_subgroup_pooled", fairness.worst(pooled))
    flat = rates.reshape(*rates.shape[:-2], -1)
    yield Reading("worst_subgroup_per_class", fairness.worst(flat))


def _by_share_rank(tally: Tally, plan: Plan) -> Iterator[Reading]:
    """Subgroups of all classes pooled by the rank of their training share."""
    levels = None if plan.test.pooled else fairness.share_levels(plan.test.train_shares)
    if levels is None:
        return
    hits = np.stack([(tally.hits * mask).sum(axis=(-2, -1)) for mask in levels], axis=-1)
    support = np.array([(tally.support * mask).sum() for mask in levels])
    rates, logits = fairness.ratio(hits, support), fairness.log_odds(hits, support)
    for metric, values in _scalars(rates, logits, plan.ordered):
        yield Reading(f"{metric}_by_share_rank", values)
    middle = [f"share {k + 1}" for k in range(1, len(levels) - 1)]
    for k, name in enumerate(["majority", *middle, "minority"]):
        rows = float(support[k])
        yield Reading("tpr_by_share_rank", rates[..., k], subgroup=name, floored=False, rows=rows)


def cross_fitted(tally: Tally, plan: Plan, scale: Callable[[Floats, Floats], Floats]) -> Floats:
    """Eq. 5 with ranks from one half of the test images at generation 0 and values on the other,
    halves swapped and averaged: ``(B, T, G)``; NaN for a trial without a generation 0.

    scale: (hits, support) -> the values, `ratio` for the accuracy of eq. 5.
    """
    halves = (
        (tally.half_hits, tally.half_support[:, None]),
        (tally.hits - tally.half_hits, tally.support - tally.half_support[:, None]),
    )
    first, second = (fairness.ratio(*half) for half in halves)
    on_first, on_second = (scale(*half) for half in halves)
    crossed = 0.5 * (
        fairness.ranked_by(first[:, plan.base], on_second)
        + fairness.ranked_by(second[:, plan.base], on_first)
    )
    return np.where((plan.base >= 0)[:, None], crossed, np.nan)


def _ranks(tally: Tally, plan: Plan) -> Iterator[Reading]:
    in_sample = fairness.ranked(fairness.ratio(tally.hits, tally.support))
    crossed = cross_fitted(tally, plan, fairness.ratio)
    for k in range(plan.test.groups):
        yield Reading("ranked_accuracy", in_sample[..., k], subgroup=f"rank {k + 1}")
        yield Reading("ranked_cross_fitted", crossed[..., k], subgroup=f"rank {k + 1}")


def gap_variances(tally: Tally, bootstrap: bool) -> tuple[Floats, Floats]:
    """Unbiased variance of the true subgroup rates, ``(B, T)`` per class (mean) and pooled.

    Resampling adds the test images' noise once more, so that bootstrap draws scatter around the
    uncorrected variance; they are moved back to scatter around the estimate.
    """
    corrected, raw = _variances(tally)
    if not bootstrap:
        return corrected
    centred = [
        np.concatenate([v[:1], v[1:] - (r[:1] - v[:1])])
        for v, r in zip(corrected, raw, strict=True)
    ]
    return centred[0], centred[1]


def _variances(tally: Tally) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Of per-class (mean) and pooled rates ``(B, T)``: variance without and with the noise."""
    h, n = tally.hits, tally.support
    if tally.spread is None:
        classes, pooled = fairness.gap_variance(h, n), fairness.gap_variance_pooled(h, n)
    else:
        classes = fairness.gap_variance_crossed(h, n, tally.spread)
        pooled = fairness.gap_variance_pooled_crossed(h, n, tally.spread)
    corrected, raw = (fairness.mean_defined(part) for part in classes)
    return (corrected, pooled[0]), (raw, pooled[1])


def _level_parts(tally: Tally, plan: Plan, bootstrap: bool) -> Iterator[Reading]:
    """The change of MEO, MD and gap variance since generation 0 in two parts that add up to it."""
    if (plan.base == np.arange(len(plan.base))).all():
        return  # nothing is later than generation 0
    start = tally.hits[:, plan.base]
    n = np.where(tally.support > 0, tally.support, 0.0)
    now = fairness.ratio(tally.hits, tally.support)
    before = fairness.ratio(start, tally.support)
    moved = fairness.level_moved(tally.hits, start, tally.support)
    origin = np.where(tally.support > 0, (start + 0.5) / (tally.support + 1.0), np.nan)

    def pool(rates: Floats) -> Floats:
        return fairness.ratio(np.where(n > 0, n * rates, 0.0).sum(axis=-2), n.sum(axis=-2))

    for metric in ("meo", "md"):
        for reading in ("pooled", "per_class"):

            def gap(rates: Floats, metric: str = metric, reading: str = reading) -> Floats:
                r = pool(rates) if reading == "pooled" else rates
                g = fairness.md(r) if metric == "md" else fairness.meo(r, plan.ordered)
                return g if reading == "pooled" else fairness.mean_defined(g)

            level = gap(moved) - gap(origin)
            rest = gap(now) - gap(before) - level
            yield from _split(f"{metric}_{reading}", level, rest, plan)
    # B^2 itself is unbiased, its plug-in is not: the level part scales it as it scales the plug-in
    squared = gap_variances(tally, bootstrap)[0]
    scale = fairness.ratio(_plug_in_variance(moved), _plug_in_variance(origin))
    level = squared[:, plan.base] * (np.nan_to_num(scale, nan=1.0) - 1.0)
    rest = squared - squared[:, plan.base] - level
    yield from _split("gap_variance_per_class", level, rest, plan)


def _split(name: str, level: Floats, rest: Floats, plan: Plan) -> Iterator[Reading]:
    """The two parts of a change; NaN for a trial without a generation 0."""
    for part, values in (("level", level), ("distribution", rest)):
        defined = np.where(plan.base >= 0, values, np.nan)
        yield Reading(f"{name}_change_{part}", defined, changes=False)


def _plug_in_variance(rates: Floats) -> Floats:
    """Mean over classes of the variance of their subgroup rates: ``(B, T, C, G) -> (B, T)``."""
    centred = rates - fairness.mean_defined(rates)[..., None]
    return fairness.mean_defined(fairness.mean_defined(centred**2))


def subgroup_readings(tally: Tally, plan: Plan, bootstrap: bool) -> Iterator[Reading]:
    """What permuting subgroups changes: these readings have a floor.

    bootstrap: draws are resamples of the observed rows, not permutations.
    """
    yield from _gaps(tally, plan, bootstrap)
    yield from _ranks(tally, plan)
    yield from _by_share_rank(tally, plan)
    yield from _level_parts(tally, plan, bootstrap)
    per_class, pooled = gap_variances(tally, bootstrap)
    yield Reading("gap_variance_per_class", per_class, root=True)
    yield Reading("gap_variance_pooled", pooled, root=True)


def rate_readings(tally: Tally, plan: Plan) -> Iterator[Reading]:
    """Accuracy and true positive rates."""
    test, total = plan.test, tally.support.sum()
    accuracy, units = tally.hits.sum(axis=(-2, -1)) / total, float(tally.units.sum())
    yield Reading("accuracy", accuracy, floored=False, rows=units)
    rates = fairness.ratio(tally.hits, tally.support)
    weight = test.train_shares * (tally.support.sum(axis=-1, keepdims=True) / total)
    used = np.where(weight > 0, weight * np.where(weight > 0, rates, 0.0), 0.0)
    yield Reading("accuracy_reweighted", used.sum(axis=(-2, -1)), floored=False)
    pooled = fairness.ratio(tally.hits.sum(axis=-2), tally.support.sum(axis=-2))
    for g, subgroup in enumerate(test.subgroup_names):
        rows = float(tally.support[:, g].sum())
        yield Reading("tpr", pooled[..., g], subgroup=subgroup, floored=False, rows=rows)
        for c, name in enumerate(test.class_names):
            cell, rows = rates[..., c, g], float(tally.support[c, g])
            yield Reading("tpr", cell, name, subgroup, changes=False, floored=False, rows=rows)


def all_readings(tally: Tally, plan: Plan) -> Iterator[Reading]:
    """Every reading of a bootstrap tally."""
    yield from rate_readings(tally, plan)
    yield from subgroup_readings(tally, plan, bootstrap=True)
