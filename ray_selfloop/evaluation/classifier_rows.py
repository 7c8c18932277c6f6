"""The results table: every classifier metric with its interval, its change and its floor.

Decides what is averaged over what: classifier seeds within a chain, then chains; of fairness never
a collapsed classifier, of accuracy all of them (by intention to treat: a loop that ruins
classifiers must not look better for it). Decides where an interval is left out
(`metrics.Metric.least`). What a metric is, is decided in `readings`; what the keys mean, in
`metrics`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation import difficulty, end_states, metrics
from ray_selfloop.evaluation.ablation.readings import defined, kinds_of, reliance_readings
from ray_selfloop.evaluation.against_rest import against_rest, drawn_against_rest
from ray_selfloop.evaluation.fairness import ratio
from ray_selfloop.evaluation.predictions import (
    Floats,
    Ids,
    Outcome,
    TestSet,
    confusions,
    right,
    without_subgroups,
)
from ray_selfloop.evaluation.readings import (
    Plan,
    Reading,
    all_readings,
    cross_fitted,
    di_classes,
    rate_readings,
    subgroup_readings,
)
from ray_selfloop.evaluation.rows import NAN, Rows, Where
from ray_selfloop.evaluation.states import OF_STATE
from ray_selfloop.evaluation.tallies import (
    Tally,
    mistaken,
    permuted,
    permuted_mistaken,
    resampled,
)
from ray_selfloop.inference.chains import over_chains, slope_weights
from ray_selfloop.inference.images import band, mcnemar, reverse_percentile, wilson

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Trials:
    """One classifier's trials in canonical order, and which of them a mean takes.

    support: ``(C, G)`` test rows. base: ``(T,)``, generation 0 of each trial's run, collapsed or
    not, or -1; ``plan.base`` is -1 where that one collapsed. sound: ``(T,)``, not collapsed.
    """

    outcomes: list[Outcome]
    plan: Plan
    settings: Evaluation
    support: Floats
    base: Ids
    sound: Mask

    @property
    def changed(self) -> Mask:
        """``(T,)``: later than generation 0, and sound at both ends."""
        return self.sound & (self.plan.base >= 0) & self.later

    @property
    def later(self) -> Mask:
        """``(T,)``: later than generation 0."""
        return np.array([o.generation > 0 for o in self.outcomes])

    @property
    def classifier(self) -> str:
        return self.outcomes[0].classifier

    def where(self, t: int) -> Where:
        o = self.outcomes[t]
        return Where(o.loop_seed, o.generation, o.classifier, o.seed)

    def mean_of(self, generation: int) -> Where:
        return Where(generation=generation, classifier=self.classifier)

    def chains(self, used: Mask) -> dict[int, list[Ids]]:
        """generation -> for each chain the trials (its seeds) that a mean takes."""
        groups: dict[int, dict[int, list[int]]] = {}
        for t in np.flatnonzero(used):
            outcome = self.outcomes[t]
            chain = groups.setdefault(outcome.generation, {}).setdefault(outcome.loop_seed, [])
            chain.append(int(t))
        return {
            generation: [np.asarray(seeds, np.int64) for seeds in by_chain.values()]
            for generation, by_chain in groups.items()
        }


def _trials(
    outcomes: list[Outcome], hits: Floats, support: Floats, test: TestSet, settings: Evaluation
) -> _Trials:
    start = {(o.loop_seed, o.seed): t for t, o in enumerate(outcomes) if o.generation == 0}
    base = np.array([start.get((o.loop_seed, o.seed), -1) for o in outcomes], np.int64)
    sound = np.array([not o.collapsed for o in outcomes])
    alone = -1 - np.arange(len(outcomes))
    # a collapsed trial must not decide which classes the sound ones share, nor how they scatter
    pairs = sorted({(o.loop_seed, o.seed) for o in outcomes})
    runs = np.array([pairs.index((o.loop_seed, o.seed)) for o in outcomes])
    classes = di_classes(hits, support, np.where(sound, runs, alone))
    pool = np.where(sound, [o.generation for o in outcomes], alone)
    sound_base = np.where((base >= 0) & sound[base], base, -1)
    plan = Plan(test, settings.ordered, sound_base, classes, pool)
    return _Trials(outcomes, plan, settings, support, base, sound)


def _keys(metric: str, test: TestSet, suffix: str) -> list[str]:
    """The key of a reading, and beside it the one without a reading where this one applies.

    gap_rms is a within-class number by definition: its pooled reading never applies.
    """
    pooled = test.pooled and not metrics.describe(metric).within_class
    key = metrics.with_suffix(metric, suffix)
    plain = re.sub(f"_{'pooled' if pooled else 'per_class'}(?=_|$)", "", key)
    return [key] if plain == key else [key, plain]


def _write(rows: Rows, reading: Reading, keys: list[str], ends: Sequence[float], where: Where
           ) -> None:  # fmt: skip
    for key in keys:
        rows.add(key, ends, where, (reading.cls, reading.subgroup))


def _root_keys(keys: list[str]) -> list[str]:
    return [key.replace(metrics.GAP_VARIANCE.name, metrics.GAP_RMS.name) for key in keys]


def _seed_means(values: Floats, chains: list[Ids]) -> Floats:
    """Mean over each chain's seeds: ``(B, T) -> (B, m)``."""
    return np.column_stack([values[:, seeds].sum(axis=1) / len(seeds) for seeds in chains])


