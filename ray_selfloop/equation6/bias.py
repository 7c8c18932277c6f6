"""B of eq. 6 as it is measured, over generations, and what is known of scenarios before the fit.

Decides what is averaged: classifier seeds within a chain; chains stay apart. Of two or more seeds
B^2 is the mean over pairs of different ones (`between_seeds`): each seed's own subgroup scatter
would add to B^2 in every generation alike and draw A towards 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_selfloop.config.arms import TREATMENT
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.equation6 import between_seeds, without_object
from ray_selfloop.equation6.between_seeds import Rates, Together
from ray_selfloop.equation6.steps import Contents
from ray_selfloop.evaluation import fairness, metrics
from ray_selfloop.evaluation.ablation.readings import kinds_of
from ray_selfloop.evaluation.fairness import mean_defined
from ray_selfloop.evaluation.predictions import (
    Floats,
    Ids,
    Outcome,
    TestSet,
    right,
    without_subgroups,
)
from ray_selfloop.evaluation.tallies import Tally, permuted, resampled
from ray_selfloop.inference.images import band

INFLATED = ("one_minus_meo", metrics.MD.name)  # readings of B that hold true gap + noise
SAME_DOSE = 0.02  # relative; a range cut does not keep exactly S images


@dataclass(frozen=True)
class BiasSeries:
    """Measured bias of one classifier in one scenario; m chains, generations 0..N.

    chains: loop seeds. squared: ``(1 + R, m, N + 1)``, unbiased estimate of B^2 (fraction^2, may be
    negative), of the sound seeds; draw 0 is observed, the others are image resamples shared by all
    chains and generations. NaN where no sound trial exists.
    seeds_apart: it is the mean over pairs of different seeds, and NaN where there is one alone;
    else the mean over the seeds, which holds their scatter.
    training: variance of one trial's B^2 between seeds beyond the test images' part; 0 where no
    generation has two seeds. Over S, it is that of ``squared``: of pairs exactly at S = 2, at most
    beyond. seeds: ``(m, N + 1)``, sound trials.
    floor: ``(N + 1,)``, upper end of the noise floor of the chains' mean B^2.
    square: ``(R, m, N + 1)``, the part of ``squared[1:]`` that is quadratic in the resampled error.
    inflated: B is no unbiased reading (1 - MEO, MD): true gap + noise, which shrinks any A to 1.
    subgroups: B is a gap between subgroups; else the u term of eq. 6 is not defined (`cues`).
    accuracy: ``(1 + R, m, N + 1)``, of the same trials and resamples, mean over seeds: what may
    move B without any bias; None where B is relative to it already.
    """

    scenario: str
    classifier: str
    chains: tuple[int, ...]
    squared: Floats
    training: float
    seeds: Ids
    floor: Floats
    square: Floats
    inflated: bool = False
    subgroups: bool = True
    seeds_apart: bool = False
    accuracy: Floats | None = None

    def between(self, start: int, stop: int) -> "BiasSeries":
        """The generations start..stop - 1 alone."""
        cut = slice(start, stop)
        return replace(
            self,
            squared=self.squared[:, :, cut],
            seeds=self.seeds[:, cut],
            floor=self.floor[cut],
            square=self.square[:, :, cut],
            accuracy=None if self.accuracy is None else self.accuracy[:, :, cut],
        )

    def of(self, chains: tuple[int, ...]) -> "BiasSeries":
        """These of the chains alone, in this order; the floor is that of all."""
        at = [self.chains.index(chain) for chain in chains]
        return replace(
            self,
            chains=chains,
            squared=self.squared[:, at],
            seeds=self.seeds[at],
            square=self.square[:, at],
            accuracy=None if self.accuracy is None else self.accuracy[:, at],
        )

    @property
    def generations(self) -> int:
        """N + 1, generation 0 included."""
        return self.squared.shape[2]

    @property
    def mean(self) -> Floats:
        """Observed B^2 of each generation, mean over the chains that have it, ``(N + 1,)``."""
        return mean_defined(self.squared[0].T)

    @property
    def measurable(self) -> NDArray[np.bool_]:
        """``(N + 1,)``: the chains' mean bias lies above its noise floor."""
        return np.nan_to_num(self.mean, nan=-np.inf) > self.floor


