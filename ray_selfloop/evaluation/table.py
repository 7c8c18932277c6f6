"""The results table: every classifier metric with its interval, its change and its floor.

Decides what is averaged over what: classifier seeds within a chain, then chains, and never a
collapsed classifier. What a metric is, is decided in `readings`; what the keys mean, in `names`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation import names
from ray_selfloop.evaluation.fairness import ratio
from ray_selfloop.evaluation.fidelity import wilson
from ray_selfloop.evaluation.intervals import band, over_chains, reverse_percentile
from ray_selfloop.evaluation.outcomes import Floats, Ids, Outcome, TestSet, without_subgroups
from ray_selfloop.evaluation.readings import (
    Plan,
    Reading,
    all_readings,
    cross_fitted,
    di_classes,
    rate_readings,
    subgroup_readings,
)
from ray_selfloop.evaluation.reliance import defined, kinds_of, reliance_readings
from ray_selfloop.evaluation.rows import Rows, Where
from ray_selfloop.evaluation.tallies import Tally, permuted, resampled
from ray_selfloop.evaluation.trends import slope_weights

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Trials:
    """One classifier's trials in canonical order, and which of them a mean takes.

    sound: ``(T,)``, not collapsed. changed: ``(T,)``, sound after and at generation 0.
    """

    outcomes: list[Outcome]
    plan: Plan
    settings: Evaluation
    sound: Mask
    changed: Mask

    @property
    def classifier(self) -> str:
        return self.outcomes[0].classifier

    def where(self, t: int) -> Where:
        """The keys of trial t."""
        o = self.outcomes[t]
        return Where(o.loop_seed, o.generation, o.classifier, o.seed)

    def mean_of(self, generation: int) -> Where:
        """The keys of a generation's mean."""
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


def _base(outcomes: list[Outcome]) -> Ids:
    """Of each trial, the trial of generation 0 with the same chain and seed; -1 without one."""
    start = {(o.loop_seed, o.seed): t for t, o in enumerate(outcomes) if o.generation == 0}
    return np.array([start.get((o.loop_seed, o.seed), -1) for o in outcomes], np.int64)


def _trials(
    outcomes: list[Outcome], hits: Floats, support: Floats, test: TestSet, settings: Evaluation
) -> _Trials:
    base = _base(outcomes)
    sound = np.array([not o.collapsed for o in outcomes])
    changed = sound & (base >= 0) & sound[base] & np.array([o.generation > 0 for o in outcomes])
    # a collapsed trial must not decide which classes the sound ones share
    pairs = sorted({(o.loop_seed, o.seed) for o in outcomes})
    runs = np.array([pairs.index((o.loop_seed, o.seed)) for o in outcomes])
    runs = np.where(sound, runs, -1 - np.arange(len(outcomes)))
    plan = Plan(test, settings.ordered, base, di_classes(hits, support, runs))
    return _Trials(outcomes, plan, settings, sound, changed)


def _keys(metric: str, test: TestSet, suffix: str) -> list[str]:
    """The key of a reading, and beside it the one without a reading where this one applies.

    gap_rms is a within-class number by definition: its pooled reading never applies.
    """
    pooled = test.pooled and not metric.startswith("gap_")
    stem, slash, kind = metric.partition("/")
    key = f"{stem}{suffix}{slash}{kind}"
    plain = re.sub(f"_{'pooled' if pooled else 'per_class'}(?=_|$)", "", key)
    return [key] if plain == key else [key, plain]


def _write(rows: Rows, reading: Reading, keys: list[str], ends: Sequence[float], where: Where
           ) -> None:  # fmt: skip
    for key in keys:
        rows.add(key, ends, where, (reading.cls, reading.subgroup))


def _root_keys(keys: list[str]) -> list[str]:
    return [key.replace("gap_variance", "gap_rms") for key in keys]


def _seed_means(values: Floats, chains: list[Ids]) -> Floats:
    """Mean over each chain's seeds: ``(B, T) -> (B, m)``."""
    return np.column_stack([values[:, seeds].sum(axis=1) / len(seeds) for seeds in chains])


