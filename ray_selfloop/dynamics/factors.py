"""B, q and u of eq. 6 as they are measured: bias over generations, and the data behind each step.

Decides what is averaged before the fit: classifier seeds within a chain. Chains stay apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_selfloop.config.evaluation import Dynamics, Evaluation
from ray_selfloop.dynamics import cues
from ray_selfloop.evaluation import fairness
from ray_selfloop.evaluation.fairness import mean_defined
from ray_selfloop.evaluation.intervals import band
from ray_selfloop.evaluation.outcomes import Floats, Ids, Outcome, TestSet, without_subgroups
from ray_selfloop.evaluation.readings import gap_variances
from ray_selfloop.evaluation.tallies import Tally, permuted, resampled

INFLATED = ("one_minus_meo", "md")  # readings of B that hold true gap + noise
SAME_DOSE = 0.02  # relative; a range cut does not keep exactly S images


@dataclass(frozen=True)
class BiasSeries:
    """Measured bias of one classifier in one scenario; m chains, generations 0..N.

    chains: loop seeds. squared: ``(1 + R, m, N + 1)``, unbiased estimate of B^2 (fraction^2, may be
    negative), mean over the sound seeds; draw 0 is observed, the others are image resamples shared
    by all chains and generations. NaN where no sound trial exists.
    training: variance of one trial's B^2 between seeds beyond the test images' part; 0 where no
    generation has two seeds. seeds: ``(m, N + 1)``, sound trials.
    floor: ``(N + 1,)``, upper end of the noise floor of the chains' mean B^2.
    square: ``(R, m, N + 1)``, the part of ``squared[1:]`` that is quadratic in the resampled error.
    inflated: B is no unbiased reading (1 - MEO, MD): true gap + noise, which shrinks any A to 1.
    subgroups: B is a gap between subgroups; else the u term of eq. 6 is not defined (`cues`).
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

    def between(self, start: int, stop: int) -> "BiasSeries":
        """The generations start..stop - 1 alone."""
        cut = slice(start, stop)
        return replace(
            self,
            squared=self.squared[:, :, cut],
            seeds=self.seeds[:, cut],
            floor=self.floor[cut],
            square=self.square[:, :, cut],
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
    """

    trials: list[Outcome]
    draws: Floats
    square: Floats
    null: Floats
    signed: Floats | None
    length: int


def _length(trials: list[Outcome]) -> int:
    """N + 1 generations."""
    return max(o.generation for o in trials) + 1


def _by_subgroups(trials: list[Outcome], test: TestSet, settings: Evaluation) -> _Measured:
    correct = np.stack([np.asarray(o.predictions) == test.labels for o in trials])
    tally = resampled(correct, test, settings.resamples, settings.seed)
    draws, square = _bias(tally, test, settings.dynamics.bias)
    null = _null(
        permuted(correct, test, settings.permutations, settings.seed), test, settings.dynamics.bias
    )
    return _Measured(trials, draws, square, null, None, _length(trials))


def _by_cues(trials: list[Outcome], test: TestSet, settings: Evaluation) -> _Measured | None:
    """None without ablated predictions, or without a trial that is above chance."""
    sure = cues.above_chance(trials, test) if cues.measured(trials) else []
    if not sure:
        return None
    test = test if test.groups else without_subgroups(test)
    signed, draws, square = cues.squared(sure, test, settings)
    null = cues.null(sure, test, settings)
    return _Measured(sure, draws, square, null, signed, _length(trials))


def _series(
    scenario: str, classifier: str, measured: _Measured, settings: Evaluation
) -> BiasSeries:
    trials = measured.trials
    chains = tuple(sorted({o.loop_seed for o in trials}))
    shape = (len(chains), measured.length)
    place = np.array([chains.index(o.loop_seed) * shape[1] + o.generation for o in trials])

    def by_place(values: Floats) -> Floats:
        return _over_seeds(values, place, shape[0] * shape[1])[0].reshape(-1, *shape)

    floor = band(mean_defined(np.swapaxes(by_place(measured.null), 1, 2)), settings.level)[2]
    floor = np.where(np.isnan(floor), np.inf, floor)
    if measured.signed is not None:  # below chance is no bias, however large its square
        floor[mean_defined(by_place(measured.signed[None])[0].T) <= 0] = np.inf
    return BiasSeries(
        scenario,
        classifier,
        chains,
        by_place(measured.draws),
        _training_variance(measured.draws, place),
        _over_seeds(measured.draws[:1], place, shape[0] * shape[1])[1].reshape(shape),
        floor,
        by_place(measured.square),
        settings.dynamics.bias in INFLATED and measured.signed is None,
        measured.signed is None,
    )


def _bias(tally: Tally, test: TestSet, bias: str) -> tuple[Floats, Floats]:
    """B^2 ``(1 + R, T)``, draw 0 observed, and the square part of its resampled error ``(R, T)``.

    Mirrored resamples (``2 p - p*`` for the rates p*) turn the linear part of the error round and
    leave its square. A floor-inflated B has no such parts: its square is 0.
    """
    if bias in INFLATED:
        value = _gap(tally, test, bias) ** 2
        return value, np.zeros_like(value[1:])
    reading = 0 if bias == "gap_rms" else 1
    value = gap_variances(tally, True)[reading]
    spread = None if tally.spread is None else 2.0 * tally.spread[:1] - tally.spread
    mirrored = gap_variances(
        replace(tally, hits=2.0 * tally.hits[:1] - tally.hits, spread=spread), True
    )
    return value, 0.5 * (value[1:] + mirrored[reading][1:]) - value[:1]


def _null(tally: Tally, test: TestSet, bias: str) -> Floats:
    """B^2 under permuted subgroups, ``(P, T)``."""
    if bias in INFLATED:
        return _gap(tally, test, bias) ** 2
    return gap_variances(tally, False)[0 if bias == "gap_rms" else 1]


def _gap(tally: Tally, test: TestSet, bias: str) -> Floats:
    """1 - MEO (eq. 2) or MD (eq. 4) ``(B, T)``: pooled where the rates may be, else per class."""
    gap = fairness.mean_gap if bias == "one_minus_meo" else fairness.md
    if test.pooled:
        return gap(fairness.ratio(tally.hits.sum(axis=-2), tally.support.sum(axis=-2)))
    return mean_defined(gap(fairness.ratio(tally.hits, tally.support)))


def _over_seeds(values: Floats, place: Ids, places: int) -> tuple[Floats, Ids]:
    """Mean of the trials at each place: ``(B, T) -> (B, places)`` and the counts."""
    member = (place[:, None] == np.arange(places)).astype(np.float64)
    counts = member.sum(axis=0)
    total = values @ member
    return np.where(counts > 0, total / np.maximum(counts, 1.0), np.nan), counts.astype(np.int64)


def _training_variance(values: Floats, place: Ids) -> float:
    """Variance between seeds of one place, less what image sampling contributes to it; 0 or more.

    Pooled over all chains and generations; values ``(1 + R, T)`` with draw 0 observed.
    """
    total, image, freedom = 0.0, 0.0, 0
    for here in np.unique(place):
        group = values[:, place == here]
        if group.shape[1] < 2:
            continue
        centred = group - group.mean(axis=1, keepdims=True)
        total += float((centred[0] ** 2).sum())
        image += float(((centred[1:] - centred[0]) ** 2).sum(axis=1).mean())
        freedom += group.shape[1] - 1
    return max((total - image) / freedom, 0.0) if freedom else 0.0


@dataclass(frozen=True)
class Step:
    """What acts on the step t -> t+1 of one chain; NaN where it is not known."""

    q: float
    u: float


Steps = Mapping[tuple[str, str, int, int], Step]  # scenario, classifier or "", chain, t
# (classifier, chain, generation) -> kept generation -> images of it
Contents = Mapping[tuple[str, int, int], Mapping[int, float]]


def over_queue(values: Mapping[int, float], content: Mapping[int, float]) -> float:
    """Volume-weighted mean of ``values`` over the generations in a queue; NaN where one lacks."""
    total = sum(content.values())
    if not total:
        return float("nan")
    return sum(values.get(g, float("nan")) * n for g, n in content.items()) / total


def steps(
    table: pd.DataFrame, contents: Mapping[str, Contents], settings: Dynamics
) -> dict[tuple[str, str, int, int], Step]:
    """q and u behind every step, from generator rows of the results table.

    contents: scenario -> (classifier, chain, generation n) -> what generated images train it.
    A row without classifier belongs to a chain that all classifiers share.
    ``cas`` is measured on what was generated alone, whatever the split of u.
    ``incoming``: step t -> t+1 takes those of t+1; ``literal``: those of t (nothing at t = 0).
    """
    plain = (table["class"] == "") & (table["subgroup"] == "") & table["seed"].isna()
    source = "generated" if settings.quality == "cas" else settings.split
    quality = (table["metric"] == settings.quality) & (table["split"] == source)
    balance = (table["metric"] == "u") & (table["split"] == settings.split)
    rows = table[plain & (quality | balance)]
    rows = rows[rows["loop_seed"].notna() & rows["generation"].notna()]
    measured: dict[tuple[str, str, int], dict[str, dict[int, float]]] = {}
    for row in rows.to_dict("records"):
        key = (row["scenario"], row["classifier"], int(row["loop_seed"]))
        by_metric = measured.setdefault(key, {settings.quality: {}, "u": {}})
        by_metric[row["metric"]][int(row["generation"])] = float(row["value"])
    offset = 1 if settings.factor_index == "incoming" else 0
    return {
        (scenario, classifier, chain, n - offset): Step(
            over_queue(values[settings.quality], content), over_queue(values["u"], content)
        )
        for (scenario, classifier, chain), values in measured.items()
        for (who, of, n), content in contents.get(scenario, {}).items()
        if of == chain and classifier in ("", who) and n - offset >= 0
    }


@dataclass(frozen=True)
class Labels:
    """What the scenarios of a sweep share, and what is known of them before the fit.

    datasets: scenario -> dataset, whose d_D it has; arms and designed q and u share one.
    models: scenario -> classifier -> model, whose g_M it has; scratch and pretrained are two.
    experts: scenario -> the classifier whose uncertainty filters a shared chain, or "".
    filled: scenario -> first generation from which the dose stays the same; see `filled_from`.
    gated: scenario -> why its generator counts as not converged, or "".
    What is not named is its own dataset, its own model, and not gated.
    """

    datasets: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    experts: Mapping[str, str] = field(default_factory=dict)
    filled: Mapping[str, int] = field(default_factory=dict)
    gated: Mapping[str, str] = field(default_factory=dict)

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

    The smallest over generations of the chains' mean ``label_fidelity`` of what was generated,
    over the chains' mean ``judge_accuracy`` (of the same judge on held-out real images), both
    fractions, against ``bound``. Chains of their own classifier count as chains.
    """
    rows = table[(table["scenario"] == scenario) & (table["class"] == "")]
    rows = rows[(rows["subgroup"] == "") & rows["seed"].isna() & rows["generation"].notna()]
    fidelity = rows[(rows["metric"] == "label_fidelity") & (rows["split"] == "generated")]
    judge = float(rows.loc[rows["metric"] == "judge_accuracy", "value"].mean())
    by_generation = fidelity.groupby("generation")["value"].mean()
    if by_generation.empty or not judge > 0 or by_generation.min() / judge >= bound:
        return ""
    n = int(by_generation.idxmin())
    return (
        f"label fidelity of the generated images at generation {n}: {by_generation.min():.2f}, "
        f"{by_generation.min() / judge:.2f} of the judge's own accuracy on held-out real images "
        f"({judge:.2f}); the bound is {bound:g} of it"
    )