def _over_images(draws: Floats, level: float) -> tuple[Floats, Floats]:
    """Interval over the test images of these classifiers: ``(1 + R, ...) -> (...)`` twice.

    Normal, around the value less its bootstrap bias, widened to the value. Cells are small, rates
    near 1: the mirrored quantiles of `reverse_percentile` lie on the wrong side there, and cover 1
    to 4 points less (benchmarks/interval_coverage.py). Missing where those are.
    """
    missing = np.isnan(reverse_percentile(draws, level)[0])
    known = ~np.isnan(draws[1:])
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, draws[1:], 0.0).sum(axis=0) / count
    apart = np.where(known, draws[1:] - mean, 0.0)
    error = ((apart**2).sum(axis=0) / np.maximum(count - 1, 1)) ** 0.5
    reach = float(ndtri(0.5 + level / 2)) * error
    centre = 2.0 * draws[0] - mean
    low, high = np.minimum(centre - reach, draws[0]), np.maximum(centre + reach, draws[0])
    return np.where(missing, np.nan, low), np.where(missing, np.nan, high)


def _measured(
    rows: Rows, trials: _Trials, reading: Reading, values: Floats, used: Mask, suffix: str
) -> None:
    """Rows of each trial, then of each generation's mean over seeds and chains."""
    level = trials.settings.level
    low, high = _over_images(values, level)
    keys = _keys(reading.metric, trials.plan.test, suffix)
    if _smallest_cell(trials, reading) < metrics.describe(keys[0]).least:
        low, high = np.full_like(low, NAN), np.full_like(high, NAN)
    places = [(trials.where(int(t)), (values[0, t], low[t], high[t])) for t in np.flatnonzero(used)]
    for generation, chains in trials.chains(used).items():
        means = _seed_means(values, chains)
        if len(chains) > 1:
            ends = over_chains(means, level)
        else:  # the test images alone, where trials have an interval
            alone = _over_images(means[:, 0], level) if not np.isnan(low).all() else (NAN, NAN)
            ends = float(means[0, 0]), float(alone[0]), float(alone[1])
        places.append((trials.mean_of(generation), ends))
    if reading.rows and not suffix:
        places = [(where, _of_rate(reading, where, ends, level)) for where, ends in places]
    for where, ends in places:
        _write(rows, reading, keys, ends, where)
        if reading.root and not suffix:
            roots = np.sqrt(np.maximum(ends, 0.0))  # of the mean: a mean of roots is biased
            _write(rows, reading, _root_keys(keys), roots.tolist(), where)


