"""Subgroup shares behind a probe that errs: corrected by its confusion matrix.

A probe reads subgroup j where i is true with probability M_ij, so that read shares are
``m = M^T p`` of the true shares p. Solving for p takes the probe's error off the mean and pays in
variance (`error_inflation`). The correction believes that the probe errs on generated images as it
does on the real ones that M was counted on. Pure: knows neither probe nor images.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from ray_selfloop.evaluation.fairness import ratio
from ray_selfloop.evaluation.fidelity import ShareChange, majority_change, total_variation
from ray_selfloop.evaluation.outcomes import Floats

SUM_TO_ONE = 1e4  # weight of that equation against one for each subgroup
ROUNDING = 1e-9


def corrected_shares(counts: Floats, confusion: Floats) -> Floats:
    """True subgroup shares within each class, ``(..., C, G)``: at least 0, rows sum to 1.

    counts ``(..., C, G)``: images that were read as each subgroup. confusion ``(..., C, G, G)``:
    row i holds how often true i was read as each j (counts or shares; no empty row). The exact
    solution of ``m = M^T p`` where it has no negative share, else the nearest m (least squares)
    that shares of at least 0 can give. Where M cannot tell two subgroups apart, one of the
    solutions. NaN for a class without images.
    """
    read = ratio(counts, counts.sum(axis=-1, keepdims=True))
    law = confusion / confusion.sum(axis=-1, keepdims=True)
    solved = np.einsum("...i,...ij->...j", read, np.linalg.pinv(law))
    law = np.broadcast_to(law, (*solved.shape, law.shape[-1]))
    exact = (solved >= -ROUNDING).all(axis=-1) & (abs(solved.sum(axis=-1) - 1.0) < ROUNDING)
    for at in zip(*np.nonzero(~exact & ~np.isnan(read).any(axis=-1)), strict=True):
        solved[at] = _nearest(read[at], law[at])
    solved = np.maximum(solved, 0.0)  # NaN stays NaN
    return np.asarray(solved / solved.sum(axis=-1, keepdims=True))


def _nearest(read: Floats, law: Floats) -> Floats:
    """Shares p of at least 0 and sum 1 with the smallest ``|M^T p - m|``; ``(G,)``, ``(G, G)``."""
    equations = np.vstack([law.T, np.full(len(read), SUM_TO_ONE)])
    found, _ = nnls(equations, np.append(read, SUM_TO_ONE))
    return np.asarray(found)


def error_inflation(confusion: Floats, shares: Floats) -> Floats:
    """Standard error of corrected shares over that of shares read without error, ``(C,)``, >= 1.

    Root of the ratio of summed variances over subgroups, for many images with true shares
    ``(C, G)``: ``Cov = M^-T (diag(m) - m m^T) M^-1 / n`` against ``(diag(p) - p p^T) / n``. The
    matrix's own sampling error comes on top. inf where M cannot be inverted.
    """
    law = confusion / confusion.sum(axis=-1, keepdims=True)
    found = np.full(len(law), np.inf)
    for c, (matrix, p) in enumerate(
        zip(law, shares / shares.sum(axis=1, keepdims=True), strict=True)
    ):
        if np.linalg.cond(matrix) < 1 / np.finfo(np.float64).eps:
            inverse, m = np.linalg.inv(matrix), p @ matrix
            corrected = np.trace(inverse.T @ (np.diag(m) - np.outer(m, m)) @ inverse)
            found[c] = np.sqrt(corrected / (1.0 - p @ p))
    return found


@dataclass(frozen=True)
class ProbedChange:
    """shares ``(1 + R, C, G)``: corrected within-class shares, observed (draw 0) and resampled.

    change: what follows from them, as `fidelity.share_change` gives it for shares read from pixels.
    """

    shares: Floats
    change: ShareChange


def probed_change(
    counts: Floats, shares: Floats, confusion: Floats, resamples: int, rng: np.random.Generator
) -> ProbedChange:
    """Unbalanced generation as a probe sees it, with intervals and floor that know its errors.

    counts ``(C, G)`` of generated images by the subgroup read; shares ``(C, G)`` of the original
    data, rows sum to 1; confusion ``(C, G, G)``: counts on real images, no empty row.
    Draws resample both the generated images and the real images behind the confusion matrix. The
    null is a perfect generator read by a probe whose true matrix is such a resample and corrected
    by the matrix that was counted; the floor is its mean. The matrix's error is the same in every
    generation: it does not average out over them. Total variation minus floor is 0 on average for a
    perfect generator; it understates a real unbalance (measured for a probe that is right 55 % of
    the time within a class, 50 real images a subgroup and 750 generated ones a class: .11 and .25
    where .2 and .4 are true), because errors and unbalance do not add up.
    """
    n = counts.sum(axis=1).astype(np.int64)
    read = ratio(counts, n[:, None].astype(np.float64))
    read = np.where(np.isnan(read), shares, read)
    matrices = _resampled(confusion, resamples, rng)  # (R, C, G, G)
    draws = rng.multinomial(n, read, size=(resamples, len(n))).astype(np.float64)
    perfect = np.einsum("ci,rcij->rcj", shares, matrices)
    null = rng.multinomial(n, perfect / perfect.sum(axis=-1, keepdims=True)).astype(np.float64)
    found = np.concatenate(
        [corrected_shares(counts[None], confusion), corrected_shares(draws, matrices)]
    )
    spread = total_variation(corrected_shares(null, confusion), shares)
    change = ShareChange(
        variation=total_variation(found, shares),
        floor=spread.mean(axis=0),
        null=spread,
        signed=majority_change(found, shares),
    )
    return ProbedChange(found, change)


def _resampled(confusion: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """``(R, C, G, G)``: each row drawn again as a multinomial of its own count; rows sum to 1."""
    support = confusion.sum(axis=-1)
    law = confusion / support[..., None]
    size = (resamples, *support.shape)
    drawn = rng.multinomial(support.astype(np.int64), law, size=size)
    return np.asarray(drawn / support[..., None])
