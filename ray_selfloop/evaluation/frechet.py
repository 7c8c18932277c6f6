"""Distances between two sets of feature vectors: Frechet, kernel, precision, recall, coverage.

Pure linear algebra on float64 ``(n, d)`` arrays; knows nothing of images or networks. Callers limit
the threads of the linear algebra.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.evaluation.outcomes import Floats


def _root(symmetric: Floats) -> Floats:
    """Square root of a positive semi-definite matrix; rounding below zero is cut."""
    values, vectors = np.linalg.eigh(symmetric)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def frechet_distance(real: Floats, generated: Floats) -> float:
    """``|m_r - m_g|^2 + Tr(S_r + S_g - 2 (S_r S_g)^(1/2))`` (eq. 1), at least 0; 0 is equal.

    Means and covariances (divisor n - 1) of the features. The trace of the root is the sum of
    singular values of ``S_r^(1/2) S_g^(1/2)``, which is also right for singular covariances.
    Squared feature units. Needs two rows in each set.
    """
    shift = real.mean(axis=0) - generated.mean(axis=0)
    first, second = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (real, generated))
    overlap = np.linalg.svd(_root(first) @ _root(second), compute_uv=False).sum()
    distance = shift @ shift + np.trace(first) + np.trace(second) - 2.0 * overlap
    return max(float(distance), 0.0)


def kernel_distance(real: Floats, generated: Floats) -> float:
    """Unbiased squared MMD with kernel ``(x.y / d + 1)^3`` (KID); may be negative; 0 is equal.

    Over the full sets, no subsets. Needs two rows in each set.
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
    """Distance of each point to its k-th nearest other point, ``(n,)``; needs n > k."""
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
