"""Verdicts on the declared statements, and what other readings of the definitions would say.

Every estimand is treatment minus the equal-steps control (`no_synthetic`) on the same loop seeds,
classifier seeds and test images, unless a statement says otherwise. Decides when a statement cannot
be judged although it has an interval. What is said is declared in `statements`, about what in
`cases`; how an effect is made in `contrasts` and `paired`; how sure it is, and its word, in
`inference`.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from ray_selfloop.config.claims import Claims
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.dynamics.cases import Case, Group, Member, cases_of, groups_of, quantified
from ray_selfloop.dynamics.choices import RELATIVE, Choice, Definition, definitions
from ray_selfloop.dynamics.contrasts import NAN, SCATTER, SLOPE, span
from ray_selfloop.dynamics.decomposition import Part, decomposed
from ray_selfloop.dynamics.measured import Sweep
from ray_selfloop.dynamics.noise import Null, Scatter, nulls, scatter
from ray_selfloop.dynamics.paired import Arm
from ray_selfloop.dynamics.statements import BALANCE, POORNESS, RANK_GAP, RANK_MEAN
from ray_selfloop.inference.chains import Effect
from ray_selfloop.inference.families import at_least, needed
from ray_selfloop.inference.power import detectable_from
from ray_selfloop.inference.verdicts import (
    ACCURACY,
    CONTRADICTED,
    DOWN,
    EXPLORATORY,
    NOT_TESTED,
    NOTHING,
    RULED_OUT,
    SUPPORTED,
    UNDECIDED,
    UP,
    Accuracy,
    Evidence,
    adjusted,
    evidence,
    least,
    most,
    together,
    word,
)

LATE = "declared after the data that it is judged on"
MARGINS = {"half": 0.5, "twice": 2.0}


@dataclass(frozen=True)
class Network:
    """One network's (or pair's) own effect, with its unadjusted interval: exploratory."""

    name: str
    value: float
    low: float
    high: float
    chains: int


@dataclass(frozen=True)
class Verdict:
    """One row of the claims table: a statement about one setting. Numbers are NaN where none is.

    quantifier: of how many networks it has to hold. value: mean over its networks and chains of the
    estimand, in the metric's unit (per generation for ``slope``); low, high: its interval at
    `evaluation.level`, not widened. together: statements judged together with it (1: none).
    margin: smallest effect of interest. mde: minimum detectable effect of one network (or mean) at
    the level that the verdict needs. p: that the verdict rests on (of the statement, where
    contradicted of its opposite, where ruled out of 'smaller than the margin'); p_holm: adjusted
    over those judged together. half, twice: the verdict under half and twice the margin. chains,
    trials: behind the value; lost: collapsed trials by arm, "" where none is. level_*,
    rest_*: the part of the effect that the accuracy of each class explains, and the rest, where
    there is such a split.
    """

    id: str
    section: str
    text: str
    scenario_group: str
    primary: bool
    metric: str
    subgroup: str
    estimand: str
    direction: str
    quantifier: str
    control: str
    margin: float
    value: float
    low: float
    high: float
    together: int
    mde: float
    p: float
    p_holm: float
    verdict: str
    reason: str
    half: str = ""
    twice: str = ""
    chains: int = 0
    trials: int = 0
    lost: str = ""
    level_value: float = NAN
    level_low: float = NAN
    level_high: float = NAN
    rest_value: float = NAN
    rest_low: float = NAN
    rest_high: float = NAN
    networks: tuple[Network, ...] = ()


@dataclass(frozen=True)
class Alternative:
    """Whether a claim's verdict changes under another reading of an ambiguous definition."""

    definition: str
    used: str
    other: str
    claim: str
    verdict_used: str
    verdict_other: str
    changes: bool


