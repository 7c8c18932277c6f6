"""Control generators: real images in the place of generated ones.

``duplicate_real`` repeats the original images and so adds nothing new; ``held_out_real`` is a
perfect generator. Neither trains, neither sees a subgroup.
"""

import numpy as np

from ray_selfloop import seeding
from ray_selfloop.data.imageset import Ids, Images
from ray_selfloop.errors import ConfigError
from ray_selfloop.generators import TrainingImages


class DuplicateReal:
    """Draws original images of the asked labels, with replacement; see ``generators.Sampler``."""

    def __init__(self, data: TrainingImages) -> None:
        self.data = data
        self.order = np.argsort(data.labels, kind="stable")
        self.counts = np.bincount(data.labels)
        self.starts = np.cumsum(self.counts) - self.counts

    def sample(self, ids: Ids, labels: Ids, seed: int) -> Images:
        """Image ``i`` is a uniform draw from the stream ``(seed, "duplicate", i)``."""
        places = np.array(
            [
                seeding.rng(seed, "duplicate", int(i)).integers(self.counts[label])
                for i, label in zip(ids, labels, strict=True)
            ]
        )
        return self.data.images[self.order[self.starts[labels] + places]]


class HeldOutReal:
    """Hands out the reserve's images, none of them twice in a chain; see ``generators.Sampler``.

    plan: label of every sample id ``0..n-1`` of one generation, the same in each generation.
    generation: 1 is the first. chain_seed: orders the reserve, the same for the whole chain.
    Raises ConfigError where the reserve does not reach as far as ``generation``.
    """

    def __init__(
        self, reserve: TrainingImages, plan: Ids, generation: int, chain_seed: int
    ) -> None:
        check_reserve(np.bincount(reserve.labels), np.bincount(plan), generation)
        self.reserve, self.plan = reserve, plan
        self.rows = np.empty(len(plan), np.int64)
        for label in np.unique(plan):
            mine = np.flatnonzero(plan == label)
            order = seeding.rng(chain_seed, "reserve_order", int(label)).permutation(
                np.flatnonzero(reserve.labels == label)
            )
            self.rows[mine] = order[(generation - 1) * len(mine) : generation * len(mine)]

    def sample(self, ids: Ids, labels: Ids, seed: int) -> Images:
        """Image ``i`` is the row that the plan gave to id ``i``; ``seed`` has no part in it."""
        assert np.array_equal(self.plan[ids], labels), "labels are the plan's"
        return self.reserve.images[self.rows[ids]]


def check_reserve(reserve: Ids, drawn: Ids, generations: int) -> None:
    """Is a reserve large enough to hand out images without replacement?

    reserve: images of each class in the reserve. drawn: images of each class that one generation
    draws, before the filter. Raises ConfigError, which names the largest feasible number of
    generations at this volume, and the largest volume at this number of generations.
    """
    have = np.zeros(len(drawn), np.int64)
    have[: len(reserve)] = reserve[: len(drawn)]
    asked = drawn > 0
    if np.all(generations * drawn <= have):
        return
    feasible = int((have[asked] // drawn[asked]).min())
    fraction = float((have[asked] / (generations * drawn[asked])).min())
    raise ConfigError(
        f"held_out_real: {generations} generations of {drawn.sum()} draws need more images than "
        f"the reserve has ({have.sum()}). Largest feasible: {feasible} generations of "
        f"{drawn.sum()} draws, or {generations} generations of about {int(fraction * drawn.sum())} "
        "draws. Change loop.generations, queue.volume or dataset.reserve."
    )


def duplicate_real(data: TrainingImages) -> DuplicateReal:
    """The ``duplicate_real`` control over the original training images."""
    return DuplicateReal(data)


def held_out_real(
    reserve: TrainingImages, plan: Ids, generation: int, chain_seed: int
) -> HeldOutReal:
    """The ``held_out_real`` control for one generation; arguments as in ``HeldOutReal``."""
    return HeldOutReal(reserve, plan, generation, chain_seed)