def _smallest_cell(trials: _Trials, reading: Reading) -> float:
    """Test rows of the smallest cell with any behind a reading: of a subgroup over all classes for
    a pooled one, else of a class and subgroup."""
    support = trials.support
    if "_pooled" in reading.metric or "_by_share_rank" in reading.metric:
        support = support.sum(axis=0)
    elif reading.cls:
        support = support[trials.plan.test.class_names.index(reading.cls)]
    return float(support[support > 0].min())


def _of_rate(
    reading: Reading, where: Where, ends: tuple[float, float, float], level: float
) -> tuple[float, float, float]:
    """Wilson's interval for one trial's rate of a subgroup, and for any rate of exactly 0 or 1.

    Cells are small, and resampling rows that are all right (or all wrong) gives no width at all.
    Several seeds or chains show the same rows: a mean of 0 or 1 counts as one of them.
    """
    of_rows = where.seed is not None and reading.metric.startswith(metrics.TPR.name)
    if np.isnan(ends[0]) or not (of_rows or ends[0] in (0.0, 1.0)):
        return ends
    return wilson(round(ends[0] * reading.rows), round(reading.rows), level)


def _floor(
    rows: Rows, trials: _Trials, reading: Reading, values: Floats, used: Mask, suffix: str
) -> None:
    """Floor rows of each trial, then of each generation's mean: all from the same permutations."""
    places = [(trials.where(int(t)), values[:, t]) for t in np.flatnonzero(used)]
    for generation, chains in trials.chains(used).items():
        mean = _seed_means(values, chains).mean(axis=1)
        places.append((trials.mean_of(generation), mean))
    if not places:
        return
    keys = [f"{key}_floor" for key in _keys(reading.metric, trials.plan.test, suffix)]
    draws = np.stack([column for _, column in places], axis=1)
    ends = np.stack(band(draws, trials.settings.level), axis=1)
    roots = np.stack(band(np.sqrt(np.maximum(draws, 0.0)), trials.settings.level), axis=1)
    for i, (where, _) in enumerate(places):
        _write(rows, reading, keys, ends[i].tolist(), where)
        if reading.root and not suffix:
            _write(rows, reading, _root_keys(keys), roots[i].tolist(), where)


def _used(trials: _Trials, metric: str) -> Mask:
    if metric == metrics.ACCURACY.name:
        return np.ones_like(trials.sound)
    if "_change_" in metric:
        return trials.changed
    if metric == metrics.RANKED_CROSS_FITTED.name:  # its ranks are those of generation 0
        return trials.sound & (trials.plan.base >= 0)
    return trials.sound


def _changed(trials: _Trials, metric: str) -> tuple[Mask, Ids]:
    """The trials that a change is written for, and where each of them started."""
    if metric == metrics.ACCURACY.name:
        return trials.later & (trials.base >= 0), trials.base
    return trials.changed, trials.plan.base


def _reading_rows(rows: Rows, trials: _Trials, readings: Iterable[Reading], floor: bool) -> None:
    write = _floor if floor else _measured
    for reading in readings:
        if floor and not reading.floored:
            continue
        values = np.ascontiguousarray(reading.corrected)
        write(rows, trials, reading, values, _used(trials, reading.metric), "")
        changed, base = _changed(trials, reading.metric)
        if reading.changes and changed.any():
            change = values - values[:, base]
            write(rows, trials, reading, change, changed, "change")


def _count_rows(rows: Rows, trials: _Trials, undefined: Ids) -> None:
    """Collapsed, trials and chains in the means, and classes without a DI; without intervals."""
    for t, o in enumerate(trials.outcomes):
        rows.add(metrics.COLLAPSED.name, [float(o.collapsed)], trials.where(t))
        if trials.sound[t] and trials.plan.test.groups > 1:
            rows.add(metrics.DI_UNDEFINED.name, [float(undefined[t])], trials.where(t))
    generations = np.array([o.generation for o in trials.outcomes])
    for generation in np.unique(generations).tolist():
        sound = trials.sound[generations == generation]
        where = trials.mean_of(generation)
        rows.add(metrics.COLLAPSED.name, [float((~sound).mean())], where)
        rows.add(metrics.TRIALS.name, [float(sound.sum())], where)
        rows.add(metrics.TRIALS_ACCURACY.name, [float(len(sound))], where)
        chains = trials.chains(trials.sound).get(generation, [])
        rows.add(metrics.CHAINS.name, [float(len(chains))], where)
        if sound.any() and trials.plan.test.groups > 1:
            here = undefined[(generations == generation) & trials.sound]
            rows.add(metrics.DI_UNDEFINED.name, [float(here.mean())], where)


