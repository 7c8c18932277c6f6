"""Sweeps whose truth is known, at the level of test-image outcomes: a test tool.

What a loop leaves behind is, for every trial, which test images it classifies correctly. Here that
is drawn from a law that is written down:

    logit P(image i in subgroup g of class c is right, in arm a, chain k, generation t, seed s) =
        level_c + gap_cg + d_i                            the images' own difficulty, d ~ N(0, sd^2)
        + chain_kcg + seed_kscg                           runs differ from the start
        + t (step_acg + slope_akcg + common_ak) + wobble_akstcg    and go on differing

so that every metric's truth over infinitely many chains and images can be computed (`World.rates`)
and every interval, p value, verdict and sentence of the program can be held against it. All arms
share generation 0, images and chains, as the program's own arms do. Used by the tests and by
`benchmarks/`; nothing of the program imports it.

    world = World(Layout.crossed_digits(36), gap=(0.6, -0.1, -0.5), slope=0.05)
    arms = world.arms({"treatment": Step(gap=0.3), "no_synthetic": Step()}, chains=5, seed=1)
    claims(arms, settings)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from ray_selfloop.claims.paired import Arm
from ray_selfloop.claims.statements import STATEMENTS
from ray_selfloop.config.networks import JUDGE
from ray_selfloop.evaluation.predictions import Floats, Ids, Outcome, TestSet

HERMITE = np.polynomial.hermite_e.hermegauss(61)
TAILS = ("normal", "t4", "unequal")
BIASED = next(s.dataset for s in STATEMENTS if s.initialization)  # the paper's with such a start


@dataclass(frozen=True)
class Layout:
    """Test images by class and subgroup. counts ``(C, G)``; where crossed, each of the ``(C,)``
    first column's images is shown once in every subgroup. shares ``(C, G)``: training shares."""

    counts: Ids
    crossed: bool
    pooled: bool
    shares: Floats | None = None

    @staticmethod
    def crossed_digits(images: int, classes: int = 10, groups: int = 3) -> "Layout":
        """``images`` of each class, each in every colour; colours mean the same in all classes.
        36: scikit-learn's digits; 1,000: MNIST's size."""
        return Layout(np.full((classes, groups), images), crossed=True, pooled=True)

    @staticmethod
    def cifar(classes: int = 20, groups: int = 5, images: int = 100) -> "Layout":
        """CIFAR-20/100's test set: ``images`` of each fine class."""
        return Layout(np.full((classes, groups), images), crossed=False, pooled=False)

    @staticmethod
    def uneven(
        images: int = 40, shares: Sequence[float] = (0.7, 0.2, 0.1), classes: int = 10
    ) -> "Layout":
        """``images`` of each class, split over the subgroups by these shares, each shown once."""
        counts = np.maximum(np.round(images * np.asarray(shares)), 1).astype(np.int64)
        return Layout(np.tile(counts, (classes, 1)), False, True, np.tile(shares, (classes, 1)))

    def test_set(self) -> TestSet:
        """The rows, class by class."""
        classes, groups = self.counts.shape
        if self.crossed:
            owners = np.repeat(np.arange(classes), self.counts[:, 0])
            labels, units = np.repeat(owners, groups), np.repeat(np.arange(len(owners)), groups)
            subgroups = np.tile(np.arange(groups), len(owners))
        else:
            cells = np.repeat(np.arange(classes * groups), self.counts.ravel())
            labels, subgroups, units = cells // groups, cells % groups, np.arange(len(cells))
        return TestSet(
            labels=labels,
            subgroups=subgroups,
            units=units,
            class_names=tuple(f"class {c:02d}" for c in range(classes)),
            subgroup_names=tuple(f"group {g}" for g in range(groups)),
            train_shares=np.ones(self.counts.shape) if self.shares is None else self.shares,
            pooled=self.pooled,
            crossed=self.crossed,
        )


@dataclass(frozen=True)
class Step:
    """What an arm does to the logits in each generation.

    level: added everywhere (a mechanical change). gap: this share of the world's own gap is added
    to it (0.1: gaps on the logit scale grow by 10 % of their start in each generation). cells:
    ``(C, G)``-broadcastable, added as it is. after: the last generation without these three.
    networks: the networks that it happens to; () is all. collapse: chains that predict class 0 from
    generation ``since`` on. lost: ``(C, G)`` mask of cells that no image of is right from
    generation ``since`` on.
    """

    level: float = 0.0
    gap: float = 0.0
    cells: ArrayLike = 0.0
    after: int = 0
    networks: tuple[str, ...] = ()
    collapse: tuple[int, ...] = ()
    lost: ArrayLike | None = None
    since: int = 2


