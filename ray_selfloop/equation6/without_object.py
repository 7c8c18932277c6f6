"""B of eq. 6 where there are masks and no subgroups: the accuracy that needs no object.

    B = (a' - 1/C) / (a - 1/C)
with a the clean accuracy and a' that with the object gray, over the test images where the object
can be taken out: the share of what a classifier knows beyond chance that it knows from anything but
the object's pixels, its outline included. 1 - B is the relative drop. Knows nothing of subgroups,
of q and u or of A.

What the fit takes is an estimate of B^2 without the test images' noise. With N, D the numerator and
denominator as measured, v_N, v_D, c their variances and covariance within classes, to second order
    E[(N/D)^2] = B^2 + (v_N - 4 B c + 3 B^2 v_D) / D^2
and the second term is taken off. With a D of several standard errors what is left out is small.
"""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from ray_selfloop import seeding
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation.ablation.readings import Mask, Removed, defined, removed
from ray_selfloop.evaluation.fairness import ratio
from ray_selfloop.evaluation.predictions import Floats, Outcome, TestSet, right

KIND = "object_gray"
SURE = 4.0  # standard errors above chance; a classifier below has no B


def above_chance(outcomes: Sequence[Outcome], test: TestSet) -> list[Outcome]:
    """The trials whose clean accuracy lies `SURE` standard errors above chance: the others' B is a
    ratio to nothing."""
    found = []
    rows = zip(outcomes, right(outcomes, test), defined(outcomes, [KIND]), strict=True)
    for outcome, correct, where in rows:
        hits, n = int(correct[where].sum()), int(where.sum())
        error = (hits / n * (1.0 - hits / n) / n) ** 0.5 if n else 0.0
        if n and hits / n - 1.0 / test.classes > SURE * error:
            found.append(outcome)
    return found


def squared(
    outcomes: Sequence[Outcome], test: TestSet, settings: Evaluation
) -> tuple[Floats, Floats, Floats]:
    """B itself ``(T,)``, B^2 ``(1 + R, T)`` and the square part of its resampled error ``(R, T)``.

    B^2: draw 0 observed without the images' noise, the others moved to scatter around it. Mirrored
    resamples (2 p - p*) turn the linear part of the error round and leave its square.
    """
    found = removed(KIND, outcomes, test, settings, defined(outcomes, [KIND]))
    value, raw = _corrected(found, test.classes)
    counts = (getattr(found, one.name) for one in fields(found))
    around = Removed(*(2.0 * count[:1] - count for count in counts))
    mirrored, _ = _corrected(around, test.classes)
    moved = raw[:1] - value[:1]
    value[1:] -= moved
    mirrored[1:] -= moved
    above, clean = _above(found, test.classes)
    return ratio(above, clean)[0], value, 0.5 * (value[1:] + mirrored[1:]) - value[:1]


def _above(found: Removed, classes: int) -> tuple[Floats, Floats]:
    """N and D: how far the ablated and the clean accuracy lie above chance, ``(B, T)``."""
    return found.ablated_accuracy - 1.0 / classes, found.clean_accuracy - 1.0 / classes


def _corrected(found: Removed, classes: int) -> tuple[Floats, Floats]:
    """B^2 without and with the images' noise, ``(B, T)``."""
    top, bottom = _above(found, classes)
    bias = ratio(top, bottom)
    of_top, of_bottom, shared = (
        _noise(found.defined, *counts)
        for counts in (
            (found.ablated, found.ablated, found.ablated),
            (found.clean, found.clean, found.clean),
            (found.both, found.ablated, found.clean),
        )
    )
    excess = of_top - 4.0 * bias * shared + 3.0 * bias**2 * of_bottom
    return bias**2 - ratio(excess, bottom**2), bias**2


def _noise(size: Floats, both: Floats, one: Floats, other: Floats) -> Floats:
    """Covariance of two accuracies over the same images: strata ``(..., S) -> (...)``.

    ``sum_s (n_s / n)^2 (p_both - p_one p_other) / (n_s - 1)``; a stratum of one image adds none.
    """
    joint, first, second = (np.nan_to_num(ratio(count, size)) for count in (both, one, other))
    weight = ratio(size, size.sum(axis=-1, keepdims=True)) ** 2
    return (weight * (joint - first * second) / np.maximum(size - 1.0, 1.0)).sum(axis=-1)


def null(outcomes: Sequence[Outcome], test: TestSet, settings: Evaluation) -> Floats:
    """B^2 where predictions without the object tell nothing of the class, ``(P, T)``.

    The classes are permuted among the test images, the same permutation for all trials, so that the
    ablated accuracy scatters around 1/C as those predictions of all seeds and generations together
    would by chance; D stays as observed.
    """
    where = defined(outcomes, [KIND])
    rows = np.flatnonzero(where.all(axis=0))
    rows = rows[np.argsort(test.units[rows], kind="stable")]
    labels = test.labels[rows]
    stream = seeding.rng(settings.seed, "permuted classes")
    drawn = stream.permuted(np.tile(labels, (settings.permutations, 1)), axis=1)
    predicted = np.stack([o.ablated[KIND] for o in outcomes])[:, rows]
    shape = (len(drawn), len(predicted), test.classes)
    hits, size = np.zeros(shape), np.broadcast_to(np.bincount(labels, minlength=shape[2]), shape)
    for c in range(test.classes):
        member = (drawn == c).astype(np.float32)
        hits[..., c] = member @ (predicted == c).T.astype(np.float32)
    top = ratio(hits.sum(axis=-1), size.sum(axis=-1)) - 1.0 / test.classes
    noise = _noise(size.astype(np.float64), hits, hits, hits)
    return np.asarray((top**2 - noise) / _observed_bottom(outcomes, test, where) ** 2)


def _observed_bottom(outcomes: Sequence[Outcome], test: TestSet, where: Mask) -> Floats:
    """D of each trial, ``(T,)``."""
    hits = (where & right(outcomes, test)).sum(axis=1)
    return np.asarray(hits / where.sum(axis=1) - 1.0 / test.classes)