def bias_series(
    scenario: str, outcomes: list[Outcome], test: TestSet, settings: Evaluation
) -> list[BiasSeries]:
    """One series for each classifier, in alphabetical order; collapsed trials are left out.

    Without subgroups B is read from ablated predictions (`cues`); a classifier that has neither has
    no series.
    """
    found = []
    for classifier in sorted({o.classifier for o in outcomes}):
        chosen = sorted(
            (o for o in outcomes if o.classifier == classifier and not o.collapsed),
            key=lambda o: (o.loop_seed, o.generation, o.seed),
        )
        by_cues = not test.groups or settings.dynamics.bias == "without_object"
        measure = _by_cues if by_cues else _by_subgroups
        measured = measure(chosen, test, settings) if chosen else None
        if measured is not None:
            found.append(_series(scenario, classifier, measured, settings))
    return found


@dataclass(frozen=True)
class _Measured:
    """B^2 of trials: draws ``(1 + R, T)``, square ``(R, T)`` and null ``(P, T)``, see BiasSeries.

    signed: ``(T,)``, B itself, where it can be below zero; None where it cannot.
    together: the same of the mean over a place's seeds; None without two seeds anywhere, or where B
    is no variance over subgroups.
    """

    trials: list[Outcome]
    draws: Floats
    square: Floats
    null: Floats
    signed: Floats | None
    together: Together | None = None
    accuracy: Floats | None = None

    @property
    def chains(self) -> tuple[int, ...]:
        """Loop seeds."""
        return tuple(sorted({o.loop_seed for o in self.trials}))

    @property
    def shape(self) -> tuple[int, int]:
        """(m, N + 1)."""
        return len(self.chains), max(o.generation for o in self.trials) + 1

    @property
    def place(self) -> Ids:
        """Chain and generation of each trial as one number, ``(T,)``."""
        return _places(self.trials)


def _places(trials: list[Outcome]) -> Ids:
    chains = sorted({o.loop_seed for o in trials})
    length = max(o.generation for o in trials) + 1
    return np.array([chains.index(o.loop_seed) * length + o.generation for o in trials])


def _by_subgroups(trials: list[Outcome], test: TestSet, settings: Evaluation) -> _Measured:
    correct = right(trials, test)
    drawn = resampled(correct, test, settings.resamples, settings.seed)
    mixed = permuted(correct, test, settings.permutations, settings.seed)
    kind, accuracy = settings.dynamics.bias, drawn.hits.sum((-2, -1)) / drawn.support.sum()
    if kind in INFLATED:  # no square part is known: it counts as 0
        value = _gap(drawn, test, kind) ** 2
        return _Measured(
            trials,
            value,
            np.zeros_like(value[1:]),
            _gap(mixed, test, kind) ** 2,
            None,
            accuracy=accuracy,
        )
    pooled = kind == metrics.GAP_RMS.read("pooled")
    return _Measured(
        trials,
        *between_seeds.bias(Rates.of(drawn), pooled),
        Rates.of(mixed).variance(pooled)[0],
        None,
        between_seeds.together(correct, _places(trials), test, settings),
        accuracy,
    )


def _by_cues(trials: list[Outcome], test: TestSet, settings: Evaluation) -> _Measured | None:
    """None without ablated predictions, or without a trial that is above chance."""
    if without_object.KIND not in kinds_of(trials):
        return None
    sure = without_object.above_chance(trials, test)
    if not sure:
        return None
    test = test if test.groups else without_subgroups(test)
    signed, draws, square = without_object.squared(sure, test, settings)
    null = without_object.null(sure, test, settings)
    return _Measured(sure, draws, square, null, signed)


