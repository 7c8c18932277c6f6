"""Everything measured of a sweep, read when it is asked for: contrasts of groups and classifiers,
generators' distances, what was lost. Decides nothing about a statement."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ray_selfloop.claims.cases import Case, Group, Member, Who
from ray_selfloop.claims.contrasts import (
    LEVEL,
    NAN,
    SCATTER,
    SLOPE,
    Contrast,
    mean_of,
    minus,
    time_weights,
)
from ray_selfloop.claims.other_readings import Choice
from ray_selfloop.claims.paired import Key, Measured, Place, measure
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation.metrics import ACCURACY, DI, MD, MEO, METRICS
from ray_selfloop.evaluation.predictions import Floats
from ray_selfloop.inference.chains import Effect, effect, effect_of_chains, noise_floor
from ray_selfloop.inference.sequential import levels

FLOORED = (MD.name, MEO.name, DI.name)  # gaps that noise alone makes larger than 0


@dataclass(frozen=True)
class Looks:
    """A sweep that is judged at several numbers of chains.

    declared: those numbers. seeds: the loop seeds that there are, in the order of their adding.
    settled: whether nothing of this look is still to be computed.
    """

    declared: tuple[int, ...]
    seeds: tuple[int, ...]
    settled: bool = True

    @property
    def made(self) -> list[int]:
        """Numbers of chains of the looks so far, this one included."""
        return [m for m in self.declared if m <= len(self.seeds)]


@dataclass
class Sweep:
    """The groups of a sweep and what their trials show.

    looks: None where there is one.
    """

    groups: Sequence[Group]
    settings: Evaluation
    looks: Looks | None = None
    _measured: dict[Who, Measured | None] = field(default_factory=dict)
    _earlier: dict[int, "Sweep"] = field(default_factory=dict)
    _made: dict[tuple[Who, Key, str, tuple[str, ...]], Contrast] = field(default_factory=dict)

    @cached_property
    def by_name(self) -> dict[str, Group]:
        return {group.name: group for group in self.groups}

    def at(self, chains: int) -> "Sweep":
        """As it was at the look at so many chains, value for value."""
        assert self.looks is not None
        seeds = self.looks.seeds[:chains]
        if seeds == self.looks.seeds:
            return self
        if chains not in self._earlier:
            groups = [group.of(seeds) for group in self.groups]
            self._earlier[chains] = Sweep(groups, self.settings, replace(self.looks, seeds=seeds))
        return self._earlier[chains]

    def level_of(self, together: int) -> float:
        """The two-sided level of the first of n primary statements at this look."""
        alpha = (1 - self.settings.level) / together
        if self.looks is None:
            return alpha
        declared = self.looks.declared
        return levels(declared, alpha)[declared.index(len(self.looks.seeds))]

    def measured(self, group: str, classifier: str) -> Measured | None:
        """One classifier in the arms of a group; None where nothing is published of it."""
        who = (group, classifier)
        if who not in self._measured:
            self._measured[who] = measure(classifier, self.by_name[group].arms, self.settings)
        return self._measured[who]

    def has(self, who: Who, key: Key) -> bool:
        """Whether there is such a reading."""
        measured = self.measured(*who)
        return measured is not None and key in measured.values

    def key(self, case: Case) -> tuple[Key, float]:
        """The reading that a case's metric is, and the factor that it is taken by."""
        ordered = self.settings.ordered
        key, factor = Choice(ordered).key(case.metric, case.reading, ordered)
        return (key, case.statement.subgroup), factor

    def _contrast(self, who: Who, key: Key, estimand: str, arms: tuple[str, ...]) -> Contrast:
        at = (who, key, estimand, arms)
        if at not in self._made:
            measured = self.measured(*who)
            assert measured is not None, who
            self._made[at] = measured.contrast(key, estimand, arms)
        return self._made[at]

    def contrast(self, case: Case, members: Sequence[Member], key: Key) -> Contrast:
        """The mean over members of each one's difference, on the chains that all have."""

        def of(everyone: Sequence[Who]) -> Contrast:
            estimand = case.statement.estimand
            return mean_of([self._contrast(who, key, estimand, case.arms) for who in everyone])

        sides = [(of(m.plus), of(m.less) if m.less else None) for m in members]
        return mean_of([plus if less is None else minus(plus, less) for plus, less in sides])

    def effect(self, case: Case, members: Sequence[Member], key: Key, factor: float) -> Effect:
        found = self.contrast(case, members, key).scaled(factor)
        floor, start = self._floor(case, members, key)
        size = abs(factor) / max(case.last if case.statement.estimand == SLOPE else 1, 1)
        made = effect(found.draws, self.settings.level)
        way = self._way(key)
        return replace(made, floor=size * floor, start=size * start, way=way)

    @staticmethod
    def _way(key: Key) -> int:
        """-1 of a metric that is best at 1: it falls where its gap grows."""
        name = key[0].partition("_")[0]
        return -1 if name in FLOORED and METRICS[name].ideal == 1 else 1

    def _floor(self, case: Case, members: Sequence[Member], key: Key) -> tuple[float, float]:
        """Of a change: the noise floor and the level, in the reference arm, of a gap; 0 of what is
        no gap, and of a difference between networks or settings."""
        name = key[0].partition("_")[0]
        inflated = name in FLOORED and "_change" not in key[0]
        if not inflated or case.statement.estimand == SCATTER or any(m.less for m in members):
            return 0.0, 0.0
        everyone = [who for member in members for who in member.plus]
        level = mean_of([self._contrast(who, key, LEVEL, case.arms[-1:]) for who in everyone])
        ideal = METRICS[name].ideal or 0.0
        return noise_floor(np.abs(ideal - level.draws)) if level.chains else (0.0, 0.0)

    def trials(self, case: Case) -> int:
        """Trials after generation 0 in the case's arms, collapsed ones included."""
        return sum(len(found) for found in self._later(case).values())

    def lost(self, case: Case) -> tuple[str, bool]:
        """Collapsed trials by arm in words, "" where none is; whether other ones in the arms."""
        found = self._later(case)
        told = ", ".join(
            f"{arm} {sum(not sound for sound in of.values())} of {len(of)}"
            for arm, of in found.items()
        )
        both = set.intersection(*(set(of) for of in found.values()))
        bad = {frozenset(at for at in both if not of[at]) for of in found.values()}
        any_lost = any(not sound for of in found.values() for sound in of.values())
        return (f"collapsed: {told}" if any_lost else ""), len(bad) > 1

    def _later(self, case: Case) -> dict[str, dict[tuple[Who, Place], bool]]:
        """Arm -> trial after generation 0 -> whether it is sound."""
        everyone = [who for m in (*case.members, *case.others) for who in m.everyone]
        measured = {who: found for who in everyone if (found := self.measured(*who)) is not None}
        return {
            arm: {(who, at): s for who, of in measured.items() for at, s in of.later(arm).items()}
            for arm in case.arms
        }

    def undefined(self, case: Case, key: str) -> str:
        """Why DI cannot be judged: its arms differ in the classes where it is not defined."""
        for member in (*case.members, *case.others):
            for who in member.everyone:
                measured = self.measured(*who)
                assert measured is not None, who
                lost = [self._undefined_in(measured, key, arm) for arm in case.arms]
                if len(set(lost)) > 1 or (len(lost) == 1 and lost[0]):
                    told = (f"{len(of)} of {self._units(measured, key)} in {arm}"
                            for arm, of in zip(case.arms, lost, strict=True))  # fmt: skip
                    return (
                        f"DI is not defined (a rate of zero) in {', '.join(told)}: see di_min_max"
                    )
        return ""

    @staticmethod
    def _units(measured: Measured, key: str) -> str:
        return (
            "1 pooled reading"
            if "per_class" not in key
            else f"{measured.undefined.shape[1]} classes"
        )

    @staticmethod
    def _undefined_in(measured: Measured, key: str, arm: str) -> frozenset[int]:
        if "per_class" in key:
            return measured.di_undefined(arm)
        values = measured.values[key, ""][0]
        rows = [i for i, t in enumerate(measured.trials) if t.arm == arm and measured.sound[i]]
        return frozenset([0] if np.isnan(values[rows]).any() else [])

    def gate(self, case: Case) -> str:
        """Why a statement about bias gets no verdict: a generator of its groups is too poor."""
        if case.metric == ACCURACY.name:
            return ""
        names = dict.fromkeys(who[0] for member in case.members for who in member.everyone)
        reasons = [self.by_name[name].treatment.not_converged for name in names]
        return next((f"generator too poor to ask: {reason}" for reason in reasons if reason), "")

    def distances(self, case: Case, member: Member) -> tuple[Effect, float]:
        """The estimand over generations 1..N of a generator's metric, over chains that share
        nothing, and the mean metric at generation 1."""
        ((name, owner),) = member.plus
        values = self.by_name[name].treatment.quality[case.metric]
        found, starts = [], []
        for chain in sorted({seed for classifier, seed, _ in values if classifier == owner}):
            times = sorted(t for o, seed, t in values if (o, seed) == (owner, chain) and t > 0)
            known = [t for t in times if np.isfinite(values[owner, chain, t])]
            series = np.array([values[owner, chain, t] for t in known])
            shape = _shape(known, case)
            if shape is not None:
                found.append(float(shape @ series))
                starts.append(float(series[0]))
        start = float(np.mean(starts)) if starts else NAN
        return effect_of_chains(np.array(found), self.settings.level), start


def _shape(known: Sequence[int], case: Case) -> Floats | None:
    """Weights over generations 1..N, the first of which stands for generation 0."""
    if case.statement.estimand == LEVEL:
        return np.full(len(known), 1 / len(known)) if known else None
    return time_weights([t - 1 for t in known], case.last - 1, case.statement.estimand)
