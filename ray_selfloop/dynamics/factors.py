"""B, q and u of eq. 6 as they are measured: bias over generations, and the data behind each step.

Decides what is averaged before the fit: classifier seeds within a chain. Chains stay apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ray_selfloop.config.evaluation import Dynamics, Evaluation
from ray_selfloop.evaluation.fairness import mean_defined
from ray_selfloop.evaluation.intervals import band
from ray_selfloop.evaluation.outcomes import Floats, Ids, Outcome, TestSet
from ray_selfloop.evaluation.readings import gap_variances
from ray_selfloop.evaluation.tallies import permuted, resampled


@dataclass(frozen=True)
class BiasSeries:
    """Measured bias of one classifier in one scenario; m chains, generations 0..N.

    chains: loop seeds. squared: ``(1 + R, m, N + 1)``, unbiased estimate of B^2 (fraction^2, may be
    negative), mean over the sound seeds; draw 0 is observed, the others are image resamples shared
    by all chains and generations. NaN where no sound trial exists.
    training: variance of one trial's B^2 between seeds beyond the test images' part; 0 where no
    generation has two seeds. seeds: ``(m, N + 1)``, sound trials.
    floor: ``(N + 1,)``, upper end of the noise floor of the chains' mean B^2.
    """

    scenario: str
    classifier: str
    chains: tuple[int, ...]
    squared: Floats
    training: float
    seeds: Ids
    floor: Floats

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
    """One series for each classifier, in alphabetical order; collapsed trials are left out."""
    found = []
    for classifier in sorted({o.classifier for o in outcomes}):
        chosen = sorted(
            (o for o in outcomes if o.classifier == classifier and not o.collapsed),
            key=lambda o: (o.loop_seed, o.generation, o.seed),
        )
        if chosen:
            found.append(_series(scenario, classifier, chosen, test, settings))
    return found


def _series(
    scenario: str, classifier: str, trials: list[Outcome], test: TestSet, settings: Evaluation
) -> BiasSeries:
    correct = np.stack([np.asarray(o.predictions) == test.labels for o in trials])
    reading = 0 if settings.dynamics.bias == "gap_rms" else 1
    draws = gap_variances(resampled(correct, test, settings.resamples, settings.seed), True)
    null = gap_variances(permuted(correct, test, settings.permutations, settings.seed), False)
    chains = tuple(sorted({o.loop_seed for o in trials}))
    length = max(o.generation for o in trials) + 1
    place = np.array([chains.index(o.loop_seed) * length + o.generation for o in trials])
    squared, seeds = _over_seeds(draws[reading], place, len(chains) * length)
    floors, _ = _over_seeds(null[reading], place, len(chains) * length)
    shape = (len(chains), length)
    null_mean = mean_defined(np.swapaxes(floors.reshape(-1, *shape), 1, 2))
    floor = band(null_mean, settings.level)[2]
    return BiasSeries(
        scenario,
        classifier,
        chains,
        squared.reshape(-1, *shape),
        _training_variance(draws[reading], place),
        seeds.reshape(shape),
        np.where(np.isnan(floor), np.inf, floor),
    )


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
Contents = Mapping[int, Mapping[int, float]]  # generation -> kept generation -> images of it


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

    contents: scenario -> generation n -> what generated images train generation n's classifiers.
    ``incoming``: step t -> t+1 takes those of t+1; ``literal``: those of t (nothing at t = 0).
    """
    plain = (table["class"] == "") & (table["subgroup"] == "") & (table["split"] == settings.split)
    rows = table[plain & table["metric"].isin([settings.quality, "u"]) & table["seed"].isna()]
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
        for n, content in contents.get(scenario, {}).items()
        if n - offset >= 0
    }
