"""What is measured of a case, and the evidence that it gives: an effect for every network, and what
accuracy may explain of it. Decides which numbers a statement is judged on; must not judge."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ray_selfloop.claims import positive
from ray_selfloop.claims.cases import Case, Member
from ray_selfloop.claims.contrasts import NAN, SCATTER, SLOPE, span
from ray_selfloop.claims.measured import Sweep
from ray_selfloop.claims.other_readings import RANKED, RELATIVE, Choice
from ray_selfloop.claims.statements import BALANCE, POORNESS, RANK_GAP, RANK_MEAN
from ray_selfloop.config.claims import Claims
from ray_selfloop.evaluation import metrics
from ray_selfloop.inference.chains import Effect
from ray_selfloop.inference.families import at_least
from ray_selfloop.inference.verdicts import (
    NOTHING,
    UP,
    Accuracy,
    Evidence,
    evidence,
    most,
    together,
)


def margin_of(metric: str, subgroup: str, settings: Claims) -> float:
    """The smallest effect of interest over all generations, in the metric's unit."""
    if metric == BALANCE:
        return settings.share_margin
    if metric in (metrics.ACCURACY.name, metrics.WORST_SUBGROUP.name):
        return settings.accuracy_margin
    if metric in RANKED and subgroup != RANK_GAP:
        return settings.accuracy_margin
    if metric == POORNESS:
        return settings.distance_margin
    return settings.gap_margin


@dataclass(frozen=True)
class Tested:
    """A case with its effects.

    each: of every member; others: of the second side of a count; whole: of the members' mean;
    evidence: of the statement; mean: of the mean of best and worst subgroup, for a statement on
    which is steeper; accuracy: what it may explain of ``whole``, None where it is no rival. uneven:
    the arms lost different trials. gate: why there is no verdict anyway, unseen: why not before
    more chains show a positive control. before: the same at earlier looks.
    """

    case: Case
    margin: float = NAN
    each: tuple[Effect, ...] = ()
    whole: Effect | None = None
    evidence: Evidence = NOTHING
    mean: Effect | None = None
    others: tuple[Effect, ...] = ()
    accuracy: Accuracy | None = None
    trials: int = 0
    lost: str = ""
    uneven: bool = False
    gate: str = ""
    unseen: str = ""
    before: tuple["Tested", ...] = ()

    @property
    def whole_holds_zero(self) -> bool:
        """Whether the interval of the mean holds zero (or there is none)."""
        whole = self.whole
        return whole is None or not (whole.low > 0 or whole.high < 0)


def read(sweep: Sweep, case: Case, choice: Choice, scale: float) -> Tested:
    """scale: what the margin is multiplied by."""
    found = _read(sweep, case, choice, scale)
    if sweep.looks is None or not case.primary:
        return found
    earlier = [sweep.at(chains) for chains in sweep.looks.made[:-1]]
    return replace(found, before=tuple(_read(one, case, choice, scale) for one in earlier))


def _read(sweep: Sweep, case: Case, choice: Choice, scale: float) -> Tested:
    if case.lacks:
        return Tested(case)
    if case.about_generator:
        return _test_generator(sweep, case, scale)
    settings, statement = sweep.settings, case.statement
    key, factor = choice.key(case.metric, case.reading, settings.ordered)
    reader = _Reader(sweep, case, key, factor)
    lacks = reader.lacks()
    if lacks:
        return Tested(replace(case, lacks=lacks))
    margin = scale * abs(factor) * _margin(case, key, settings.claims)  # in the reading's unit
    each = tuple(reader.effect(member) for member in case.members)
    lost, uneven = sweep.lost(case)
    found = Tested(
        case,
        margin,
        each,
        reader.whole(key, statement.subgroup),
        _evidence(reader, each, margin, scale),
        others=tuple(reader.effect(member) for member in case.others),
        trials=sweep.trials(case),
        lost=lost,
        uneven=uneven and case.metric != metrics.ACCURACY.name,
        gate=sweep.gate(case),
        unseen=positive.unseen(sweep, case),
        accuracy=reader.accuracy(case.members, scale),
    )
    if not statement.steeper:
        return found
    return replace(found, mean=reader.whole(key, RANK_MEAN))


