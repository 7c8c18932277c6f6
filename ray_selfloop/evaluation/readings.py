"""Every number of the results table that is computed from a tally, one array at a time.

Decides which readings exist (pooled, per class, by share rank). Knows nothing of means, intervals
or rows: a reading is an array over draws and trials, reduced elsewhere.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.evaluation import difficulty, fairness, metrics, noise, split
from ray_selfloop.evaluation.predictions import Floats, Ids, TestSet
from ray_selfloop.evaluation.tallies import Tally

Mask = NDArray[np.bool_]


LEAST_RESPONSE = 0.5  # nearer to no true gap at all the floor is the thing to look at


@dataclass(frozen=True)
class Reading:
    """values: ``(B, T)``. cls and subgroup: "" for all.

    changes: has a change since generation 0. floored: means something under permuted subgroups.
    root: the table also gets ``gap_rms``, the root of the (averaged) value.
    rows: of a rate: the independent test rows behind it; else 0.
    response: ``(T,)``, of a gap: by how much it grows with the true one; None: by as much.
    """

    metric: str
    values: Floats
    cls: str = ""
    subgroup: str = ""
    changes: bool = True
    floored: bool = True
    root: bool = False
    rows: float = 0.0
    response: Floats | None = None

    @property
    def corrected(self) -> Floats:
        """``(B, T)``: draws that scatter as the value less its bias does.

        Bias is the larger the smaller the true gap is taken for: a value that noise has raised is
        corrected by too little, and the error of what comes out is the value's over `response`.
        """
        if self.response is None or len(self.values) == 1:
            return self.values
        mean = self.values[1:].mean(axis=0)  # NaN where a draw is: then nothing is stretched
        apart = (self.values[1:] - mean) / np.maximum(self.response, LEAST_RESPONSE)
        drawn = np.where(np.isnan(mean), self.values[1:], mean + apart)
        return np.concatenate([self.values[:1], drawn])


@dataclass(frozen=True)
class Plan:
    """What all readings of one classifier share.

    base: ``(T,)``, the trial of generation 0 with the same chain and seed, or -1.
    di_classes: ``(T, C)``, the classes over which DI is averaged: those where it is defined in
        every generation of the chain and seed, so that generations are comparable.
    pool: ``(T,)``, trials with the same number have gaps of one size as far as is known (one
        generation's); left out: each trial alone, and those of generation 0 together.
    """

    test: TestSet
    ordered: bool
    base: Ids
    di_classes: Mask
    pool: Ids = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def later(self) -> bool:
        """Whether any trial is later than generation 0."""
        return bool((self.base != np.arange(len(self.base))).any())

    @property
    def pools(self) -> Ids:
        """``(T,)``."""
        if len(self.pool):
            return self.pool
        alone = np.arange(len(self.base))
        return np.where(self.base == alone, -1, alone)


def di_classes(hits: Floats, support: Floats, runs: Ids) -> Mask:
    """``(T, C, G)`` observed hits and the run (chain x seed) of each trial -> mask ``(T, C)``."""
    defined = ~np.isnan(fairness.di(fairness.ratio(hits, support), ordered=False))
    common = np.empty_like(defined)
    for run in np.unique(runs):
        common[runs == run] = defined[runs == run].all(axis=0)
    return common


def _scalars(hits: Floats, support: Floats, ordered: bool) -> Iterator[tuple[str, Floats]]:
    """The metrics of one set of subgroups; ``(..., G) -> (...)``."""
    scales = {metrics.Reads.RATES: fairness.ratio, metrics.Reads.LOG_ODDS: fairness.log_odds}
    for reads, scale in scales.items():
        values = scale(hits, support)
        yield from ((one.name, one.of(values, ordered)) for one in metrics.reading(reads))


def over_classes(metric: str, values: Floats, plan: Plan) -> Floats:
    """Mean over classes ``(B, T, C) -> (B, T)``; DI over its common classes, all of them."""
    if metric != metrics.DI.name:
        return fairness.mean_defined(values)
    total = np.where(plan.di_classes, values, 0.0).sum(axis=-1)  # a NaN in a used class stays
    return fairness.ratio(total, plan.di_classes.sum(axis=-1).astype(np.float64))


def _gaps(tally: Tally, plan: Plan) -> Iterator[Reading]:
    test = plan.test
    for metric, values in _scalars(tally.hits, tally.support, plan.ordered):
        yield Reading(f"{metric}_per_class", over_classes(metric, values, plan))
        for label, name in enumerate(test.class_names):
            yield Reading(metric, values[..., label], cls=name, changes=False)
    hits, support = tally.hits.sum(axis=-2), tally.support.sum(axis=-2)
    for metric, values in _scalars(hits, support, plan.ordered):
        yield Reading(f"{metric}_pooled", values)
    worst, cells = metrics.WORST_SUBGROUP, fairness.ratio(tally.hits, tally.support)
    yield Reading(worst.read("pooled"), fairness.worst(fairness.ratio(hits, support)))
    flat = cells.reshape(*cells.shape[:-2], -1)
    yield Reading(worst.read("per_class"), fairness.worst(flat))


def _by_share_rank(tally: Tally, plan: Plan) -> Iterator[Reading]:
    """Subgroups of all classes pooled by the rank of their training share."""
    levels = None if plan.test.pooled else fairness.share_levels(plan.test.train_shares)
    if levels is None:
        return
    hits = np.stack([(tally.hits * mask).sum(axis=(-2, -1)) for mask in levels], axis=-1)
    support = np.array([(tally.support * mask).sum() for mask in levels])
    for metric, values in _scalars(hits, support, plan.ordered):
        yield Reading(f"{metric}_by_share_rank", values)
    rates = fairness.ratio(hits, support)
    middle = [f"share {k + 1}" for k in range(1, len(levels) - 1)]
    for k, name in enumerate(["majority", *middle, "minority"]):
        rows = float(support[k])
        key = metrics.TPR.read("by_share_rank")
        yield Reading(key, rates[..., k], subgroup=name, floored=False, rows=rows)


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


def _by_rank(metric: str, values: Floats) -> Iterator[Reading]:
    for k in range(values.shape[-1]):
        yield Reading(metric, values[..., k], subgroup=f"rank {k + 1}")


def _cross_fitted(tally: Tally, plan: Plan) -> Iterator[Reading]:
    crossed = cross_fitted(tally, plan, fairness.ratio)
    yield from _by_rank(metrics.RANKED_CROSS_FITTED.name, crossed)


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
    counts = tally.hits, tally.support, tally.spread
    corrected, raw = map(fairness.mean_defined, fairness.gap_variance(*counts))
    of_pooled, raw_pooled = fairness.gap_variance_pooled(*counts)
    return (corrected, of_pooled), (raw, raw_pooled)


def _level_gaps(plan: Plan, support: Floats) -> Iterator[tuple[str, split.Gap]]:
    """Metric key -> the gap of rates ``(..., C, G)`` whose change is split."""
    n = np.where(support > 0, support, 0.0)

    def pool(rates: Floats) -> Floats:
        return fairness.ratio(np.where(n > 0, n * rates, 0.0).sum(axis=-2), n.sum(axis=-2))

    def meo(rates: Floats) -> Floats:
        return fairness.meo(rates, plan.ordered)

    for metric, gap in ((metrics.MEO, meo), (metrics.MD, fairness.md)):
        yield metric.read("pooled"), lambda rates, gap=gap: gap(pool(rates))  # type: ignore[misc]
        yield metric.read("per_class"), lambda rates, gap=gap: fairness.mean_defined(gap(rates))  # type: ignore[misc]


def _level_parts(found: dict[str, Floats], world: split.Mechanical, tally: Tally, plan: Plan
                 ) -> Iterator[Reading]:  # fmt: skip
    """The change of MEO, MD and gap variance since generation 0 in two parts that add up to it.

    found: the readings' values ``(B, T)`` by metric key.
    """
    for metric, gap in _level_gaps(plan, tally.support):
        change = found[metric] - found[metric][:, plan.base]
        drawn, expected = world.changes(gap), world.expected(gap, metric.endswith("pooled"))
        yield from _split(metric, change, expected + drawn - drawn[:1], plan)
    metric = READ_VARIANCES[0]  # unbiased at generation 0, so that its multiple is
    start = found[metric][:, plan.base]
    yield from _split(metric, found[metric] - start, start * (world.drawn_scale - 1.0), plan)


def _split(name: str, change: Floats, level: Floats, plan: Plan) -> Iterator[Reading]:
    """The two parts of a change; NaN for a trial without a generation 0."""
    for part, values in (("level", level), ("distribution", change - level)):
        defined = np.where(plan.base >= 0, values, np.nan)
        yield Reading(metrics.with_suffix(name, f"change_{part}"), defined, changes=False)


def _plug_ins(tally: Tally, plan: Plan) -> Iterator[Reading]:
    yield from _gaps(tally, plan)
    in_sample = fairness.ranked(fairness.ratio(tally.hits, tally.support))
    yield from _by_rank(metrics.RANKED_ACCURACY.name, in_sample)
    yield from _by_share_rank(tally, plan)


def around_truth(seen: Iterator[Reading], drawn: Iterator[Reading]) -> Iterator[Reading]:
    """Observed values with errors around the truth: draw r is ``v + drawn_r - drawn_0``."""
    for one, other in zip(seen, drawn, strict=True):
        values = np.concatenate([one.values, one.values + other.values[1:] - other.values[:1]])
        yield replace(one, values=values)


def _drawn_readings(tally: Tally, plan: Plan, shrunk: noise.Shrinkage) -> Iterator[Reading]:
    """Readings of resamples laid around rates without the noise's share.

    A resample of observed rates adds noise to rates that hold it already. Drawn around rates from
    which the noise's share is taken, errors are those of the estimate itself, and so is the bias
    that intervals take off.
    """
    truth = shrunk(fairness.ratio(tally.hits[0], tally.support))
    first, whole = tally.first, noise.around(tally, truth)
    plug_ins = around_truth(_plug_ins(first, plan), _plug_ins(whole, plan))
    halves = _cross_fitted(noise.halves_around(tally, truth), plan)
    crossed = around_truth(_cross_fitted(first, plan), halves)
    for reading in chain(plug_ins, crossed):
        of_pooled = "_pooled" in reading.metric or "_by_share_rank" in reading.metric
        response = shrunk.pooled_response if of_pooled else shrunk.response
        yield reading if reading.rows else replace(reading, response=response)
    (classes, pooled), _ = _variances(first)
    _, raws = _variances(whole)
    for name, seen, raw in zip(READ_VARIANCES, (classes, pooled), raws, strict=True):
        values = np.concatenate([seen, seen + raw[1:] - raw[1:].mean(axis=0)])
        yield Reading(name, values, root=True)


READ_VARIANCES = tuple(metrics.GAP_VARIANCE.read(of) for of in ("per_class", "pooled"))


def _null_readings(tally: Tally, plan: Plan) -> Iterator[Reading]:
    yield from _plug_ins(tally, plan)
    yield from _cross_fitted(tally, plan)
    for name, values in zip(READ_VARIANCES, gap_variances(tally, False), strict=True):
        yield Reading(name, values, root=True)


def subgroup_readings(tally: Tally, plan: Plan, bootstrap: bool) -> Iterator[Reading]:
    """What permuting subgroups changes: these readings have a floor.

    bootstrap: draws are resamples of the observed rows, not permutations.
    """
    resampled = bootstrap and len(tally.hits) > 1
    shrunk = noise.shrinkage(tally, plan.pools) if resampled else None
    readings = _drawn_readings(tally, plan, shrunk) if shrunk else _null_readings(tally, plan)
    found = {}
    for reading in readings:
        if not reading.cls:
            found[reading.metric] = reading.values
        yield reading
    if plan.later:
        yield from _level_parts(found, _mechanical(tally, plan, shrunk), tally, plan)


def _mechanical(tally: Tally, plan: Plan, shrunk: noise.Shrinkage | None) -> split.Mechanical:
    """Of resamples (shrunk given) or of permutations."""
    sd = float(np.nan_to_num(difficulty.estimated(tally, plan.base)))
    if shrunk is None:
        return split.permuted_mechanical(tally, plan.base, plan.pools, sd)
    return split.mechanical(tally, shrunk, plan.base, plan.pools, sd)


def rate_readings(tally: Tally, plan: Plan) -> Iterator[Reading]:
    """Accuracy, the first of them, and true positive rates."""
    test, total = plan.test, tally.support.sum()
    accuracy, units = tally.hits.sum(axis=(-2, -1)) / total, float(tally.units.sum())
    yield Reading(metrics.ACCURACY.name, accuracy, floored=False, rows=units)
    rates = fairness.ratio(tally.hits, tally.support)
    weight = test.train_shares * (tally.support.sum(axis=-1, keepdims=True) / total)
    used = np.where(weight > 0, weight * np.where(weight > 0, rates, 0.0), 0.0)
    yield Reading(metrics.ACCURACY_REWEIGHTED.name, used.sum(axis=(-2, -1)), floored=False)
    pooled = fairness.ratio(tally.hits.sum(axis=-2), tally.support.sum(axis=-2))
    for g, subgroup in enumerate(test.subgroup_names):
        rows = float(tally.support[:, g].sum())
        name = metrics.TPR.name
        yield Reading(name, pooled[..., g], subgroup=subgroup, floored=False, rows=rows)
        for c, cls in enumerate(test.class_names):
            cell, rows = rates[..., c, g], float(tally.support[c, g])
            yield Reading(name, cell, cls, subgroup, changes=False, floored=False, rows=rows)


def all_readings(tally: Tally, plan: Plan) -> Iterator[Reading]:
    """Every reading of a bootstrap tally."""
    yield from rate_readings(tally, plan)
    yield from subgroup_readings(tally, plan, bootstrap=True)