def _measured(
    rows: Rows, trials: _Trials, reading: Reading, values: Floats, used: Mask, suffix: str
) -> None:
    """Rows of each trial, then of each generation's mean over seeds and chains."""
    level = trials.settings.level
    low, high = reverse_percentile(values, level)
    places = [(trials.where(int(t)), (values[0, t], low[t], high[t])) for t in np.flatnonzero(used)]
    for generation, chains in trials.chains(used).items():
        means = _seed_means(values, chains)
        places.append((trials.mean_of(generation), over_chains(means, level)))
    if reading.rows and not suffix:
        places = [(where, _of_rate(reading, where, ends, level)) for where, ends in places]
    keys = _keys(reading.metric, trials.plan.test, suffix)
    for where, ends in places:
        _write(rows, reading, keys, ends, where)
        if reading.root and not suffix:
            roots = np.sqrt(
                np.maximum(ends, 0.0)
            )  # of the mean variance: a mean of roots is biased
            _write(rows, reading, _root_keys(keys), roots.tolist(), where)


def _of_rate(
    reading: Reading, where: Where, ends: tuple[float, float, float], level: float
) -> tuple[float, float, float]:
    """Wilson's interval for one trial's rate of a cell, and for any rate of exactly 0 or 1.

    Cells are small, and resampling rows that are all right (or all wrong) gives no width at all.
    Several seeds or chains show the same rows: a mean of 0 or 1 counts as one of them.
    """
    cell = where.seed is not None and bool(reading.cls)
    if np.isnan(ends[0]) or not (cell or ends[0] in (0.0, 1.0)):
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
    """The trials that a reading is written for."""
    if "_change_" in metric:
        return trials.changed
    if metric == "ranked_cross_fitted":  # its ranks are those of generation 0
        return trials.sound & (trials.plan.base >= 0) & trials.sound[trials.plan.base]
    return trials.sound


def _reading_rows(rows: Rows, trials: _Trials, readings: Iterable[Reading], floor: bool) -> None:
    write = _floor if floor else _measured
    for reading in readings:
        if floor and not reading.floored:
            continue
        reading = replace(reading, values=np.ascontiguousarray(reading.values))
        write(rows, trials, reading, reading.values, _used(trials, reading.metric), "")
        if reading.metric == "accuracy":
            _collapsed_accuracy(rows, trials, reading)
        if reading.changes and trials.changed.any():
            change = reading.values - reading.values[:, trials.plan.base]
            write(rows, trials, reading, change, trials.changed, "_change")


def _collapsed_accuracy(rows: Rows, trials: _Trials, reading: Reading) -> None:
    """A collapsed classifier keeps its accuracy in the table, and nothing of fairness."""
    low, high = reverse_percentile(reading.values, trials.settings.level)
    for t in np.flatnonzero(~trials.sound):
        ends = (reading.values[0, t], low[t], high[t])
        rows.add(reading.metric, ends, trials.where(int(t)))


def _count_rows(rows: Rows, trials: _Trials, undefined: Ids) -> None:
    """Collapsed, trials in the mean, and classes without a DI; values without intervals."""
    for t, o in enumerate(trials.outcomes):
        rows.add("collapsed", [float(o.collapsed)], trials.where(t))
        if trials.sound[t] and trials.plan.test.groups > 1:
            rows.add("di_undefined", [float(undefined[t])], trials.where(t))
    generations = np.array([o.generation for o in trials.outcomes])
    for generation in np.unique(generations).tolist():
        sound = trials.sound[generations == generation]
        where = trials.mean_of(generation)
        rows.add("collapsed", [float((~sound).mean())], where)
        rows.add("trials", [float(sound.sum())], where)
        if sound.any() and trials.plan.test.groups > 1:
            here = undefined[(generations == generation) & trials.sound]
            rows.add("di_undefined", [float(here.mean())], where)