@dataclass(frozen=True)
class _Reader:
    """One reading of a case's metric."""

    sweep: Sweep
    case: Case
    key: str
    factor: float

    def lacks(self) -> str:
        statement, everyone = self.case.statement, (*self.case.members, *self.case.others)
        at = (self.key, statement.subgroup)
        if not all(self.sweep.has(who, at) for m in everyone for who in m.everyone):
            return "no such reading of this dataset"
        undefined = (
            self.key.startswith(f"{metrics.DI.name}_") and metrics.DI_MIN_MAX.name not in self.key
        )
        return self.sweep.undefined(self.case, self.key) if undefined else ""

    def effect(self, member: Member, of: str | None = None) -> Effect:
        subgroup = self.case.statement.subgroup if of is None else of
        return self.sweep.effect(self.case, (member,), (self.key, subgroup), self.factor)

    def whole(self, key: str, subgroup: str) -> Effect:
        return self.sweep.effect(self.case, self.case.members, (key, subgroup), self.factor)

    def accuracy(self, members: Sequence[Member], scale: float) -> Accuracy | None:
        """What accuracy may explain of the mean over these members; None where it is no rival."""
        if _is_of_accuracy(self.case, self.key):
            return None
        of, per = self.case.statement.subgroup, _per(self.case)
        margin = scale * self.sweep.settings.claims.accuracy_margin / per
        change = self.sweep.effect(self.case, members, (metrics.ACCURACY.name, ""), 1.0)
        parts = [
            (metrics.with_suffix(self.key, part), of)
            for part in ("change_level", "change_distribution")
        ]
        if not all(self.sweep.has(who, at) for m in members for who in m.everyone for at in parts):
            return Accuracy(change, margin)
        level, rest = (self.sweep.effect(self.case, members, at, self.factor) for at in parts)
        return Accuracy(change, margin, level, rest)


def _evidence(reader: _Reader, each: Sequence[Effect], margin: float, scale: float) -> Evidence:
    case, statement = reader.case, reader.case.statement
    if case.others:
        others = [reader.effect(member) for member in case.others]
        return _more(each, others, margin if statement.direction == UP else -margin)
    if statement.steeper:
        found = [
            _steeper(one, reader.effect(member, RANK_MEAN))
            for one, member in zip(each, case.members, strict=True)
        ]
    else:
        found = [
            evidence(one, statement.direction, margin, reader.accuracy((member,), scale))
            for one, member in zip(each, case.members, strict=True)
        ]
    return together(found, "all" if statement.networks == "mean" else statement.networks)


def _steeper(gap: Effect, mean: Effect) -> Evidence:
    """|worst| > |best| is about (worst - best)(worst + best): both factors have a sign."""
    p = most(gap.p_change(), mean.p_change())
    steeper = -gap.value * mean.value > 0
    return Evidence(p if steeper else 1.0, 1.0 if steeper else p, NAN)


def _more(ones: Sequence[Effect], others: Sequence[Effect], bound: float) -> Evidence:
    """'More of these networks change by the margin than of those': for some j at least j + 1 of the
    first do, beyond ``bound``, and at most j of the second, times the number of j."""
    count = len(ones)
    harm = [e.p_above(bound) if bound > 0 else e.p_below(bound) for e in ones]
    spared = [e.p_below(bound) if bound > 0 else e.p_above(bound) for e in others]
    pairs = [most(at_least(harm, j + 1), at_least(spared, count - j)) for j in range(count)]
    known = [p for p in pairs if not math.isnan(p)]
    whole = len(known) == len(pairs)  # one unknown network leaves all of it unknown
    return Evidence(min(1.0, count * min(known)) if whole else NAN, NAN, NAN)


def _margin(case: Case, key: str, settings: Claims) -> float:
    """In the unit of the reading and estimand: per generation for a slope."""
    size = margin_of(case.metric, case.statement.subgroup, settings)
    if key.startswith("log_odds") or key.endswith("log_odds"):
        size *= 4  # d logit = d p / (p (1 - p)), at most so steep at p = 1/2
    if case.statement.estimand == SCATTER:
        return size**2
    return size / _per(case)


def _per(case: Case) -> int:
    """Generations that an effect is per."""
    return max(case.last, 1) if case.statement.estimand == SLOPE else 1


def _is_of_accuracy(case: Case, key: str) -> bool:
    """Whether accuracy is no other explanation: the statement is about accuracies themselves (of
    all, or of subgroups: eq. 5), is no change since generation 0, or is relative to accuracy."""
    ranked = case.metric in (*RANKED, metrics.WORST_SUBGROUP.name) or case.statement.steeper
    changes = case.statement.estimand == SLOPE or span(case.statement.estimand, case.last)
    return case.metric == metrics.ACCURACY.name or ranked or not changes or key.startswith(RELATIVE)


def _test_generator(sweep: Sweep, case: Case, scale: float) -> Tested:
    """About the treatment's own generator: a distance's change, or a mean over generations."""
    settings, direction = sweep.settings, case.statement.direction
    each, starts = zip(*(sweep.distances(case, member) for member in case.members), strict=True)
    if case.metric in (BALANCE, POORNESS):
        margin = margin_of(case.metric, "", settings.claims)
    else:
        steps = max(case.last - 1, 1) if case.statement.estimand == SLOPE else 1
        margin = settings.claims.distance_margin * abs(sum(starts) / len(starts)) / steps
    margin *= scale
    found = together([evidence(one, direction, margin) for one in each], "all")
    return Tested(case, margin, tuple(each), each[0] if len(each) == 1 else None, found)