@dataclass(frozen=True)
class _ByPlace:
    """Makes one value of each place of the values of its seeds."""

    measured: _Measured

    @property
    def counts(self) -> Ids:
        """Sound seeds of each place, ``(m (N + 1),)``."""
        m, length = self.measured.shape
        return np.bincount(self.measured.place, minlength=m * length)

    @property
    def apart(self) -> bool:
        """Whether pairs of seeds are taken: where most places with a trial have a pair."""
        pairs, some = (self.counts > 1).sum(), (self.counts > 0).sum()
        return self.measured.together is not None and bool(2 * pairs > some)

    def mean(self, values: Floats) -> Floats:
        """Over the seeds: ``(B, T) -> (B, m, N + 1)``."""
        member = (self.measured.place[:, None] == np.arange(len(self.counts))).astype(np.float64)
        total = np.where(self.counts > 0, values @ member / np.maximum(self.counts, 1), np.nan)
        return np.asarray(total.reshape(-1, *self.measured.shape))

    def __call__(self, part: str) -> Floats:
        """``draws``, ``square`` or ``null`` of B^2, ``(B, m, N + 1)``."""
        mean = self.mean(getattr(self.measured, part))
        together = self.measured.together
        if together is None or not self.apart:
            return mean
        flat = mean.reshape(len(mean), -1)
        found, at = np.full_like(flat, np.nan), together.places
        of_mean = getattr(together, part)
        found[:, at] = between_seeds.across(flat[:, at], of_mean, self.counts[at])
        return found.reshape(mean.shape)


def _series(
    scenario: str, classifier: str, measured: _Measured, settings: Evaluation
) -> BiasSeries:
    by_place = _ByPlace(measured)
    return BiasSeries(
        scenario,
        classifier,
        measured.chains,
        by_place("draws"),
        _training_variance(measured),
        by_place.counts.reshape(measured.shape),
        _floor(by_place, settings.level),
        by_place("square"),
        settings.dynamics.bias in INFLATED and measured.signed is None,
        measured.signed is None,
        by_place.apart,
        None if measured.accuracy is None else by_place.mean(measured.accuracy),
    )


def _floor(by_place: _ByPlace, level: float) -> Floats:
    """Upper end of the band of the chains' mean B^2 without bias, ``(N + 1,)``; inf where it is
    not known, and where B is below chance: that is no bias, however large its square."""
    floor = band(mean_defined(np.swapaxes(by_place("null"), 1, 2)), level)[2]
    floor = np.where(np.isnan(floor), np.inf, floor)
    signed = by_place.measured.signed
    if signed is not None:
        floor[mean_defined(by_place.mean(signed[None])[0].T) <= 0] = np.inf
    return floor


def _gap(tally: Tally, test: TestSet, bias: str) -> Floats:
    """1 - MEO (eq. 2) or MD (eq. 4) ``(B, T)``: pooled where the rates may be, else per class."""
    gap = fairness.mean_gap if bias == "one_minus_meo" else fairness.md
    if test.pooled:
        return gap(fairness.ratio(tally.hits.sum(axis=-2), tally.support.sum(axis=-2)))
    return mean_defined(gap(fairness.ratio(tally.hits, tally.support)))


def _training_variance(measured: _Measured) -> float:
    """Variance between the seeds of one place, less what image sampling contributes to it; 0 or
    more. Pooled over all chains and generations.

    Images: the linear part of the resampled error less twice its square, plus the square (see
    `amplification`), each as a variance between the seeds.
    """
    total, linear, square, freedom = 0.0, 0.0, 0.0, 0
    moved = measured.draws[1:] - measured.draws[:1]
    for here in np.unique(measured.place):
        chosen = measured.place == here
        if chosen.sum() < 2:
            continue
        total += float(_within(measured.draws[:1, chosen])[0])
        linear += float(_within((moved - measured.square)[:, chosen]).mean())
        square += float(_within(measured.square[:, chosen]).mean())
        freedom += int(chosen.sum()) - 1
    image = max(linear - 2.0 * square, 0.0) + square
    return max((total - image) / freedom, 0.0) if freedom else 0.0


