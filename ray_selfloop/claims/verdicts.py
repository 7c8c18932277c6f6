"""Verdicts on the declared statements, and what other readings of the definitions would say.

Every estimand is treatment minus the equal-steps control (`no_synthetic`) on the same loop seeds,
classifier seeds and test images, unless a statement says otherwise. What is said is declared in
`statements`, about what in `cases`; how an effect is made in `contrasts` and `paired`, on which of
them a statement is judged in `tested`; its word in `judged` and `inference`. Here all of it becomes
rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ray_selfloop.claims.cases import Case, Group, Member, cases_of, groups_of, quantified
from ray_selfloop.claims.contrasts import NAN, SLOPE
from ray_selfloop.claims.decomposition import Part, decomposed
from ray_selfloop.claims.judged import Judged, judge
from ray_selfloop.claims.measured import Looks, Sweep
from ray_selfloop.claims.noise import Null, Scatter, nulls, scatter
from ray_selfloop.claims.other_readings import Choice, Definition, definitions
from ray_selfloop.claims.paired import Arm
from ray_selfloop.claims.positive import Positive, positive
from ray_selfloop.claims.tested import Tested, read
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.equation6.fit import entries
from ray_selfloop.inference import verdicts as words
from ray_selfloop.inference.chains import Effect
from ray_selfloop.inference.families import needed
from ray_selfloop.inference.power import detectable_from

LATE = "declared after the data that it is judged on"
MARGINS = {"half": 0.5, "twice": 2.0}
ENDS = ("value", "low", "high")
OF_STATEMENT = ("id", "section", "text", "subgroup", "estimand", "direction")


@dataclass(frozen=True)
class Network:
    """One network's (or pair's) own effect, with its unadjusted interval: exploratory."""

    name: str
    value: float
    low: float
    high: float
    chains: int


@dataclass(frozen=True)
class Look:
    """A primary statement at one look. low, high: the interval at `evaluation.level` that holds
    over all looks and primary statements together; fixed_low, fixed_high: what it would be with
    this number of chains declared and one look. level: the coverage of low, high by itself."""

    chains: int
    value: float
    low: float
    high: float
    fixed_low: float
    fixed_high: float
    level: float
    verdict: str
    open: bool


@dataclass(frozen=True)
class Verdict:
    """One row of the claims table: a statement about one setting. Numbers are NaN where none is.

    quantifier: of how many networks it has to hold. value: mean over its networks and chains of the
    estimand, in the metric's unit (per generation for ``slope``); low, high: its interval at
    `evaluation.level`, not widened; with looks the one that holds over all of them and over the
    primary statements. together: statements judged together with it (1: none).
    margin: smallest effect of interest. mde: minimum detectable effect of one network (or mean) at
    the level that the verdict needs. p: that the verdict rests on (of the statement, where
    contradicted of its opposite, where ruled out of 'smaller than the margin'); p_holm: adjusted
    over those judged together. half, twice: the verdict under half and twice the margin. chains,
    trials: behind the value; lost: collapsed trials by arm, "" where none is. level_*,
    rest_*: the part of the effect that the accuracy of each class explains, and the rest, where
    there is such a split. looks: of a primary statement of a sweep with `decide`, at each look so
    far; decided: chains of the look that decided it, on which all other numbers of the row are.
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
    decided: int = 0
    looks: tuple[Look, ...] = ()


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
    other readings, what `a_a` shows, the scatter that `plan` needs, and positive controls."""

    claims: tuple[Verdict, ...]
    decomposition: tuple[Part, ...]
    readings: tuple[Alternative, ...]
    null: tuple[Null, ...] = ()
    scatter: tuple[Scatter, ...] = ()
    positive: tuple[Positive, ...] = ()

    def summary(self) -> dict[str, list[dict[str, object]]]:
        """Lists of JSON objects named as the fields; null for NaN. Positive controls where there
        are any: the record of a sweep without them is what it was."""
        names = ["claims", "decomposition", "readings", "null", "scatter"]
        names += ["positive"] * bool(self.positive)
        return {name: entries(getattr(self, name)) for name in names}


# --- rows ----------------------------------------------------------------------------------------


def _row(judged: Judged, others: Mapping[str, str], sweep: Sweep) -> Verdict:
    tested, case = judged.tested, judged.tested.case
    statement, nothing = case.statement, Effect(NAN, NAN, NAN, NAN, NAN, 0)
    whole = tested.whole or (tested.each[0] if tested.each else nothing)
    parts = tested.accuracy or words.Accuracy(nothing, NAN)
    split = {"level": parts.level or nothing, "rest": parts.rest or nothing}
    several = len(case.members) > 1 or len(case.members[0].plus) > 1 if case.members else False
    looks = tuple(_looks(judged, sweep))
    of_look = looks[judged.at] if looks else whole
    return Verdict(
        **{name: getattr(statement, name) for name in OF_STATEMENT},
        **{name: getattr(whole, name) for name in ("value", "chains")},
        **{name: getattr(of_look, name) for name in ("low", "high")},
        **{f"{part}_{e}": getattr(of, e) for part, of in split.items() for e in ENDS},
        scenario_group=case.group,
        primary=case.primary,
        metric=case.metric,
        quantifier=quantified(statement) if several else "",
        control=case.arms[1] if len(case.arms) > 1 and not case.about_generator else "",
        margin=tested.margin,
        together=judged.together,
        mde=_mde(judged, sweep),
        p=_decisive(tested.evidence, judged.verdict),
        p_holm=_decisive(judged.adjusted, judged.verdict),
        verdict=judged.verdict,
        reason=judged.reason + _slopes(tested),
        trials=tested.trials,
        lost=tested.lost,
        half="" if case.lacks else others["half"],
        twice="" if case.lacks else others["twice"],
        looks=looks,
        decided=looks[judged.at].chains if looks and judged.verdict != words.UNDECIDED else 0,
    )


def _looks(judged: Judged, sweep: Sweep) -> Iterator[Look]:
    made = sweep.looks.made if sweep.looks else []
    for chains, one in zip(made, judged.looks, strict=False):
        whole = one.tested.whole
        if whole is None:  # of no look: a statement that is not tested, or of a generator
            return
        alpha = sweep.at(chains).level_of(one.together)
        fixed = (1 - sweep.settings.level) / one.together
        ends = (*whole.interval(1 - alpha), *whole.interval(1 - fixed))
        yield Look(chains, whole.value, *ends, 1 - alpha, one.verdict, one.open)


def _slopes(tested: Tested) -> str:
    """Both ends of a gap, which is the best subgroup's effect less the worst's."""
    if tested.mean is None or tested.whole is None:
        return ""
    mean, half = tested.mean.value, tested.whole.value / 2
    unit = " per generation" if tested.case.statement.estimand == SLOPE else ""
    return f"; worst {mean - half:+.4f}, best {mean + half:+.4f}{unit}"


def _decisive(p: words.Evidence, verdict: str) -> float:
    """The p that the verdict rests on: of the statement, of its opposite, or of 'too small'."""
    kinds = {words.CONTRADICTED: p.opposite, words.RULED_OUT: p.small, words.ACCURACY: p.explained}
    return kinds.get(verdict, p.holds)


def _mde(judged: Judged, sweep: Sweep) -> float:
    """Of one network (or mean) at the level that the first of Holm's steps needs."""
    tested = judged.tested
    each, n = tested.each, len(tested.each)
    if not each or tested.others or not all(e.tested for e in each):
        return NAN
    statement = tested.case.statement
    holding = n if statement.networks == "mean" else needed(statement.networks, n)
    alpha = (1 - sweep.settings.level) / judged.together
    if judged.looks:
        alpha = sweep.level_of(judged.together)
    alpha, power = alpha / (n - holding + 1), sweep.settings.claims.power
    sizes = [detectable_from(e.error, e.chains, alpha, power, *e.known) for e in each]
    return sum(sizes) / n


