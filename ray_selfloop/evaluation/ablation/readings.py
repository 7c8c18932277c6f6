"""How much a classifier relies on the object: what taking it out of the test pictures does.

Decides how predictions on ablated pictures become numbers, paired by image with the clean ones and
on the same resamples as accuracy. Knows nothing of pixels (`ablation`) or of rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.fairness import ratio
from ray_selfloop.evaluation.predictions import KINDS, NOISES, Floats, Outcome, TestSet
from ray_selfloop.evaluation.readings import Plan, Reading
from ray_selfloop.evaluation.tallies import resampled

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Removed:
    """Counts under one ablation over the test rows where it is defined; B draws, T trials, S strata
    (class x subgroup).

    defined: ``(B, T, S)`` such rows. clean, ablated: those classified correctly as they are, and
    under the ablation. both: correct both times. Draw 0 is observed, the others are resamples.
    """

    defined: Floats
    clean: Floats
    ablated: Floats
    both: Floats

    @property
    def clean_accuracy(self) -> Floats:
        """``(B, T)``; NaN without defined rows."""
        return ratio(self.clean.sum(axis=-1), self.defined.sum(axis=-1))

    @property
    def ablated_accuracy(self) -> Floats:
        """``(B, T)``; NaN without defined rows."""
        return ratio(self.ablated.sum(axis=-1), self.defined.sum(axis=-1))


def kinds_of(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """The ablations, noises among them, that all trials have predictions for; in a fixed order."""
    known = (*KINDS, *NOISES)
    return tuple(kind for kind in known if outcomes and all(kind in o.ablated for o in outcomes))


def defined(outcomes: Sequence[Outcome], kinds: Sequence[str]) -> Mask:
    """``(T, n)``: rows where all ``kinds`` are defined."""
    return np.stack([np.all([o.ablated[kind] >= 0 for kind in kinds], axis=0) for o in outcomes])


def removed(
    kind: str, outcomes: Sequence[Outcome], test: TestSet, settings: Evaluation, where: Mask
) -> Removed:
    """Counts of one kind over the rows ``where`` ``(T, n)``, with the resamples of `resampled`."""
    clean, gone = (
        where & (np.stack(predicted) == test.labels)
        for predicted in ([o.predictions for o in outcomes], [o.ablated[kind] for o in outcomes])
    )
    rows = np.concatenate([where, clean, gone, clean & gone])
    hits = resampled(rows, test, settings.resamples, settings.seed).hits
    strata = hits.reshape(*hits.shape[:2], -1)
    return Removed(*np.split(strata, 4, axis=1))


def relative_foreground_sensitivity(foreground: Floats, background: Floats) -> Floats:
    """``(a_b - a_f) / (2 min(m, 1 - m))``, m the mean of both, -1..1; 0 where m is 0 or 1.

    a_f, a_b ``(...)``: accuracy with noise on the object, and beside it. The denominator is the
    largest difference that two accuracies of that mean can have (Moayeri et al. 2022, RIVAL10).
    Larger: the classifier is more sensitive to the object than to its background.
    """
    mean = 0.5 * (foreground + background)
    most = 2.0 * np.minimum(mean, 1.0 - mean)
    return np.where(most == 0, 0.0, ratio(background - foreground, most))


def reliance_readings(
    outcomes: Sequence[Outcome], plan: Plan, settings: Evaluation
) -> Iterator[Reading]:
    """Accuracy, drop and relative drop of each kind, and relative foreground sensitivity.

    With a the clean and a' the ablated accuracy over the same rows: ``drop = a - a'`` and
    ``relative = drop / (a - 1/C)``, NaN where a <= 1/C. Nothing without ablated predictions.
    """
    found = kinds_of(outcomes)
    for kind in (kind for kind in found if kind in KINDS):
        where = defined(outcomes, [kind])
        yield from _of_kind(kind, removed(kind, outcomes, plan.test, settings, where), plan)
    if set(NOISES) <= set(found):
        where = defined(outcomes, NOISES)
        on, beside = (
            removed(kind, outcomes, plan.test, settings, where).ablated_accuracy for kind in NOISES
        )
        value = relative_foreground_sensitivity(on, beside)
        yield Reading(metrics.RELATIVE_FOREGROUND_SENSITIVITY.name, value, floored=False)


def _of_kind(kind: str, found: Removed, plan: Plan) -> Iterator[Reading]:
    clean, gone = found.clean_accuracy, found.ablated_accuracy
    above = clean - 1.0 / plan.test.classes
    drop = clean - gone
    relative = np.where(above > 0, ratio(drop, above), np.nan)
    rows = float(found.defined[0, 0].sum())
    key = f"{metrics.ABLATION_DROP.name}/{kind}"
    yield Reading(f"{metrics.ABLATION_ACCURACY.name}/{kind}", gone, floored=False, rows=rows)
    yield Reading(key, drop, floored=False)
    yield Reading(f"{metrics.ABLATION_DROP_RELATIVE.name}/{kind}", relative, floored=False)
    if not plan.later:
        return
    level = relative[:, plan.base] * (clean - clean[:, plan.base])
    rest = drop - drop[:, plan.base] - level
    for part, values in (("level", level), ("distribution", rest)):
        known = np.where(plan.base >= 0, values, np.nan)
        of_part = metrics.with_suffix(key, f"change_{part}")
        yield Reading(of_part, known, changes=False, floored=False)
