"""Distances between two sets of feature vectors: Frechet, kernel, precision, recall, coverage.

Pure linear algebra on float64 ``(n, d)`` arrays; knows nothing of images or networks. Callers limit
the threads of the linear algebra.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.evaluation.predictions import Floats

EXACT = 1e-6  # of a distance, that a faster way to it may be off
ROUNDINGS = 4  # of the largest eigenvalue, by which others are off at most


class Moments(NamedTuple):
    """Mean and covariance of ``n`` feature vectors.

    mean ``(d,)``; factor F ``(min(n, d), d)`` with ``F^T F`` the covariance (divisor n - 1).
    """

    mean: Floats
    factor: Floats


@dataclass(frozen=True)
class RealFeatures:
    """One named feature set of the real data, measured once per dataset.

    train: ``(n, d)``, a seeded draw of at most ``settings.reference`` original training images.
    reach: ``(n,)``, `radii` of these; empty where there are too few of them.
    held_out: ``(m, d)``, all held-out images in a seeded order.
    moments: mean and covariance of *all* original training images.
    """

    train: Floats
    reach: Floats
    held_out: Floats
    moments: Moments


def moments(features: Floats) -> Moments:
    """Moments of ``(n, d)``, n > 1: the centred rows themselves, or where there are more rows than
    dimensions the covariance's Cholesky factor; its square root where it is singular (rounding
    below zero is cut)."""
    mean = features.mean(axis=0)
    if len(features) <= features.shape[1]:
        return Moments(mean, (features - mean) / np.sqrt(len(features) - 1))
    covariance = np.atleast_2d(np.cov(features, rowvar=False))
    try:
        return Moments(mean, np.asarray(np.linalg.cholesky(covariance).T, np.float64))
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
    return Moments(mean, (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


def frechet_between(first: Moments, second: Moments) -> float:
    """``|m_1 - m_2|^2 + Tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2))`` (eq. 1), at least 0; 0 is equal.

    The trace of the root is the sum of singular values of ``F_1 F_2^T``, which is also right for
    singular covariances, where scipy's `sqrtm` (pytorch-fid, clean-fid) adds a ridge and
    torch-fidelity takes eigenvalues of the product: all agree within 1e-5, relative. Those may give
    a set's distance to itself as -2.5e-6; here it is cut at 0. Squared feature units.
    """
    shift = first.mean - second.mean
    product = first.factor @ second.factor.T
    apart = float(shift @ shift + (first.factor**2).sum() + (second.factor**2).sum())
    overlap, doubt = _by_squares(product)
    if doubt > EXACT * (apart - 2.0 * overlap):
        overlap = float(np.linalg.svd(product, compute_uv=False).sum())
    return max(apart - 2.0 * overlap, 0.0)


def _by_squares(product: Floats) -> tuple[float, float]:
    """The sum of singular values by the eigenvalues of the Gram matrix, and how far off it may be.

    Several times as fast as the singular values themselves. An eigenvalue is off by a rounding of
    the largest, which is much to the root of a small one.
    """
    wide = product.shape[0] <= product.shape[1]
    squares = np.linalg.eigvalsh(product @ product.T if wide else product.T @ product)
    roots = np.sqrt(np.maximum(squares, 0.0))
    off = ROUNDINGS * np.finfo(np.float64).eps * float(roots.max(initial=0.0)) ** 2
    lost = np.minimum(np.sqrt(off), off / np.maximum(roots, 1e-300))
    return float(roots.sum()), float(lost.sum())


def kernel_distance(real: Floats, generated: Floats) -> float:
    """Unbiased squared MMD with kernel ``(x.y / d + 1)^3`` (KID); may be negative; 0 is equal.

    Over the full sets, which may differ in size: equal to torchmetrics' `poly_mmd` and
    torch-fidelity's `mmd2` where one subset is the whole set. Their KID is a mean over random
    subsets (100 of 1,000), equal to this in expectation only. Needs two rows in each set.
    """
    d, m, n = real.shape[1], len(real), len(generated)

    def kernel(a: Floats, b: Floats) -> Floats:
        base = a @ b.T / d + 1.0
        return base * base * base  # many times faster than a power

    own, other = kernel(real, real), kernel(generated, generated)
    within = (own.sum() - np.trace(own)) / (m * (m - 1))
    within += (other.sum() - np.trace(other)) / (n * (n - 1))
    return float(within - 2.0 * kernel(real, generated).mean())


def distances(a: Floats, b: Floats) -> Floats:
    """Euclidean distances ``(len(a), len(b))``; both are centred first, against cancellation."""
    centre = a.mean(axis=0)
    x, y = a - centre, b - centre
    squared = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2.0 * (x @ y.T)
    return np.sqrt(np.maximum(squared, 0.0))


def radii(points: Floats, neighbours: int) -> Floats:
    """Distance of each point to its k-th nearest other point, ``(n,)``; needs n > k.

    prdc's convention: entry k + 1 of the sorted distances, of which the first is the point itself.
    """
    own = distances(points, points)
    np.fill_diagonal(own, -1.0)  # itself comes first, whatever rounding says
    return np.partition(own, neighbours, axis=1)[:, neighbours]


class Prdc(NamedTuple):
    """Precision, recall (0..1), density (0 or more, about 1 when equal) and coverage (0..1)."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Floats, generated: Floats, neighbours: int, reach: Floats) -> Prdc:
    """Kynkaanniemi et al. 2019, Naeem et al. 2020, with k-NN balls and strict inequality.

    As `prdc.compute_prdc(real, fake, k)`. torch-fidelity calls the *generated* set input 1, so that
    arguments in this order swap its precision and recall, and it counts points on a ball's surface
    as inside (``<=``): equal where no distance ties with a radius.

    precision: generated points inside a ball of a real point. recall: real points inside a ball of
    a generated point. density: real balls around a generated point, mean, over k. coverage: real
    balls that hold a generated point. reach: ``radii(real, neighbours)``.
    """
    between = distances(real, generated)  # (real, generated)
    inside = between < reach[:, None]
    reached = between < radii(generated, neighbours)[None, :]
    return Prdc(
        precision=float(inside.any(axis=0).mean()),
        recall=float(reached.any(axis=1).mean()),
        density=float(inside.sum(axis=0).mean() / neighbours),
        coverage=float(inside.any(axis=1).mean()),
    )


def precision_and_coverage(
    real: Floats, other: Floats, reach: Floats, count: int
) -> tuple[float, float]:
    """Precision of all of ``other``; coverage by ``count`` of them, mean over disjoint blocks.

    Coverage grows with the number of points, so that two sets are compared at one count.
    reach: ``radii(real, k)``.
    """
    inside: NDArray[np.bool_] = distances(real, other) < reach[:, None]
    blocks = range(0, len(other) - count + 1, count)
    covered = [inside[:, start : start + count].any(axis=1).mean() for start in blocks]
    return float(inside.any(axis=0).mean()), float(np.mean(covered)) if covered else float("nan")
