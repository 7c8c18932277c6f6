"""Readings of the arms of one group, trial by trial, from the same image draws in every arm.

Decides which trials are compared (none that collapsed in either arm) and which readings of the
fairness metrics are at hand. Knows no claim.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.dynamics.choices import LOG_ODDS_RANKS
from ray_selfloop.dynamics.contrasts import (
    Contrast,
    Mask,
    Trial,
    applied,
    usable_in_all,
    weights,
)
from ray_selfloop.dynamics.statements import RANK_GAP, RANK_MEAN
from ray_selfloop.evaluation import fairness
from ray_selfloop.evaluation.outcomes import Floats, Ids, Outcome, TestSet, without_subgroups
from ray_selfloop.evaluation.readings import (
    Plan,
    all_readings,
    cross_fitted,
    di_classes,
    rate_readings,
    subgroup_readings,
)
from ray_selfloop.evaluation.reliance import reliance_readings
from ray_selfloop.evaluation.tallies import Tally, permuted, resampled

PAIR = TREATMENT, CONTROL = "treatment", "no_synthetic"
RANKED_METRICS = ("ranked_accuracy", "ranked_cross_fitted", LOG_ODDS_RANKS)
Key = tuple[str, str]  # metric key of the results table, subgroup or ""
Quality = Mapping[str, Mapping[tuple[str, int, int], float]]


@dataclass(frozen=True)
class Arm:
    """One scenario with its trials. group: scenarios that differ in the arm alone share it.

    initialization: "" where the dataset has none. quality: a generator's metric -> (chain's
    classifier or "", loop seed, generation) -> value before the filter. not_converged: why its
    generator is too poor for a verdict on bias; "" where it is not.
    """

    scenario: str
    group: str
    arm: str
    dataset: str
    initialization: str
    pretrained: bool
    outcomes: Sequence[Outcome]
    test: TestSet
    quality: Quality = field(default_factory=dict)
    not_converged: str = ""


def same_images(a: TestSet, b: TestSet) -> bool:
    """Whether two test sets have the same rows, so that trials can be paired by image."""
    columns = ("labels", "subgroups", "units")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in columns)


@dataclass(frozen=True)
class Measured:
    """One classifier in the arms of one group; T trials.

    values: ``(1 + R, T)`` by key, draw 0 observed. null: ``(P, T)``, subgroups permuted; NaN in
    the trials of arms other than treatment and control. sound: ``(T,)``, not collapsed. last: N.
    """

    trials: tuple[Trial, ...]
    sound: Mask
    values: Mapping[Key, Floats]
    null: Mapping[Key, Floats]
    last: int

    def contrast(
        self, key: Key, estimand: str, arms: tuple[str, str], common: Sequence[str] = ()
    ) -> Contrast:
        """``arms[0]`` minus ``arms[1]``; with ``common`` only where all those arms are usable."""
        values = self.values[key]
        usable = self.sound & ~np.isnan(values[0])
        if common:
            usable &= usable_in_all(self.trials, usable, common)
        by_chain = weights(self.trials, usable, arms, self.last, estimand)
        null = applied(by_chain, self.null[key]) if key in self.null else None
        return Contrast(tuple(by_chain), applied(by_chain, values), null)


def _without_last(tally: Tally, plan: Plan) -> Iterator[tuple[Key, Floats]]:
    """MEO, DI and MD with subgroup G left out, as ``i, j < G`` is printed in eq. 2 to 4."""
    hits, support = tally.hits[..., :-1], tally.support[..., :-1]
    pooled = fairness.ratio(hits.sum(axis=-2), support.sum(axis=-2))
    rates, used = fairness.ratio(hits, support), plan.di_classes
    yield ("meo_pooled_without_last", ""), fairness.meo(pooled, plan.ordered)
    yield ("md_pooled_without_last", ""), fairness.md(pooled)
    yield ("di_pooled_without_last", ""), fairness.di(pooled, plan.ordered)
    meo, md = fairness.meo(rates, plan.ordered), fairness.md(rates)
    yield ("meo_per_class_without_last", ""), fairness.mean_defined(meo)
    yield ("md_per_class_without_last", ""), fairness.mean_defined(md)
    di = np.where(used, fairness.di(rates, plan.ordered), 0.0).sum(axis=-1)
    classes = used.sum(axis=-1).astype(np.float64)
    yield ("di_per_class_without_last", ""), fairness.ratio(di, classes)


def _read(tally: Tally, plan: Plan, observed: bool) -> dict[Key, Floats]:
    """Readings over all classes by key; of permuted subgroups those that permuting changes."""
    if plan.test.groups < 2:
        accuracy = (r for r in rate_readings(tally, plan) if r.metric == "accuracy")
        return {(r.metric, ""): r.values for r in accuracy} if observed else {}
    found = all_readings(tally, plan) if observed else subgroup_readings(tally, plan, False)
    read = {
        (r.metric, r.subgroup): np.ascontiguousarray(r.values)
        for r in found
        if not r.cls and not r.metric.startswith("tpr")
    }
    if observed:
        logits = cross_fitted(tally, plan, fairness.log_odds)
        ranks = (np.ascontiguousarray(logits[..., k]) for k in range(plan.test.groups))
        read |= {(LOG_ODDS_RANKS, f"rank {k + 1}"): values for k, values in enumerate(ranks)}
    for metric in RANKED_METRICS if observed else RANKED_METRICS[:2]:
        best, worst = read[metric, f"rank {plan.test.groups}"], read[metric, "rank 1"]
        read[metric, RANK_GAP], read[metric, RANK_MEAN] = best - worst, 0.5 * (best + worst)
    if plan.test.groups > 2:
        read |= dict(_without_last(tally, plan))
    return read


def _place(outcome: Outcome) -> tuple[int, int, int]:
    return outcome.loop_seed, outcome.seed, outcome.generation


def _chosen(classifier: str, arms: Mapping[str, Arm], last: int) -> Iterator[tuple[str, Outcome]]:
    """Treatment and control in all generations; after them the others, first and last alone."""
    for name in sorted(arms, key=lambda name: (name not in PAIR, name)):
        for outcome in sorted(arms[name].outcomes, key=_place):
            wanted = name in PAIR or outcome.generation in (0, last)
            if outcome.classifier == classifier and outcome.generation <= last and wanted:
                yield name, outcome


def _di_classes(correct: Mask, outcomes: list[Outcome], test: TestSet, seed: int) -> Mask:
    """Classes whose DI is defined in every sound trial of a run, in all arms: ``(T, C)``."""
    tally = resampled(correct, test, 0, seed)
    pairs = sorted({(o.loop_seed, o.seed) for o in outcomes})
    runs = [
        -1 - t if o.collapsed else pairs.index((o.loop_seed, o.seed))
        for t, o in enumerate(outcomes)
    ]
    return di_classes(tally.hits[0], tally.support, np.array(runs))


def _bases(trials: Sequence[Trial], sound: Mask) -> Ids:
    """Generation 0 of each trial's run, ``(T,)``; -1 where it is missing or collapsed."""
    at = {trial: t for t, trial in enumerate(trials) if sound[t]}
    return np.array([at.get(replace(trial, generation=0), -1) for trial in trials], np.int64)


