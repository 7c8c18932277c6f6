"""Control generators: real images in the place of generated ones.

``duplicate_real`` repeats the original images and so adds nothing new; ``held_out_real`` is a
perfect generator. Neither trains, neither sees a subgroup.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ray_selfloop import seeding
from ray_selfloop.config.generators import control as config
from ray_selfloop.errors import ConfigError
from ray_selfloop.generators.base import Demand, Generator, Scene, TrainingImages
from ray_selfloop.images.imageset import Ids, ImageSource
from ray_selfloop.images.pictures import selected
from ray_selfloop.images.split import apportion


class DuplicateReal:
    """Draws original images of the asked labels, with replacement; see ``generators.Sampler``."""

    def __init__(self, data: TrainingImages) -> None:
        self.data = data
        self.order = np.argsort(data.labels, kind="stable")
        self.counts = np.bincount(data.labels)
        self.starts = np.cumsum(self.counts) - self.counts

    def sample(self, ids: Ids, labels: Ids, seed: int) -> ImageSource:
        """Image ``i`` is a uniform draw from the stream ``(seed, "duplicate", i)``."""
        places = np.array(
            [
                seeding.rng(seed, "duplicate", int(i)).integers(self.counts[label])
                for i, label in zip(ids, labels, strict=True)
            ]
        )
        return selected(self.data.images, self.order[self.starts[labels] + places])


class _Planned:
    """Hands out the ``rows`` of a reserve; see ``generators.Sampler``."""

    def __init__(self, reserve: TrainingImages, plan: Ids) -> None:
        self.reserve, self.plan, self.rows = reserve, plan, np.empty(len(plan), np.int64)

    def sample(self, ids: Ids, labels: Ids, seed: int) -> ImageSource:
        """Image ``i`` is the row that the plan gave to id ``i``; ``seed`` has no part in it."""
        assert np.array_equal(self.plan[ids], labels), "labels are the plan's"
        return selected(self.reserve.images, self.rows[ids])


class HeldOutReal(_Planned):
    """Hands out the reserve's images, none of them twice in a chain; see ``generators.Sampler``.

    plan: label of every sample id ``0..n-1`` of one generation, the same in each generation.
    generation: 1 is the first. chain_seed: orders the reserve, the same for the whole chain.
    Raises ConfigError where the reserve does not reach as far as ``generation``.
    """

    def __init__(
        self, reserve: TrainingImages, plan: Ids, generation: int, chain_seed: int
    ) -> None:
        check_reserve(np.bincount(reserve.labels), np.bincount(plan), generation)
        super().__init__(reserve, plan)
        for label in np.unique(plan):
            mine = np.flatnonzero(plan == label)
            order = seeding.rng(chain_seed, "reserve_order", int(label)).permutation(
                np.flatnonzero(reserve.labels == label)
            )
            self.rows[mine] = order[(generation - 1) * len(mine) : generation * len(mine)]


class SkewedReal(_Planned):
    """Reserve images with given within-class subgroup shares: arm `real_skewed`, uses subgroups.

    subgroups: int64 ``(m,)`` of the reserve's images. plan: as in HeldOutReal. shares: float
    ``(C, G)`` for each generation 1..n, no NaN in a class of the plan; the last one is drawn. Of
    each class and subgroup the reserve is handed out in one seeded order; no image comes twice in a
    chain before all of its subgroup have come once. ``repeated``: draws that had come before in
    this chain.
    """

    def __init__(
        self,
        reserve: TrainingImages,
        subgroups: Ids,
        plan: Ids,
        shares: list[NDArray[np.float64]],
        chain_seed: int,
    ) -> None:
        super().__init__(reserve, plan)
        self.repeated = 0
        for label in np.unique(plan):
            mine = np.flatnonzero(plan == label)
            of = [
                np.flatnonzero((reserve.labels == label) & (subgroups == g))
                for g in range(shares[0].shape[1])
            ]
            have = np.array([len(rows) for rows in of])
            assert all(np.isfinite(s[label]).all() for s in shares), "shares are known"
            drawn = np.array([apportion(len(mine), _possible(s[label], have)) for s in shares])
            parts = []
            for g, rows in enumerate(of):
                order = seeding.rng(chain_seed, "skewed", int(label), g).permutation(rows)
                past, count = int(drawn[:-1, g].sum()), int(drawn[-1, g])
                parts.append(np.take(order, range(past, past + count), mode="wrap")
                             if count else np.empty(0, np.int64))  # fmt: skip
                self.repeated += min(count, max(past + count - len(rows), 0))
            self.rows[mine] = np.concatenate(parts)


def _possible(shares: NDArray[np.float64], have: Ids) -> NDArray[np.float64]:
    """Shares of the subgroups that the reserve has; equal ones where none of them was asked for."""
    possible = np.where(have > 0, np.maximum(shares, 0.0), 0.0)
    return possible if possible.sum() > 0 else (have > 0).astype(np.float64)


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
        f"dataset.reserve: {generations} generations of {drawn.sum()} draws need more images than "
        f"the reserve has ({have.sum()}). Largest feasible: {feasible} generations of "
        f"{drawn.sum()} draws, or {generations} generations of about {int(fraction * drawn.sum())} "
        "draws. Change loop.generations, queue.volume or dataset.reserve."
    )


def check(settings: config.HeldOutReal, demand: Callable[[], Demand]) -> None:
    """Raise ConfigError where the reserve is too small for every generation's draws."""
    asked = demand()
    check_reserve(asked.reserve, asked.draws, asked.generations)


def _held_out(scene: Scene, settings: config.HeldOutReal) -> HeldOutReal:
    turn = scene.turn
    assert turn is not None, "it draws by turn"
    return HeldOutReal(scene.reserve, turn.labels, turn.generation, turn.seed)


DUPLICATE = Generator(sampler=lambda scene, settings: DuplicateReal(scene.original))
HELD_OUT = Generator(sampler=_held_out)