@dataclass(frozen=True)
class World:
    """level: logit of each class, ``(C,)``-broadcastable; gap: of each subgroup beyond it,
    ``(C, G)``-broadcastable. difficulty: sd of the images' own logits. chain, seed: sd of the
    starting logits of each class x subgroup between chains, and between seeds of a chain. slope,
    common: sd between chains of an arm's change per generation, of each cell and of all cells
    alike. wobble: sd of each trial and cell anew. tails: ``normal``; ``t4``: chains' slopes are t
    with 4 freedom, same variance; ``unequal``: each chain's scatter times exp(N(0, 1)).
    """

    layout: Layout
    level: ArrayLike = 2.5
    gap: ArrayLike = 0.0
    difficulty: float = 1.5
    chain: float = 0.1
    seed: float = 0.1
    slope: float = 0.03
    common: float = 0.0
    wobble: float = 0.02
    tails: str = "normal"
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.tails in TAILS, self.tails

    @property
    def shape(self) -> tuple[int, int]:
        """(C, G)."""
        classes, groups = self.layout.counts.shape
        return classes, groups

    @property
    def start(self) -> Floats:
        """Mean logits of generation 0 beside the images' own, ``(C, G)``."""
        level = np.broadcast_to(np.asarray(self.level, np.float64), self.shape[:1])
        return np.asarray(level[:, None] + self._gap)

    @property
    def _gap(self) -> Floats:
        return np.broadcast_to(np.asarray(self.gap, np.float64), self.shape)

    def rates(self, logits: Floats) -> Floats:
        """True rates over infinitely many images: ``E_d expit(logit + d)``, any shape."""
        nodes, weights = HERMITE
        points = expit(logits[..., None] + self.difficulty * nodes)
        return np.asarray(points @ (weights / weights.sum()))

    def moved(self, step: Step, generation: int) -> Floats:
        """Mean logits of an arm at a generation, ``(C, G)``; lost cells at -inf."""
        per = step.level + step.gap * self._gap + np.asarray(step.cells, np.float64)
        logits = self.start + max(generation - step.after, 0) * np.broadcast_to(per, self.shape)
        if step.lost is not None and generation >= step.since:
            logits = np.where(np.broadcast_to(step.lost, self.shape), -np.inf, logits)
        return np.asarray(logits)

    def _scale(self, rng: np.random.Generator, chains: int) -> Floats:
        """``(m, 1, 1)``: what each chain's scatter is multiplied by."""
        if self.tails == "unequal":
            return np.exp(rng.standard_normal((chains, 1, 1)))
        if self.tails == "t4":  # variance of t(4) is 2
            return np.sqrt(4.0 / rng.chisquare(4, (chains, 1, 1)) / 2.0)
        return np.ones((chains, 1, 1))

    def logits(
        self,
        rng: np.random.Generator,
        steps: Mapping[str, Step],
        size: tuple[int, int, int],
        network: str = JUDGE,
    ) -> dict[str, Floats]:
        """Logits beside the images' own, by arm: ``(m, S, N + 1, C, G)``; size: ``(m, S, N)``."""
        (m, seeds, last), cells = size, self.shape
        scale = self._scale(rng, m)
        start = self.start + self.chain * scale * rng.standard_normal((m, *cells))
        first = start[:, None] + self.seed * rng.standard_normal((m, seeds, *cells))
        times = np.arange(last + 1)[:, None, None]
        found = {}
        for arm, step in steps.items():
            acts = not step.networks or network in step.networks
            mean = np.stack(
                [self.moved(step if acts else Step(), t) - self.start for t in range(last + 1)]
            )
            trend = scale * (
                self.slope * rng.standard_normal((m, *cells))
                + self.common * rng.standard_normal((m, 1, 1))
            )
            wobble = self.wobble * rng.standard_normal((m, seeds, last + 1, *cells))
            wobble[:, :, 0] = 0.0
            found[arm] = first[:, :, None] + mean + times * trend[:, None, None] + wobble
        return found

    def difficulties(self, rng: np.random.Generator, test: TestSet) -> Floats:
        """The images' own logits, one for each row: a unit's is the same in every subgroup."""
        return np.asarray(
            self.difficulty * rng.standard_normal(int(test.units.max()) + 1)[test.units]
        )

    def arms(
        self,
        steps: Mapping[str, Step],
        chains: int = 3,
        generations: int = 3,
        networks: Sequence[str] = (JUDGE,),
        seeds: int = 1,
        seed: int | np.random.Generator = 0,
        images: int | np.random.Generator | None = None,
    ) -> list[Arm]:
        """The arms' stored outcomes, as claims are given them. seed: of everything but the images'
        difficulty, whose seed is ``images`` (where left out, ``seed`` too)."""
        rng = np.random.default_rng(seed)
        test = self.layout.test_set()
        own = self.difficulties(rng if images is None else np.random.default_rng(images), test)
        outcomes: dict[str, list[Outcome]] = {arm: [] for arm in steps}
        for network in networks:
            found = self.logits(rng, steps, (chains, seeds, generations), network)
            start: list[Outcome] = []
            for arm, step in steps.items():
                for k, s in np.ndindex(chains, seeds):
                    for t in range(generations + 1):
                        if t == 0 and len(start) == chains * seeds:
                            continue  # generation 0 is one for all arms
                        down = k in step.collapse and t >= step.since
                        place = (k, t, network, s)
                        one = _drawn(rng, found[arm][k, s, t], own, test, place, down)
                        (outcomes[arm] if t else start).append(one)
            for arm in steps:
                outcomes[arm] += start
        about = {"classifiers": tuple(networks), "generations": generations}
        return [self._arm(arm, test, outcomes[arm], about) for arm in steps]

    def _arm(
        self, arm: str, test: TestSet, outcomes: list[Outcome], known: Mapping[str, Any]
    ) -> Arm:
        about: dict[str, Any] = {
            "group": "base", "dataset": BIASED, "initialization": "biased",
            "pretrained": False, "subgroups": test.groups, "pooled": test.pooled,
            **known, **self.about,
        }  # fmt: skip
        return Arm(
            scenario=f"{about['group']},arm={arm}", arm=arm, outcomes=outcomes, test=test, **about
        )


def _drawn(
    rng: np.random.Generator,
    logits: Floats,
    own: Floats,
    test: TestSet,
    place: tuple[int, int, str, int],
    collapsed: bool,
) -> Outcome:
    """One trial: right by its law, else the next class; collapsed: class 0 whatever it sees."""
    right = rng.random(len(own)) < expit(logits[test.labels, test.subgroups] + own)
    wrong = (test.labels + 1) % test.classes
    predictions = np.zeros_like(wrong) if collapsed else np.where(right, test.labels, wrong)
    return Outcome(*place, predictions, collapsed)
