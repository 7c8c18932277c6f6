"""When a generator has learned enough, and whether what it learned is any good.

Compares samples with held-out real images, class by class, in a fixed feature space: `pixels8`,
images area-averaged to 8x8 and kept in colour. No subgroup label is known here; a missing subgroup
shows because the distance between distributions grows and the spread of the samples shrinks.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ray_selfloop.images.features import pixels8
from ray_selfloop.images.imageset import Images

CRITERION = "energy_distance/pixels8"


class Look(NamedTuple):
    """One comparison of samples with the held-out images.

    distance: class-conditional energy distance, 0 for equal distributions, in units of the
        feature space (root of summed squared differences of pixels in 0..1).
    diversity: spread within a class of the samples over that of the real images; 1 is alike.
    least_diversity: the same for the class where it is smallest.
    """

    distance: float
    diversity: float
    least_diversity: float


def features(images: Images) -> Tensor:
    """uint8 ``(n, C, H, W)`` -> what is compared, float32 ``(n, C * 64)``."""
    return torch.from_numpy(pixels8(images)).float()


def _spread(a: Tensor) -> Tensor:
    """Mean distance of two different rows of ``(n, d)``."""
    return F.pdist(a).mean()


def look(real: Tensor, real_labels: Tensor, drawn: Tensor, drawn_labels: Tensor) -> Look:
    """Compare features ``(n, d)`` class by class; classes with under two rows are left out.

    Energy distance (Szekely and Rizzo 2013): ``2 E|X-Y| - E|X-X'| - E|Y-Y'|``, the mean over
    classes weighted by their number of real images. Raises ValueError when no class is left.
    """
    distances, ratios, weights = [], [], []
    for label in real_labels.unique().tolist():
        x, y = real[real_labels == label], drawn[drawn_labels == label]
        if len(x) < 2 or len(y) < 2:
            continue
        within = _spread(x)
        spread = _spread(y)
        distances.append(float(2 * torch.cdist(x, y).mean() - within - spread))
        ratios.append(float(spread / within.clamp_min(1e-12)))
        weights.append(len(x))
    if not weights:
        raise ValueError("no class has two held-out images: nothing to compare samples with")
    total = sum(weights)
    return Look(
        distance=math.fsum(d * w for d, w in zip(distances, weights, strict=True)) / total,
        diversity=math.fsum(r * w for r, w in zip(ratios, weights, strict=True)) / total,
        least_diversity=min(ratios),
    )


class Stopping:
    """Follows the criterion: which step was best, and whether to go on.

    patience, minimum, budget: optimiser steps.
    """

    def __init__(self, patience: int, minimum: int, budget: int) -> None:
        self.patience, self.minimum, self.budget = patience, minimum, budget
        self.best_step, self.best = 0, math.inf

    def improved(self, step: int, distance: float) -> bool:
        """Record a look; True where it is the best so far."""
        better = distance < self.best
        if better:
            self.best_step, self.best = step, distance
        return better

    def verdict(self, step: int) -> str | None:
        """``converged``, ``budget``, or None to go on."""
        if step >= self.minimum and step - self.best_step >= self.patience:
            return "converged"
        return "budget" if step >= self.budget else None