def _within(values: Floats) -> Floats:
    """Sum of squares around the mean, ``(B, S) -> (B,)``."""
    return np.asarray(((values - values.mean(axis=1, keepdims=True)) ** 2).sum(axis=1))


@dataclass(frozen=True)
class Labels:
    """What the scenarios of a sweep share, and what is known of them before the fit.

    datasets: scenario -> dataset, whose d_D it has; arms and designed q and u share one.
    models: scenario -> classifier -> model, whose g_M it has; scratch and pretrained are two.
    experts: scenario -> the classifier whose uncertainty filters a shared chain, or "".
    filled: scenario -> first generation from which the dose stays the same; see `filled_from`.
    gated: scenario -> why its generator is too poor to ask, or "".
    arms: scenario -> arm. groups: scenario -> what it shares with those that differ in arm alone.
    generations: scenario -> its last one; what has not come there yet has no verdict.
    exploratory: why no A has a verdict, or "".
    What is not named is its own dataset, its own model, not gated, and a treatment of no group.
    """

    datasets: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    experts: Mapping[str, str] = field(default_factory=dict)
    filled: Mapping[str, int] = field(default_factory=dict)
    gated: Mapping[str, str] = field(default_factory=dict)
    arms: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    generations: Mapping[str, int] = field(default_factory=dict)
    exploratory: str = ""

    def arm(self, scenario: str) -> str:
        """The arm of a scenario."""
        return self.arms.get(scenario, TREATMENT.name)

    def dataset(self, scenario: str) -> str:
        """The dataset of a scenario."""
        return self.datasets.get(scenario, scenario)

    def model(self, scenario: str, classifier: str) -> str:
        """The model that a classifier of a scenario is."""
        return self.models.get(scenario, {}).get(classifier, classifier)


def filled_from(contents: Contents) -> int:
    """First generation from which on every chain's dose (generated images) stays within 2 %.

    While the queue fills, dose and generation are confounded. The last generation where the dose
    never settles, 0 where it never changes (an arm without generated data).
    """
    doses: dict[tuple[str, int], dict[int, float]] = {}
    for (classifier, chain, n), content in contents.items():
        doses.setdefault((classifier, chain), {})[n] = sum(content.values())
    found = 0
    for by_generation in doses.values():
        last = by_generation[max(by_generation)]
        moved = [n for n, dose in by_generation.items() if abs(dose - last) > SAME_DOSE * last]
        found = max(found, max(moved, default=-1) + 1)
    return found


def not_converged(table: pd.DataFrame, scenario: str, bound: float) -> str:
    """Why a scenario's generator counts as not converged; "" where it does, or where none is.

    At generation 1 alone: the chains' mean ``label_fidelity`` of what was generated over the
    chains' mean ``judge_accuracy`` (of the same judge on held-out real images), both fractions,
    against ``bound``. A generator that decays later is a result of the loop, and gates nothing.
    Chains of their own classifier count as chains.
    """
    rows = table[(table["scenario"] == scenario) & (table["class"] == "")]
    rows = rows[(rows["subgroup"] == "") & rows["seed"].isna() & (rows["generation"] == 1)]
    generated = (rows["metric"] == metrics.LABEL_FIDELITY.name) & (rows["split"] == "generated")
    fidelity = float(rows.loc[generated, "value"].mean())
    judge = float(rows.loc[rows["metric"] == metrics.JUDGE_ACCURACY.name, "value"].mean())
    if not judge > 0 or not fidelity / judge < bound:
        return ""
    return (
        f"label fidelity of the images generated at generation 1: {fidelity:.2f}, "
        f"{fidelity / judge:.2f} of the judge's own accuracy on held-out real images "
        f"({judge:.2f}); the bound is {bound:g} of it"
    )