def _flips(before: Mask, after: Mask, paired: bool) -> dict[str, float]:
    """Shares lost and gained, and where the rows are independent McNemar's exact p value."""
    lost, gained, size = int((before & ~after).sum()), int((~before & after).sum()), len(before)
    if not size:
        return {}
    values = {"flips_lost": lost / size, "flips_gained": gained / size}
    if paired:
        values["mcnemar_p"] = binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    return values


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
    chains = _slopes_by_chain(trials, _used(trials, "ranked_cross_fitted"))
    groups = trials.plan.test.groups
    if not chains or groups < 2:
        return
    series = {f"rank {k + 1}": ranks[..., k] for k in range(groups)}
    series[names.GAP] = ranks[..., -1] - ranks[..., 0]
    for subgroup, values in series.items():
        draws = np.column_stack([values[:, w != 0] @ w[w != 0] for w in chains])
        ends = over_chains(draws, trials.settings.level)
        where = Where(classifier=trials.classifier)
        rows.add("ranked_cross_fitted_slope", ends, where, ("", subgroup))


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
        rows.add(f"ablation_undefined/{kind}", [count], Where())


def _support_rows(rows: Rows, test: TestSet) -> None:
    for g, subgroup in enumerate(test.subgroup_names):
        member = test.subgroups == g
        rows.add("support", [float(member.sum())], Where(), ("", subgroup))
        for c, name in enumerate(test.class_names):
            count = float((member & (test.labels == c)).sum())
            rows.add("support", [count], Where(), (name, subgroup))


def _classifier_rows(
    rows: Rows, outcomes: list[Outcome], test: TestSet, settings: Evaluation
) -> None:
    correct: Mask = np.stack([np.asarray(o.predictions) == test.labels for o in outcomes])
    plain = test.groups == 0
    subgrouped = without_subgroups(test) if plain else test
    tally = resampled(correct, subgrouped, settings.resamples, settings.seed)
    trials = _trials(outcomes, tally.hits[0], tally.support, subgrouped, settings)
    reliance = reliance_readings(outcomes, trials.plan, settings)
    _reading_rows(rows, trials, reliance, floor=False)
    if plain:
        accuracy = [r for r in rate_readings(tally, trials.plan) if r.metric == "accuracy"]
        _reading_rows(rows, trials, accuracy, floor=False)
        _count_rows(rows, trials, np.zeros(len(outcomes), np.int64))
        return
    _reading_rows(rows, trials, all_readings(tally, trials.plan), floor=False)
    _slope_rows(rows, trials, tally)
    zero = ((tally.hits[0] == 0) & (tally.support > 0)).any(axis=-1).sum(axis=-1)
    null = permuted(correct, test, settings.permutations, settings.seed)
    _reading_rows(rows, trials, subgroup_readings(null, trials.plan, bootstrap=False), floor=True)
    _count_rows(rows, trials, zero)
    _flip_rows(rows, trials, correct)


def fairness_rows(
    scenario: str, outcomes: list[Outcome], test: TestSet, settings: Evaluation
) -> pd.DataFrame:
    """All rows of one scenario's classifiers, with the columns of `rows.COLUMNS`.

    Rows with a ``seed`` belong to one trial; its interval is the image bootstrap. Rows without
    ``seed`` and ``loop_seed`` are means over seeds, then over chains, of the trials that did not
    collapse; see `names` for keys and intervals. The rows do not depend on the order of
    ``outcomes`` or of the test rows. Resamples and permutations are the same for every trial.
    """
    ordered = sorted(outcomes, key=lambda o: (o.classifier, o.loop_seed, o.seed, o.generation))
    rows = Rows(scenario, "test")
    _support_rows(rows, test)
    _undefined_rows(rows, ordered)
    for classifier in sorted({o.classifier for o in ordered}):
        chosen = [o for o in ordered if o.classifier == classifier]
        _classifier_rows(rows, chosen, test, settings)
    return rows.frame()