def measure(classifier: str, arms: Mapping[str, Arm], settings: Evaluation) -> Measured | None:
    """One classifier's readings in all arms of a group (arm -> Arm); None without a treatment.

    Arms are tallied one after another: the image draws depend on the seed and the test set alone,
    so they are the same draws, and no arm's counts have to stay in memory.
    """
    treated = arms[TREATMENT].outcomes if TREATMENT in arms else ()
    last = max((o.generation for o in treated if o.classifier == classifier), default=0)
    if not last:
        return None
    chosen = list(_chosen(classifier, arms, last))
    outcomes = [outcome for _, outcome in chosen]
    trials = tuple(Trial(arm, o.loop_seed, o.seed, o.generation) for arm, o in chosen)
    test = arms[TREATMENT].test
    test = test if test.groups else without_subgroups(test)
    correct: Mask = np.stack([np.asarray(o.predictions) == test.labels for o in outcomes])
    classes = _di_classes(correct, outcomes, test, settings.seed)
    sound: Mask = np.array([not o.collapsed for o in outcomes])
    values: list[_ArmReadings] = []
    null: list[_ArmReadings] = []
    for arm in dict.fromkeys(trial.arm for trial in trials):
        rows = np.flatnonzero([trial.arm == arm for trial in trials])
        bases = _bases([trials[t] for t in rows], sound[rows])
        plan = Plan(test, settings.ordered, bases, classes[rows])
        tally = resampled(correct[rows], test, settings.resamples, settings.seed)
        reliance = reliance_readings([outcomes[t] for t in rows], plan, settings)
        removed = {(r.metric, ""): r.values for r in reliance}
        values.append((rows, _read(tally, plan, observed=True) | removed))
        if arm in PAIR:
            tally = permuted(correct[rows], test, settings.permutations, settings.seed)
            null.append((rows, _read(tally, plan, observed=False)))
    return Measured(
        trials,
        sound,
        _joined(values, (1 + settings.resamples, len(trials))),
        _joined(null, (settings.permutations, len(trials))),
        last,
    )


_ArmReadings = tuple[Ids, Mapping[Key, Floats]]  # the arm's rows among the trials, its readings


def _joined(arms: Sequence[_ArmReadings], shape: tuple[int, int]) -> dict[Key, Floats]:
    """Readings of all trials; NaN where an arm lacks one (no changes where generation 0 is all)."""
    joined: dict[Key, Floats] = {}
    for rows, found in arms:
        for key, values in found.items():
            joined.setdefault(key, np.full(shape, np.nan))[:, rows] = values
    return joined
