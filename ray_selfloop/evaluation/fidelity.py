"""How faithful generated images are: labels, subgroup shares, copies of training images, quality q.

Pure functions of labels, subgroups and features. Knows nothing of tables or of who judged.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.evaluation import fairness
from ray_selfloop.evaluation.frechet import (
    RealFeatures,
    distances,
    frechet_between,
    moments,
    precision_and_coverage,
)
from ray_selfloop.evaluation.predictions import Floats, Ids
from ray_selfloop.evaluation.variation import Sampler, Unbalance, total_variation, unbalance

MEMORISED_QUANTILE = 0.01  # of the held-out images' distances to their nearest training image


def share_counts(labels: Ids, subgroups: Ids, classes: int, groups: int) -> Floats:
    """``(C, G + 1)`` images of each class and subgroup; the last column counts 'none clear'."""
    cells = labels * (groups + 1) + subgroups
    counts = np.bincount(cells, minlength=classes * (groups + 1))
    return counts.reshape(classes, groups + 1).astype(np.float64)


@dataclass(frozen=True)
class ShareChange:
    """Unbalanced generation among readable images; draw 0 observed, the others resampled.

    u: bias-corrected total variation. variation: plain, ``(1 + R, C)``. null: ``(R, C)``, of
    perfect samples; None where shares are designed. signed: ``(1 + R, C)``, change of the
    majority's share, NaN for a class whose original data have no majority. shares, perfect: what
    these are of, ``(1 + R, C, G)`` and ``(R, C, G)``. NaN for a class without readable images.
    """

    u: Unbalance
    variation: Floats
    null: Floats | None
    signed: Floats
    shares: Floats
    perfect: Floats | None


def sampler(counts: Floats, rng: np.random.Generator) -> Sampler:
    """Multinomial samples of as many images as ``counts (C, G)`` has in each class, 1 or more."""
    n = counts.sum(axis=1).astype(np.int64)

    def draw(shares: Floats, samples: int) -> Floats:
        return np.asarray(rng.multinomial(n, shares, size=(samples, len(n))) / n[:, None])

    return draw


def sampling_noise(counts: Floats) -> Floats:
    """Expected squared deviation that sampling gives, ``(1 - sum_g p_g^2) / (n - 1)``, ``(C,)``.

    Unbiased: p are the shares found. counts ``(C, G)``.
    """
    n = counts.sum(axis=1, keepdims=True)
    spread = 1.0 - (fairness.ratio(counts, n) ** 2).sum(axis=1)
    return np.asarray(spread / np.maximum(n[:, 0] - 1.0, 1.0))


def share_change(
    counts: Floats, shares: Floats, resamples: int, level: float, rng: np.random.Generator
) -> ShareChange:
    """counts ``(C, G)`` of readable generated images; shares ``(C, G)`` of the original, rows sum
    to 1. Draws are multinomial with each class's observed shares, the null's with the original."""
    have = counts.sum(axis=1) > 0
    if not have.any():
        return designed_change(counts, shares)
    drawer, found = sampler(counts[have], rng), fairness.ratio(counts, counts.sum(1, keepdims=True))
    u = unbalance(shares[have], found[have], sampling_noise(counts[have]), drawer, resamples, level)
    drawn = np.concatenate([found[have][None], drawer(found[have], resamples)])
    return share_changes(u, drawn, drawer(shares[have], resamples), shares, have)


def share_changes(
    u: Unbalance, drawn: Floats, null: Floats, shares: Floats, have: NDArray[np.bool_]
) -> ShareChange:
    """Of shares drawn ``(1 + R, H, G)`` and perfect ones ``(R, H, G)``, H the classes ``have``."""
    every = [_all_classes(part, have) for part in (drawn, null)]
    return ShareChange(
        u=replace(u, classes=_all_classes(u.classes[:, None][None], have)[0, :, 0]),
        variation=total_variation(every[0], shares),
        null=total_variation(every[1], shares),
        signed=majority_change(every[0], shares),
        shares=every[0],
        perfect=every[1],
    )


def _all_classes(part: Floats, have: NDArray[np.bool_]) -> Floats:
    """``(R, H, G) -> (R, C, G)``, NaN for a class that is not there."""
    found = np.full((len(part), len(have), part.shape[-1]), np.nan)
    found[:, have] = part
    return found


def designed_change(counts: Floats, shares: Floats) -> ShareChange:
    """Of shares that are fixed by design: nothing is sampled, u is the plain total variation and
    its interval that value. counts ``(C, G)``."""
    found = fairness.ratio(counts, counts.sum(axis=1, keepdims=True))[None]
    variation = total_variation(found, shares)
    value = float(fairness.mean_defined(variation)[0])
    return ShareChange(
        Unbalance(variation[0], (value, value, value), np.empty(0)),
        np.concatenate([variation, variation]),
        None,
        np.repeat(majority_change(found, shares), 2, axis=0),
        np.repeat(found, 2, axis=0),
        None,
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


def frechet_relative(real: RealFeatures, generated: Floats, neighbours: int) -> float:
    """Frechet distance of held-out real images to the original ones, over the generated images',
    0..1: another reading of q, where 1 is as close as real images are; ``generated (n, d)``.

    The distance falls with the number of images, so that both use as many: the first rows of each,
    which must come in random order. NaN where that is fewer than two.
    """
    count = min(len(real.held_out), len(generated))
    if count < 2:
        return float("nan")
    sets = (real.held_out[:count], generated[:count])
    theirs, ours = (frechet_between(real.moments, moments(part)) for part in sets)
    return min(theirs / ours, 1.0) if ours > 0 else 1.0