def _networks(sweep: Sweep, judged: Judged) -> tuple[Network, ...]:
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
    sweep: Sweep, cases: Sequence[Case], tests: Sequence[Tested], used: Sequence[Judged]
) -> Iterator[Alternative]:
    """Each claim under each other reading; its family is judged anew."""
    for definition in definitions(sweep.settings.ordered):
        touched = _touched(sweep, cases, definition)
        moved = list(tests)
        for i in touched:
            moved[i] = read(sweep, cases[i], definition.choice, 1.0)
        found = judge(sweep, cases, moved) if touched else []
        for i in touched:
            verdicts = used[i].verdict, found[i].verdict
            claim = f"{cases[i].statement.id} ({cases[i].group})"
            reading = definition.used or cases[i].reading
            told = (definition.name, reading, definition.other, claim, *verdicts)
            yield Alternative(*told, changes=verdicts[0] != verdicts[1])


def claims(
    arms: Sequence[Arm],
    settings: Evaluation,
    declared: bool = True,
    looks: Looks | None = None,
) -> Result:
    """Every declared statement, judged on all scenarios of a sweep.

    declared: whether the statements were frozen before the data; else nothing gets a verdict word.
    looks: where it is judged at several numbers of chains; then the primary statements alone are.
    """
    groups, made = groups_of(arms), settings.claims
    sweep = Sweep(groups, settings, looks)
    cases = cases_of(groups, made.primary, made.most_primary, alone=looks is not None)
    used = Choice(settings.ordered)
    tests = [read(sweep, case, used, 1.0) for case in cases]
    judged = judge(sweep, cases, tests)
    under = {
        name: judge(sweep, cases, [read(sweep, case, used, scale) for case in cases])
        for name, scale in MARGINS.items()
    }
    rows = []
    for i, one in enumerate(judged):
        others = {name: found[i].verdict for name, found in under.items()}
        row = replace(_row(one, others, sweep), networks=_networks(sweep, one))
        if not declared and row.verdict != words.NOT_TESTED:  # an interval without a word
            late = tuple(replace(look, verdict=words.EXPLORATORY, open=False) for look in row.looks)
            row = replace(row, verdict=words.EXPLORATORY, reason=LATE, half="", twice="",
                          decided=0, looks=late)  # fmt: skip
        rows.append(row)
    return Result(
        tuple(rows),
        tuple(part for group in groups for part in _parts(sweep, group)),
        tuple(_alternatives(sweep, cases, tests, judged)) if declared else (),
        tuple(nulls(sweep, groups)),
        tuple(scatter(sweep, groups)),
        tuple(positive(sweep, groups)),
    )


def _parts(sweep: Sweep, group: Group) -> Iterator[Part]:
    for classifier in group.classifiers if len(group.arms) > 1 else ():
        measured = sweep.measured(group.name, classifier)
        if measured:
            yield from decomposed(group, classifier, measured, sweep.settings)
