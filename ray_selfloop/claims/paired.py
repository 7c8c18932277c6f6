"""Readings of the arms of one group, trial by trial, from the same image draws in every arm.

Decides which trials are compared and which readings are at hand. Accuracy is by intention to treat:
collapsed trials stay in it, because what the loop did to a user includes the collapse. Fairness is
of the trials that collapsed in neither arm, and who reads it is told how many are missing. Knows no
claim.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

import numpy as np

from ray_selfloop.claims.contrasts import (
    SCATTER,
    Contrast,
    Mask,
    Trial,
    applied,
    run_weights,
    scattered,
    usable_in_all,
    weights,
)
from ray_selfloop.claims.other_readings import GAPS, LOG_ODDS_RANKS, RANKED, WITHOUT_LAST
from ray_selfloop.claims.statements import RANK_GAP, RANK_MEAN
from ray_selfloop.config import arms as loop_arms
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation import fairness
from ray_selfloop.evaluation.ablation.readings import reliance_readings
from ray_selfloop.evaluation.metrics import ACCURACY, TPR
from ray_selfloop.evaluation.predictions import (
    Floats,
    Ids,
    Outcome,
    TestSet,
    right,
    without_subgroups,
)
from ray_selfloop.evaluation.readings import (
    Plan,
    all_readings,
    cross_fitted,
    di_classes,
    over_classes,
    rate_readings,
)
from ray_selfloop.evaluation.tallies import Tally, resampled

PAIR = TREATMENT, CONTROL = loop_arms.TREATMENT.name, loop_arms.CONTROL.name
Place = tuple[int, int, int]  # loop seed, classifier seed, generation
Key = tuple[str, str]  # metric key of the results table, subgroup or ""
Quality = Mapping[str, Mapping[tuple[str, int, int], float]]


@dataclass(frozen=True)
class Arm:
    """One scenario with its trials. group: scenarios that differ in the arm alone share it.

    classifiers, generations: as the settings have them, whatever was published of them. subgroups:
    G, 0 where the dataset has none. initialization: "" where the dataset has none. test: None
    before there are data. quality: a generator's metric -> (chain's classifier or "", loop seed,
    generation) -> value before the filter. not_converged: why its generator is too poor for a
    verdict on bias; "" where it is not. gates: the same at earlier looks, by number of chains.
    """

    scenario: str
    group: str
    arm: str
    dataset: str
    initialization: str
    pretrained: bool
    classifiers: tuple[str, ...]
    generations: int
    subgroups: int
    pooled: bool
    outcomes: Sequence[Outcome] = ()
    test: TestSet | None = None
    quality: Quality = field(default_factory=dict)
    not_converged: str = ""
    regime: str = "stack"
    gates: Mapping[int, str] = field(default_factory=dict)

    def of(self, seeds: Sequence[int]) -> "Arm":
        """With the classifiers of these loop seeds alone."""
        outcomes = [o for o in self.outcomes if o.loop_seed in seeds]
        poor = self.gates.get(len(seeds), self.not_converged)
        return replace(self, outcomes=outcomes, not_converged=poor)


def same_images(a: TestSet | None, b: TestSet | None) -> bool:
    """Whether two test sets have the same rows, so that trials can be paired by image; before there
    are data they are taken to have."""
    if a is None or b is None:
        return True
    columns = ("labels", "subgroups", "units")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in columns)


@dataclass(frozen=True)
class Measured:
    """One classifier in the arms of one group; T trials.

    values: ``(1 + R, T)`` by key, draw 0 observed. sound: ``(T,)``, not collapsed. undefined:
    ``(T, C)``, classes whose DI is not defined in a trial. last: N.
    """

    trials: tuple[Trial, ...]
    sound: Mask
    values: Mapping[Key, Floats]
    undefined: Mask
    last: int

    def contrast(
        self, key: Key, estimand: str, arms: Sequence[str], common: Sequence[str] = ()
    ) -> Contrast:
        """``arms[0]``, minus ``arms[1]`` if given; with ``common`` only where all those arms are
        usable."""
        usable = self.usable(key)
        if common:
            usable &= usable_in_all(self.trials, usable, common)
        values = self.values[key]
        if estimand == SCATTER:
            return scattered(self.trials, usable, arms, self.last, values)
        by_chain = weights(self.trials, usable, arms, self.last, estimand)
        return Contrast(tuple(by_chain), applied(by_chain, values))

    def by_run(self, key: Key, estimand: str, arms: Sequence[str]) -> dict[tuple[int, int], float]:
        """The observed estimand of each run, (chain, classifier seed) -> value."""
        found = run_weights(self.trials, self.usable(key), arms, self.last, estimand)
        observed = np.nan_to_num(self.values[key][0])
        return {run: float(w @ observed) for run, w in found.items()}

    def usable(self, key: Key) -> Mask:
        """The trials that enter a contrast of a reading: of accuracy all, else the sound ones."""
        known: Mask = ~np.isnan(self.values[key][0])
        return known if key[0] == ACCURACY.name else known & self.sound

    def later(self, arm: str) -> dict[Place, bool]:
        """Of each trial of an arm after generation 0 whether it is sound."""
        return {
            (t.loop_seed, t.seed, t.generation): bool(self.sound[i])
            for i, t in enumerate(self.trials)
            if t.arm == arm and t.generation > 0
        }

    def di_undefined(self, arm: str) -> frozenset[int]:
        """The classes whose DI is not defined in some sound trial of an arm."""
        rows = [i for i, t in enumerate(self.trials) if t.arm == arm and self.sound[i]]
        return frozenset(np.flatnonzero(self.undefined[rows].any(axis=0)).tolist())


def _without_last(tally: Tally, plan: Plan) -> Iterator[tuple[Key, Floats]]:
    """MEO, DI and MD with subgroup G left out, as ``i, j < G`` is printed in eq. 2 to 4."""
    hits, support = tally.hits[..., :-1], tally.support[..., :-1]
    pooled = fairness.ratio(hits.sum(axis=-2), support.sum(axis=-2))
    rates = fairness.ratio(hits, support)
    for gap in GAPS:
        classes = over_classes(gap.name, gap.of(rates, plan.ordered), plan)
        yield (f"{gap.read('pooled')}{WITHOUT_LAST}", ""), gap.of(pooled, plan.ordered)
        yield (f"{gap.read('per_class')}{WITHOUT_LAST}", ""), classes


def _read(tally: Tally, plan: Plan) -> dict[Key, Floats]:
    """Readings over all classes by key."""
    if plan.test.groups < 2:
        return {(ACCURACY.name, ""): next(rate_readings(tally, plan)).values}
    read = {
        (r.metric, r.subgroup): np.ascontiguousarray(r.values)
        for r in all_readings(tally, plan)
        if not r.cls and not r.metric.startswith(TPR.name)
    }
    logits = cross_fitted(tally, plan, fairness.log_odds)
    ranks = (np.ascontiguousarray(logits[..., k]) for k in range(plan.test.groups))
    read |= {(LOG_ODDS_RANKS, f"rank {k + 1}"): values for k, values in enumerate(ranks)}
    for metric in RANKED:
        best, worst = read[metric, f"rank {plan.test.groups}"], read[metric, "rank 1"]
        read[metric, RANK_GAP], read[metric, RANK_MEAN] = best - worst, 0.5 * (best + worst)
    if plan.test.groups > 2:
        read |= dict(_without_last(tally, plan))
    return read


def _chosen(classifier: str, arms: Mapping[str, Arm], last: int) -> Iterator[tuple[str, Outcome]]:
    """Treatment and control in all generations; after them the others, first and last alone."""
    for name in sorted(arms, key=lambda name: (name not in PAIR, name)):
        for outcome in sorted(
            arms[name].outcomes, key=attrgetter("loop_seed", "seed", "generation")
        ):
            wanted = name in PAIR or outcome.generation in (0, last)
            if outcome.classifier == classifier and outcome.generation <= last and wanted:
                yield name, outcome


def _di(correct: Mask, outcomes: list[Outcome], test: TestSet, seed: int) -> tuple[Mask, Mask]:
    """Two masks ``(T, C)``: classes whose DI is defined in every sound trial of a run, in all arms;
    and those whose DI is not defined in the trial itself."""
    tally = resampled(correct, test, 0, seed)
    pairs = sorted({(o.loop_seed, o.seed) for o in outcomes})
    runs = [
        -1 - t if o.collapsed else pairs.index((o.loop_seed, o.seed))
        for t, o in enumerate(outcomes)
    ]
    common = di_classes(tally.hits[0], tally.support, np.array(runs))
    own = fairness.di(fairness.ratio(tally.hits[0], tally.support), ordered=False)
    return common, np.isnan(own)


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
    if not any(o.classifier == classifier and o.generation for o in treated):
        return None
    last = arms[TREATMENT].generations  # of the settings: an unfinished sweep has no last one yet
    chosen = list(_chosen(classifier, arms, last))
    outcomes = [outcome for _, outcome in chosen]
    trials = tuple(Trial(arm, o.loop_seed, o.seed, o.generation) for arm, o in chosen)
    test = arms[TREATMENT].test
    assert test is not None, "outcomes have a test set"
    test = test if test.groups else without_subgroups(test)
    correct = right(outcomes, test)
    classes, undefined = _di(correct, outcomes, test, settings.seed)
    sound: Mask = np.array([not o.collapsed for o in outcomes])
    values: list[_ArmReadings] = []
    for arm in dict.fromkeys(trial.arm for trial in trials):
        rows = np.flatnonzero([trial.arm == arm for trial in trials])
        bases = _bases([trials[t] for t in rows], sound[rows])
        plan = Plan(test, settings.ordered, bases, classes[rows])
        tally = resampled(correct[rows], test, settings.resamples, settings.seed)
        reliance = reliance_readings([outcomes[t] for t in rows], plan, settings)
        removed = {(r.metric, ""): r.values for r in reliance}
        values.append((rows, _read(tally, plan) | removed))
    joined = _joined(values, (1 + settings.resamples, len(trials)))
    return Measured(trials, sound, joined, undefined, last)


_ArmReadings = tuple[Ids, Mapping[Key, Floats]]  # the arm's rows among the trials, its readings


def _joined(arms: Sequence[_ArmReadings], shape: tuple[int, int]) -> dict[Key, Floats]:
    """Readings of all trials; NaN where an arm lacks one (no changes where generation 0 is all)."""
    joined: dict[Key, Floats] = {}
    for rows, found in arms:
        for key, values in found.items():
            joined.setdefault(key, np.full(shape, np.nan))[:, rows] = values
    return joined
