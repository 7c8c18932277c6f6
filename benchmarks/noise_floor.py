"""How often classifiers whose subgroups are truly equal lie inside the noise floor's band.

Simulated classifiers: accuracy differs between classes, images differ in difficulty, and three
seeds share the test images; the subgroup plays no part. The share of them whose measured MD,
1 - MEO and rank gap lie inside the band that the results table gives should be the band's level.
Two test sets: independent images as in CIFAR-20/100 (20 classes x 5 subgroups x 100 images), and
digits shown in every colour (10 x 3, 333 digits a class). Classifiers go in blocks that share the
permutations, as the trials of one scenario do; every block draws its own. As a positive control,
classifiers that use the colour.

    python benchmarks/noise_floor.py --classifiers 2000
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.evaluation import fairness
from ray_selfloop.evaluation.predictions import TestSet
from ray_selfloop.evaluation.tallies import permuted, resampled
from ray_selfloop.inference.images import band

Floats = NDArray[np.float64]
SEEDS = 3
DIFFICULTY = 1.5  # standard deviation of the images' difficulty, in logits
LEVEL = 0.95


def test_set(classes: int, groups: int, images: int, crossed: bool) -> TestSet:
    """``images`` in each class and subgroup, or in each class where shown in every subgroup."""
    cells = np.arange(classes * groups).repeat(images)
    labels, subgroups = cells // groups, cells % groups
    units = labels * images + np.tile(np.arange(images), classes * groups)
    return TestSet(
        labels=labels,
        subgroups=subgroups,
        units=units if crossed else np.arange(len(cells)),
        class_names=tuple(f"c{c}" for c in range(classes)),
        subgroup_names=tuple(f"g{g}" for g in range(groups)),
        train_shares=np.ones((classes, groups)),
        pooled=False,
        crossed=crossed,
    )


WORLDS = {
    "CIFAR-20/100: 20 x 5 x 100": (test_set(20, 5, 100, crossed=False), 0.5),
    "MNIST, crossed: 10 x 3 x 333": (test_set(10, 3, 333, crossed=True), 4.0),
}
"""Test set, and the logit of the accuracy on an image of mean difficulty."""


def correctness(
    test: TestSet, logit: float, rng: np.random.Generator, colour: float = 0.0
) -> NDArray[np.bool_]:
    """``(SEEDS, n)`` of one classifier; ``colour``: logits by which it prefers one subgroup of each
    class, and dislikes the others."""
    level = logit + rng.normal(0.0, 0.6, test.classes)[test.labels]
    hard = rng.normal(0.0, DIFFICULTY, test.units.max() + 1)[test.units]
    own = test.subgroups == test.labels % test.groups
    chance = 1.0 / (1.0 + np.exp(-(level + hard + np.where(own, colour, -colour))))
    found: NDArray[np.bool_] = rng.random((SEEDS, len(test.labels))) < chance
    return found


def _pooled(hits: Floats, support: Floats) -> Floats:
    return hits.sum(axis=-2) / support.sum(axis=-2)


def _per_class(gap: Callable[[Floats], Floats]) -> Callable[[Floats, Floats], Floats]:
    return lambda hits, support: gap(hits / support).mean(axis=-1)


def _rank_gap(hits: Floats, support: Floats) -> Floats:
    """The best rank of eq. 5 less the worst."""
    ranks = fairness.ranked(hits / support)
    return ranks[..., -1] - ranks[..., 0]


QUANTITIES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "MD, pooled": lambda hits, support: fairness.md(_pooled(hits, support)),
    "MD, per class": _per_class(fairness.md),
    "1 - MEO, pooled": lambda hits, support: fairness.mean_gap(_pooled(hits, support)),
    "1 - MEO, per class": _per_class(fairness.mean_gap),
    "rank gap (eq. 5)": _rank_gap,
}
"""``(..., C, G)`` and ``(C, G)`` -> ``(...)``"""


def inside(
    test: TestSet, classifiers: list[NDArray[np.bool_]], permutations: int, seed: int
) -> dict[str, NDArray[np.bool_]]:
    """Whether each classifier's mean over its seeds lies inside its band, ends included."""
    correct = np.concatenate(classifiers)
    seen = resampled(correct, test, 0, seed)
    null = permuted(correct, test, permutations, seed)
    found = {}
    for name, quantity in QUANTITIES.items():
        value, draws = (
            quantity(tally.hits, tally.support).reshape(-1, len(classifiers), SEEDS).mean(axis=-1)
            for tally in (seen, null)
        )
        _, low, high = band(draws, LEVEL)
        found[name] = (low - 1e-9 <= value[0]) & (value[0] <= high + 1e-9)
    return found


def coverage(
    test: TestSet, logit: float, size: tuple[int, int], permutations: int, seed: int,
    colour: float = 0.0,
) -> dict[str, float]:  # fmt: skip
    """Share of classifiers inside the band; size: blocks, and classifiers in each."""
    rng, found = np.random.default_rng([seed, test.classes]), []
    for block in range(size[0]):
        classifiers = [correctness(test, logit, rng, colour) for _ in range(size[1])]
        found.append(inside(test, classifiers, permutations, seed * size[0] + block))
    return {name: float(np.mean([part[name] for part in found])) for name in QUANTITIES}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--classifiers", type=int, default=2000)
    parser.add_argument("--block", type=int, default=10)
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    n, started = asked.classifiers, time.monotonic()
    print(f"{n} classifiers, {SEEDS} seeds, {asked.permutations} permutations, {LEVEL:.0%} band\n")
    print("| test set | quantity | inside | Monte-Carlo error | using the colour: inside |")
    print("|---|---|---|---|---|")
    for world, (test, logit) in WORLDS.items():
        size = (n // asked.block, asked.block)
        equal = coverage(test, logit, size, asked.permutations, asked.seed)
        unequal = coverage(test, logit, (1, asked.block), asked.permutations, asked.seed, 0.75)
        for name, share in equal.items():
            error = (share * (1 - share) / n) ** 0.5
            other = f"{unequal[name]:.0%} of {asked.block}"
            print(f"| {world} | {name} | {share:.1%} | {error:.1%} | {other} |", flush=True)
    print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
