"""How faithful generated images are: labels, subgroup shares, copies of training images, quality q.

Pure functions of labels, subgroups and features. Knows nothing of tables or of who judged.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import binom

from ray_selfloop.evaluation import fairness
from ray_selfloop.evaluation.frechet import (
    Moments,
    distances,
    frechet_between,
    moments,
    precision_and_coverage,
)
from ray_selfloop.evaluation.outcomes import Floats, Ids

MEMORISED_QUANTILE = 0.01  # of the held-out images' distances to their nearest training image


def wilson(hits: int, total: int, level: float) -> tuple[float, float, float]:
    """A share with its Wilson score interval; all NaN without rows."""
    if not total:
        return float("nan"), float("nan"), float("nan")
    z, p = float(ndtri(0.5 + level / 2)), hits / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    reach = z / (1 + z * z / total) * np.sqrt(p * (1 - p) / total + z * z / (4 * total**2))
    low, high = float(centre - reach), float(centre + reach)
    return p, low if hits else 0.0, high if hits < total else 1.0


def share_counts(labels: Ids, subgroups: Ids, classes: int, groups: int) -> Floats:
    """``(C, G + 1)`` images of each class and subgroup; the last column counts 'none clear'."""
    cells = labels * (groups + 1) + subgroups
    counts = np.bincount(cells, minlength=classes * (groups + 1))
    return counts.reshape(classes, groups + 1).astype(np.float64)


def total_variation(counts: Floats, shares: Floats) -> Floats:
    """``1/2 sum_g |k_g / n - p_g|`` per class, 0..1; ``(..., C, G + 1)`` and ``(C, G + 1)``.

    NaN for a class without images. 'None clear' has share 0 in the original data.
    """
    measured = fairness.ratio(counts, counts.sum(axis=-1, keepdims=True))
    return 0.5 * np.abs(measured - shares).sum(axis=-1)


def sampling_floor(counts: Ids, shares: Floats) -> Floats:
    """Expected total variation of a perfect multinomial sample, exact; ``(C,)``.

    counts ``(C,)``: images per class. With K binomial(n, p) the mean absolute deviation is
    ``E|K - np| = 2 v (1 - p) P(K = v)``, ``v = floor(np) + 1`` (De Moivre), so that the floor is
    ``sum_g v (1 - p) P(K_g = v) / n``. NaN for a class without images.
    """
    n = counts[:, None].astype(np.float64)
    v = np.floor(n * shares) + 1.0
    deviation = v * (1.0 - shares) * binom.pmf(v, n, shares)
    return fairness.ratio(deviation.sum(axis=-1), counts.astype(np.float64))


@dataclass(frozen=True)
class ShareChange:
    """Unbalanced generation, observed (draw 0) and resampled; ``(1 + R, C)``.

    variation: total variation. floor: ``(C,)``, its expectation for a perfect generator.
    null: ``(R, C)``, total variation of perfect samples. signed: change of the majority's share,
    NaN for a class whose original data have no majority.
    """

    variation: Floats
    floor: Floats
    null: Floats
    signed: Floats


def share_change(
    counts: Floats, shares: Floats, resamples: int, rng: np.random.Generator
) -> ShareChange:
    """counts ``(C, G + 1)`` of generated images; shares ``(C, G)`` of the original, rows sum to 1.

    Draws are multinomial with each class's observed shares, the null's with the original ones.
    """
    shares = np.concatenate([shares, np.zeros((len(shares), 1))], axis=1)
    n = counts.sum(axis=1).astype(np.int64)
    measured = fairness.ratio(counts, n[:, None].astype(np.float64))
    safe = np.where(np.isnan(measured), shares, measured)
    draws = np.stack([rng.multinomial(m, p, size=resamples) for m, p in zip(n, safe, strict=True)])
    null = np.stack([rng.multinomial(m, p, size=resamples) for m, p in zip(n, shares, strict=True)])
    every = np.concatenate([counts[None], np.swapaxes(draws, 0, 1)])
    drawn = fairness.ratio(every, every.sum(axis=-1, keepdims=True))
    return ShareChange(
        variation=total_variation(every, shares),
        floor=sampling_floor(n, shares),
        null=total_variation(np.swapaxes(null, 0, 1), shares),
        signed=majority_change(drawn, shares),
    )


def majority_change(drawn: Floats, shares: Floats) -> Floats:
    """Change of each class's largest subgroup's share, ``(R, C)``; NaN without a majority.

    drawn ``(R, C, G)``: shares found; shares ``(C, G)``: the original ones.
    """
    order = np.argsort(-shares, axis=1, kind="stable")
    rows = np.arange(len(shares))
    lead = shares[rows, order[:, 0]] - shares[rows, order[:, 1]]
    signed = drawn[:, rows, order[:, 0]] - shares[rows, order[:, 0]]
    return np.where(lead > fairness.MAJORITY_MARGIN, signed, np.nan)


@dataclass(frozen=True)
class Copies:
    """memorised: share nearer to a training image than 99 % of held-out real images are (0.01 for
    a perfect generator). ratio: median nearest distance over that of held-out images (1, and 0
    for copies; NaN where held-out images are themselves copies)."""

    memorised: float
    ratio: float


def copies(train: Floats, held_out: Floats, generated: Floats) -> Copies:
    """Nearest-neighbour memorisation in one feature space; arrays ``(n, d)``."""
    apart = distances(held_out, train).min(axis=1)
    near = distances(generated, train).min(axis=1)
    threshold = np.quantile(apart, MEMORISED_QUANTILE)
    scale = float(np.median(apart))
    return Copies(
        memorised=float((near <= threshold).mean()),
        ratio=float(np.median(near)) / scale if scale > 0 else float("nan"),
    )


def quality(
    train: Floats, held_out: Floats, generated: Floats, reach: Floats, neighbours: int
) -> float:
    """q of eq. 6, 0..1: ``q = 2 p c / (p + c)``, F1 of relative precision p and coverage c.

    Each is divided by its value for held-out real images against the same training images, at the
    same count, and cut at 1. That count is the smaller of the two sets' sizes; the larger set goes
    in as disjoint blocks of it, so that both must come in random order. Arrays ``(n, d)``;
    reach: ``radii(train, neighbours)``. NaN where a set has no more than ``neighbours`` images, or
    where held-out images have no precision or coverage to divide by.
    """
    count = min(len(held_out), len(generated))
    if min(count, len(train)) <= neighbours:
        return float("nan")
    ours = precision_and_coverage(train, generated, reach, count)
    real = precision_and_coverage(train, held_out, reach, count)
    if min(real) == 0:
        return float("nan")
    p, c = (min(a / b, 1.0) for a, b in zip(ours, real, strict=True))
    return 2 * p * c / (p + c) if p + c else 0.0


def frechet_relative(original: Moments, held_out: Floats, generated: Floats) -> float:
    """Frechet distance of held-out real images to the original ones, over the generated images',
    0..1: another reading of q, where 1 is as close as real images are.

    The distance falls with the number of images, so that both use as many: the first rows of each,
    which must come in random order. NaN where that is fewer than two.
    """
    count = min(len(held_out), len(generated))
    if count < 2:
        return float("nan")
    real, ours = (
        frechet_between(original, moments(part[:count])) for part in (held_out, generated)
    )
    return min(real / ours, 1.0) if ours > 0 else 1.0


def agreement(labels: Ids, judged: Ids, of: NDArray[np.bool_]) -> tuple[int, int]:
    """(images that the judge gives their label, images) among the rows ``of``."""
    return int((labels == judged)[of].sum()), int(of.sum())