def _state_rows(rows: Rows, trials: _Trials) -> None:
    """End states of all trials, and the share in each."""
    words = end_states.of_predictions(confusions(trials.outcomes, trials.plan.test))
    generations = np.array([o.generation for o in trials.outcomes])
    for state, metric in OF_STATE.items():
        here = (words == state).astype(np.float64)
        for t, value in enumerate(here.tolist()):
            rows.add(metric.name, [value], trials.where(t))
        for n in np.unique(generations).tolist():
            rows.add(metric.name, [float(here[generations == n].mean())], trials.mean_of(n))


def _flips(before: Mask, after: Mask, paired: bool) -> dict[str, float]:
    """Shares lost and gained, and where the rows are independent McNemar's exact p value."""
    lost, gained, size = int((before & ~after).sum()), int((~before & after).sum()), len(before)
    if not size:
        return {}
    p = {metrics.MCNEMAR_P.name: mcnemar(lost, gained)} if paired else {}
    return {metrics.FLIPS_LOST.name: lost / size, metrics.FLIPS_GAINED.name: gained / size, **p}


def _flip_rows(rows: Rows, trials: _Trials, correct: Mask) -> None:
    """Test rows lost and gained since generation 0, in all and by subgroup.

    McNemar's test needs independent rows: with crossed units it is made within subgroups only.
    """
    test = trials.plan.test
    masks = {"": np.ones(len(test.labels), np.bool_)}
    masks |= {name: test.subgroups == g for g, name in enumerate(test.subgroup_names)}
    for t in np.flatnonzero(trials.changed):
        before, after = correct[trials.plan.base[t]], correct[t]
        for subgroup, mask in masks.items():
            independent = bool(subgroup) or not test.crossed
            for key, value in _flips(before[mask], after[mask], independent).items():
                rows.add(key, [value], trials.where(int(t)), ("", subgroup))


def _slope_rows(rows: Rows, trials: _Trials, tally: Tally) -> None:
    """Slopes of the cross-fitted ranks and of best minus worst: a mean over seeds, then chains."""
    ranks = cross_fitted(tally, trials.plan, ratio)
    chains = _slopes_by_chain(trials, _used(trials, metrics.RANKED_CROSS_FITTED.name))
    groups = trials.plan.test.groups
    if not chains or groups < 2:
        return
    series = {f"rank {k + 1}": ranks[..., k] for k in range(groups)}
    series[metrics.GAP] = ranks[..., -1] - ranks[..., 0]
    for subgroup, values in series.items():
        draws = np.column_stack([values[:, w != 0] @ w[w != 0] for w in chains])
        ends = over_chains(draws, trials.settings.level)
        where = Where(classifier=trials.classifier)
        rows.add(metrics.RANKED_CROSS_FITTED_SLOPE.name, ends, where, ("", subgroup))


def _slopes_by_chain(trials: _Trials, used: Mask) -> list[Floats]:
    """Of each chain the weights ``(T,)`` of the mean slope of its seeds."""
    last = max(o.generation for o in trials.outcomes)
    runs: dict[tuple[int, int], list[int]] = {}
    for t in np.flatnonzero(used):
        outcome = trials.outcomes[t]
        runs.setdefault((outcome.loop_seed, outcome.seed), []).append(int(t))
    chains: dict[int, list[Floats]] = {}
    for (chain, _), members in runs.items():
        slope = slope_weights([trials.outcomes[t].generation for t in members], last)
        if slope is not None:
            weights = np.zeros(len(trials.outcomes))
            weights[members] = slope
            chains.setdefault(chain, []).append(weights)
    return [np.mean(seeds, axis=0) for seeds in chains.values()]