@dataclass(frozen=True)
class Result:
    """The primary statements, then the claims in the order of `STATEMENTS`; the decomposition, the
    other readings, what the arm `a_a` shows, and the scatter that `plan` needs."""

    claims: tuple[Verdict, ...]
    decomposition: tuple[Part, ...]
    readings: tuple[Alternative, ...]
    null: tuple[Null, ...] = ()
    scatter: tuple[Scatter, ...] = ()

    def summary(self) -> dict[str, list[dict[str, object]]]:
        """Lists of JSON objects named as the fields; null for NaN."""
        names = ("claims", "decomposition", "readings", "null", "scatter")
        return {name: [_json(asdict(row)) for row in getattr(self, name)] for name in names}


def _json(row: Mapping[str, object]) -> dict[str, object]:
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return _json(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def margin_of(metric: str, subgroup: str, settings: Claims) -> float:
    """The smallest effect of interest over all generations, in the metric's unit."""
    if metric == BALANCE:
        return settings.share_margin
    if metric == "accuracy" or metric.startswith("worst"):
        return settings.accuracy_margin
    if metric.startswith("ranked") and subgroup not in (RANK_GAP,):
        return settings.accuracy_margin
    if metric == POORNESS:
        return settings.distance_margin
    return settings.gap_margin


# --- what is tested ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tested:
    """A case with its effects.

    each: of every member; others: of the second side of a count; whole: of the members' mean;
    evidence: of the statement; mean: of the mean of best and worst subgroup, for a statement on
    which is steeper; accuracy: what it may explain of ``whole``, None where it is no rival. uneven:
    the arms lost different trials. gate: why there is no verdict anyway.
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

    @property
    def whole_holds_zero(self) -> bool:
        """Whether the interval of the mean holds zero (or there is none)."""
        whole = self.whole
        return whole is None or not (whole.low > 0 or whole.high < 0)


def _test(sweep: Sweep, case: Case, choice: Choice, scale: float) -> _Tested:
    """scale: what the margin is multiplied by."""
    if case.lacks:
        return _Tested(case)
    if case.about_generator:
        return _test_generator(sweep, case, scale)
    settings, statement = sweep.settings, case.statement
    key, factor = choice.key(case.metric, case.reading, settings.ordered)
    reader = _Reader(sweep, case, key, factor)
    lacks = reader.lacks()
    if lacks:
        return _Tested(replace(case, lacks=lacks))
    margin = scale * _margin(case, key, settings.claims)
    each = tuple(reader.effect(member) for member in case.members)
    lost, uneven = sweep.lost(case)
    found = _Tested(
        case,
        margin,
        each,
        reader.whole(key, statement.subgroup),
        _evidence(reader, each, margin, scale),
        others=tuple(reader.effect(member) for member in case.others),
        trials=sweep.trials(case),
        lost=lost,
        uneven=uneven and case.metric != "accuracy",
        gate=sweep.gate(case),
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
        """Why the reading cannot be judged."""
        statement, everyone = self.case.statement, (*self.case.members, *self.case.others)
        at = (self.key, statement.subgroup)
        if not all(self.sweep.has(who, at) for m in everyone for who in m.everyone):
            return "no such reading of this dataset"
        undefined = self.key.startswith("di_") and "min_max" not in self.key
        return self.sweep.undefined(self.case, self.key) if undefined else ""

    def effect(self, member: Member, of: str | None = None) -> Effect:
        """One member's effect."""
        subgroup = self.case.statement.subgroup if of is None else of
        return self.sweep.effect(self.case, (member,), (self.key, subgroup), self.factor)

    def whole(self, key: str, subgroup: str) -> Effect:
        """The effect of the mean over the members."""
        return self.sweep.effect(self.case, self.case.members, (key, subgroup), self.factor)

    def accuracy(self, members: Sequence[Member], scale: float) -> Accuracy | None:
        """What accuracy may explain of the mean over these members; None where it is no rival."""
        if _is_of_accuracy(self.case, self.key):
            return None
        of, per = self.case.statement.subgroup, _per(self.case)
        margin = scale * self.sweep.settings.claims.accuracy_margin / per
        change = self.sweep.effect(self.case, members, ("accuracy", ""), 1.0)
        parts = [(_change_part(self.key, part), of) for part in ("level", "distribution")]
        if not all(self.sweep.has(who, at) for m in members for who in m.everyone for at in parts):
            return Accuracy(change, margin)
        level, rest = (self.sweep.effect(self.case, members, at, self.factor) for at in parts)
        return Accuracy(change, margin, level, rest)


def _evidence(reader: _Reader, each: Sequence[Effect], margin: float, scale: float) -> Evidence:
    """Of the statement about all members."""
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


def _change_part(key: str, part: str) -> str:
    """The key of one part of a reading's change; a suffix stands before the slash."""
    stem, slash, kind = key.partition("/")
    return f"{stem}_change_{part}{slash}{kind}"


def _is_of_accuracy(case: Case, key: str) -> bool:
    """Whether accuracy is no other explanation: the statement is about accuracies themselves (of
    all, or of subgroups: eq. 5), is no change since generation 0, or is relative to accuracy."""
    ranked = case.metric.startswith(("ranked", "worst")) or case.statement.steeper
    changes = case.statement.estimand == SLOPE or span(case.statement.estimand, case.last)
    return case.metric == "accuracy" or ranked or not changes or key.startswith(RELATIVE)


def _test_generator(sweep: Sweep, case: Case, scale: float) -> _Tested:
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
    return _Tested(case, margin, tuple(each), each[0] if len(each) == 1 else None, found)


# --- what is said --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Judged:
    """A tested case with its word. adjusted: its evidence after multiplicity."""

    tested: _Tested
    adjusted: Evidence
    together: int
    verdict: str
    reason: str


def _judge(sweep: Sweep, cases: Sequence[Case], tests: Sequence[_Tested]) -> list[_Judged]:
    """The words of all cases. A family is what was declared: a case that the data then do not let
    be tested stays in its count."""
    families: dict[str, list[int]] = defaultdict(list)
    for i, case in enumerate(cases):
        if not (case.lacks or case.exploratory):
            families[case.family].append(i)
    found = [_Judged(t, NOTHING, 1, *_word(t, NOTHING, sweep, 1)) for t in tests]
    for members in families.values():
        for i, p in zip(members, adjusted([tests[i].evidence for i in members]), strict=True):
            n = len(members)
            found[i] = _Judged(tests[i], p, n, *_word(tests[i], p, sweep, n))
    return found


def _word(tested: _Tested, p: Evidence, sweep: Sweep, count: int) -> tuple[str, str]:
    """Verdict and reason."""
    case, alpha = tested.case, 1 - sweep.settings.level
    if case.lacks:
        return NOT_TESTED, case.lacks
    if case.exploratory:
        return EXPLORATORY, "beyond the primary statements of this sweep"
    if tested.gate:
        return UNDECIDED, tested.gate
    few = _untestable(tested)
    if few:
        return UNDECIDED, few
    if tested.uneven:
        return UNDECIDED, "the arms lost different numbers of trials: survivors prove nothing"
    found = word(p, alpha)
    if found == UNDECIDED:
        return UNDECIDED, _why_undecided(tested, sweep.settings.level, count)
    return found, _reason(tested, found, count)


def _untestable(tested: _Tested) -> str:
    """Why the effects have no error."""
    every = (*tested.each, *tested.others)
    chains = [e.chains for e in every]
    if any(n == 0 for n in chains):
        return "no run has all the generations that this needs, in both arms"
    if any(n == 1 for n in chains):
        return "one chain only: another run of the whole loop may differ"
    if any(not e.tested for e in every):
        return "the metric is not defined in most resamples"
    return ""


def _widened(count: int) -> str:
    return f", widened for {count} statements judged together," if count > 1 else ""


def _why_undecided(tested: _Tested, level: float, count: int) -> str:
    direction, alpha = tested.case.statement.direction, 1 - level
    if least(tested.evidence.holds, tested.evidence.opposite) <= alpha and count > 1:
        return f"the interval decides it alone, but not widened for {count} statements"
    if tested.accuracy is not None and not tested.whole_holds_zero:
        return "it changed, but is not separated from what accuracy alone does to it"
    where = "zero and the margin" if direction in (UP, DOWN) else "the margin's end"
    of = " of too many networks" if len(tested.each) > 1 else ""
    return f"the interval{of}{_widened(count)} holds {where}"


def _reason(tested: _Tested, verdict: str, count: int) -> str:
    """In which of the networks the interval lies where the verdict needs it."""
    statement, n = tested.case.statement, len(tested.each)
    where = {
        SUPPORTED: "lies where the statement says",
        CONTRADICTED: "lies wholly on the other side",
        RULED_OUT: f"ends before the margin of {tested.margin:.3g}",
        ACCURACY: "of what accuracy does not explain lies inside the margin",
    }[verdict]
    of = f" {quantified(statement)}" if verdict == SUPPORTED else " in too many networks"
    parts = [f"the interval{_widened(count)} {where}{of if n > 1 else ''}"]
    if statement.size and tested.whole is not None:
        low, high = sorted((abs(tested.whole.low), abs(tested.whole.high)))
        holds = "holds" if low <= statement.size <= high else "does not hold"
        parts.append(f"it {holds} the claimed size of {statement.size:g}")
    return "; ".join(parts)


# --- rows ----------------------------------------------------------------------------------------


def _row(judged: _Judged, others: Mapping[str, str], settings: Evaluation) -> Verdict:
    tested, case = judged.tested, judged.tested.case
    statement, nan = case.statement, Effect(NAN, NAN, NAN, NAN, NAN, 0)
    whole = tested.whole or (tested.each[0] if tested.each else nan)
    parts = tested.accuracy or Accuracy(nan, NAN)
    level, rest = parts.level or nan, parts.rest or nan
    several = len(case.members) > 1 or len(case.members[0].plus) > 1 if case.members else False
    return Verdict(
        id=statement.id,
        section=statement.section,
        text=statement.text,
        scenario_group=case.group,
        primary=case.primary,
        metric=case.metric,
        subgroup=statement.subgroup,
        estimand=statement.estimand,
        direction=statement.direction,
        quantifier=quantified(statement) if several else "",
        control=case.arms[1] if len(case.arms) > 1 and not case.about_generator else "",
        margin=tested.margin,
        value=whole.value,
        low=whole.low,
        high=whole.high,
        together=judged.together,
        mde=_mde(judged, settings),
        p=_decisive(tested.evidence, judged.verdict),
        p_holm=_decisive(judged.adjusted, judged.verdict),
        verdict=judged.verdict,
        reason=judged.reason + _slopes(tested),
        half="" if case.lacks else others["half"],
        twice="" if case.lacks else others["twice"],
        chains=whole.chains,
        trials=tested.trials,
        lost=tested.lost,
        level_value=level.value,
        level_low=level.low,
        level_high=level.high,
        rest_value=rest.value,
        rest_low=rest.low,
        rest_high=rest.high,
    )


def _slopes(tested: _Tested) -> str:
    """Both ends of a gap, which is the best subgroup's effect less the worst's."""
    if tested.mean is None or tested.whole is None:
        return ""
    mean, half = tested.mean.value, tested.whole.value / 2
    unit = " per generation" if tested.case.statement.estimand == SLOPE else ""
    return f"; worst {mean - half:+.4f}, best {mean + half:+.4f}{unit}"


def _decisive(p: Evidence, verdict: str) -> float:
    """The p that the verdict rests on: of the statement, of its opposite, or of 'too small'."""
    kinds = {CONTRADICTED: p.opposite, RULED_OUT: p.small, ACCURACY: p.explained}
    return kinds.get(verdict, p.holds)


def _mde(judged: _Judged, settings: Evaluation) -> float:
    """Of one network (or mean) at the level that the first of Holm's steps needs."""
    tested = judged.tested
    each, n = tested.each, len(tested.each)
    if not each or tested.others or not all(e.tested for e in each):
        return NAN
    statement = tested.case.statement
    holding = n if statement.networks == "mean" else needed(statement.networks, n)
    alpha = (1 - settings.level) / (judged.together * (n - holding + 1))
    sizes = [
        detectable_from(e.error, e.chains, alpha, settings.claims.power, *e.known) for e in each
    ]
    return sum(sizes) / n


def _networks(sweep: Sweep, judged: _Judged) -> tuple[Network, ...]:
    """The effect of every network behind a statement, or behind the mean of a primary one."""
    case, each = judged.tested.case, judged.tested.each
    if not each or case.lacks:
        return ()
    if len(case.members) == 1 and len(case.members[0].plus) > 1 and not case.members[0].less:
        singles = [Member(who[1], (who,)) for who in case.members[0].plus]
        at = sweep.key(case)
        each = tuple(sweep.effect(case, (one,), *at) for one in singles)
        labels = [one.label for one in singles]
    else:
        labels = [member.label for member in case.members]
    rows = zip(labels, each, strict=False)
    return tuple(Network(n, e.value, e.low, e.high, e.chains) for n, e in rows)


# --- what another reading would say --------------------------------------------------------------


def _touched(sweep: Sweep, cases: Sequence[Case], definition: Definition) -> list[int]:
    """Tested cases for which the other reading exists and is another one."""
    ordered, found = sweep.settings.ordered, []
    for i, case in enumerate(cases):
        if case.lacks or case.about_generator or case.metric not in definition.metrics:
            continue
        used, other = (
            choice.key(case.metric, case.reading, ordered)
            for choice in (Choice(ordered), definition.choice)
        )
        at = (other[0], case.statement.subgroup)
        there = all(sweep.has(who, at) for m in case.members for who in m.everyone)
        if used != other and there:
            found.append(i)
    return found


def _alternatives(
    sweep: Sweep, cases: Sequence[Case], tests: Sequence[_Tested], used: Sequence[_Judged]
) -> Iterator[Alternative]:
    """Each claim under each other reading; its family is judged anew."""
    for definition in definitions(sweep.settings.ordered):
        touched = _touched(sweep, cases, definition)
        moved = list(tests)
        for i in touched:
            moved[i] = _test(sweep, cases[i], definition.choice, 1.0)
        found = _judge(sweep, cases, moved) if touched else []
        for i in touched:
            before, after = used[i].verdict, found[i].verdict
            where = f" ({cases[i].group})" if cases[i].group else ""
            yield Alternative(
                definition.name,
                definition.used or cases[i].reading,
                definition.other,
                f"{cases[i].statement.id}{where}",
                before,
                after,
                before != after,
            )


def _declared_late(row: Verdict) -> Verdict:
    """An interval without a word."""
    if row.verdict == NOT_TESTED:
        return row
    return replace(row, verdict=EXPLORATORY, reason=LATE, half="", twice="")


def claims(arms: Sequence[Arm], settings: Evaluation, declared: bool = True) -> Result:
    """Every declared statement, judged on all scenarios of a sweep.

    declared: whether the statements were frozen before the data; else nothing gets a verdict word.
    """
    groups, made = groups_of(arms), settings.claims
    sweep = Sweep(groups, settings)
    cases = cases_of(groups, made.primary, made.most_primary)
    used = Choice(settings.ordered)
    tests = [_test(sweep, case, used, 1.0) for case in cases]
    judged = _judge(sweep, cases, tests)
    under = {
        name: _judge(sweep, cases, [_test(sweep, case, used, scale) for case in cases])
        for name, scale in MARGINS.items()
    }
    rows = []
    for i, one in enumerate(judged):
        others = {name: found[i].verdict for name, found in under.items()}
        row = replace(_row(one, others, settings), networks=_networks(sweep, one))
        rows.append(row if declared else _declared_late(row))
    return Result(
        tuple(rows),
        tuple(part for group in groups for part in _parts(sweep, group)),
        tuple(_alternatives(sweep, cases, tests, judged)) if declared else (),
        tuple(nulls(sweep, groups)),
        tuple(scatter(sweep, groups)),
    )


def _parts(sweep: Sweep, group: Group) -> Iterator[Part]:
    for classifier in group.classifiers if len(group.arms) > 1 else ():
        measured = sweep.measured(group.name, classifier)
        if measured:
            yield from decomposed(group, classifier, measured, sweep.settings)