def _undefined_rows(rows: Rows, outcomes: Sequence[Outcome]) -> None:
    """Test images in which an ablation is not defined: a fact of the images, not of a trial."""
    for kind in kinds_of(outcomes):
        count = float((~defined(outcomes, [kind])).any(axis=0).sum())
        rows.add(f"{metrics.ABLATION_UNDEFINED.name}/{kind}", [count], Where())


def _support_rows(rows: Rows, test: TestSet) -> None:
    for g, subgroup in enumerate(test.subgroup_names):
        member = test.subgroups == g
        rows.add(metrics.SUPPORT.name, [float(member.sum())], Where(), ("", subgroup))
        for c, name in enumerate(test.class_names):
            count = float((member & (test.labels == c)).sum())
            rows.add(metrics.SUPPORT.name, [count], Where(), (name, subgroup))


def _classifier_rows(
    rows: Rows, outcomes: list[Outcome], test: TestSet, settings: Evaluation
) -> None:
    correct = right(outcomes, test)
    plain = test.groups == 0
    subgrouped = without_subgroups(test) if plain else test
    tally = resampled(correct, subgrouped, settings.resamples, settings.seed)
    trials = _trials(outcomes, tally.hits[0], tally.support, subgrouped, settings)
    _state_rows(rows, trials)
    reliance = reliance_readings(outcomes, trials.plan, settings)
    _reading_rows(rows, trials, reliance, floor=False)
    if plain:
        accuracy = next(rate_readings(tally, trials.plan))
        _reading_rows(rows, trials, [accuracy], floor=False)
        _count_rows(rows, trials, np.zeros(len(outcomes), np.int64))
        return
    _reading_rows(rows, trials, all_readings(tally, trials.plan), floor=False)
    _slope_rows(rows, trials, tally)
    shown = difficulty.estimated(tally, trials.plan.base)
    rows.add(metrics.DIFFICULTY.name, [shown], Where(classifier=trials.classifier))
    zero = ((tally.hits[0] == 0) & (tally.support > 0)).any(axis=-1).sum(axis=-1)
    null = permuted(correct, test, settings.permutations, settings.seed)
    _reading_rows(rows, trials, subgroup_readings(null, trials.plan, bootstrap=False), floor=True)
    if test.alike:
        _against_rest_rows(rows, trials, tally, null)
    _count_rows(rows, trials, zero)
    _flip_rows(rows, trials, correct)


def _against_rest_rows(rows: Rows, trials: _Trials, tally: Tally, null: Tally) -> None:
    """Of each class against all others, and the floors: in the draws of these tallies."""
    settings, test = trials.settings, trials.plan.test
    predictions = np.stack([np.asarray(o.predictions, np.int64) for o in trials.outcomes])
    drawn = mistaken(predictions, test, settings.resamples, settings.seed)
    readings = drawn_against_rest(tally, drawn, trials.plan)
    _reading_rows(rows, trials, readings, floor=False)
    floors = permuted_mistaken(predictions, test, settings.permutations, settings.seed)
    _reading_rows(rows, trials, against_rest(null, floors, trials.plan), floor=True)


def fairness_rows(
    scenario: str, outcomes: list[Outcome], test: TestSet, settings: Evaluation
) -> pd.DataFrame:
    """All rows of one scenario's classifiers, with the columns of `rows.COLUMNS`.

    Rows with a ``seed`` belong to one trial; its interval is the image bootstrap. Rows without
    ``seed`` and ``loop_seed`` are means over seeds, then over chains, of the trials that did not
    collapse (`accuracy`: of all trials); see `metrics` for keys and intervals. The rows do not
    depend on the order of ``outcomes`` or of the test rows. Resamples and permutations are the
    same for every trial.
    """
    ordered = sorted(outcomes, key=lambda o: (o.classifier, o.loop_seed, o.seed, o.generation))
    rows = Rows(scenario, "test")
    _support_rows(rows, test)
    _undefined_rows(rows, ordered)
    for classifier in sorted({o.classifier for o in ordered}):
        chosen = [o for o in ordered if o.classifier == classifier]
        _classifier_rows(rows, chosen, test, settings)
    return rows.frame()
