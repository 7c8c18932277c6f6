"""Verdicts on the paper's claims, and what other readings of the definitions would say.

Every estimand is treatment minus the equal-steps control (`no_synthetic`) on the same loop seeds,
classifier seeds and test images; a generator's distance alone has no control. Decides when a
statement counts as established. What is said is declared in `statements`; how an effect and its
error are computed, in `contrasts` and `paired`.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.dynamics.cases import Case, Group, cases_of, groups_of
from ray_selfloop.dynamics.choices import RELATIVE, Choice, Definition, definitions
from ray_selfloop.dynamics.contrasts import (
    ESTIMANDS,
    NAN,
    SLOPE,
    Contrast,
    Effect,
    effect,
    effect_of_chains,
    holm,
    mean_of,
    minus,
    time_weights,
)
from ray_selfloop.dynamics.decomposition import Part, decomposed
from ray_selfloop.dynamics.paired import CONTROL, TREATMENT, Arm, Measured, measure
from ray_selfloop.dynamics.statements import RANK_MEAN, SAME, UP
from ray_selfloop.evaluation.intervals import band
from ray_selfloop.evaluation.outcomes import Floats

SUPPORTED, CONTRADICTED, ACCURACY = "supported", "contradicted", "explained by accuracy"
UNDECIDED, NOT_TESTED = "undecided", "not tested"
Contrasts = dict[tuple[str, str, str], Contrast]  # metric key, subgroup, estimand


@dataclass(frozen=True)
class Verdict:
    """One row of the claims table; numbers are NaN where there are none.

    value: mean over chains of the estimand (per generation for ``slope``). low, high: its interval
    at `evaluation.level`, for ``does not change`` at ``1 - 2 alpha`` (the two one-sided tests).
    margin: smallest effect of interest. mde: minimum detectable effect of the unadjusted two-sided
    test. p: of the statement (two-sided for a change, the larger of two one-sided for none).
    """

    id: str
    section: str
    family: str
    text: str
    scenario_group: str
    classifier: str
    metric: str
    subgroup: str
    estimand: str
    direction: str
    control: str
    margin: float
    value: float
    low: float
    high: float
    mde: float
    p: float
    p_holm: float
    verdict: str
    reason: str = ""


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
    """Claims in the order of `STATEMENTS`, the decomposition, and the other readings."""

    claims: tuple[Verdict, ...]
    decomposition: tuple[Part, ...]
    readings: tuple[Alternative, ...]

    def summary(self) -> dict[str, list[dict[str, str | float | bool | None]]]:
        """Lists of JSON objects named as the fields; null for NaN."""
        parts = {name: getattr(self, name) for name in ("claims", "decomposition", "readings")}
        return {name: [_json(asdict(row)) for row in rows] for name, rows in parts.items()}


def _json(row: Mapping[str, str | float | bool]) -> dict[str, str | float | bool | None]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


# --- what is tested ------------------------------------------------------------------------------


def _contrasts(measured: Measured) -> Contrasts:
    """Treatment minus control of every reading."""
    return {
        (*key, estimand): measured.contrast(key, estimand, (TREATMENT, CONTROL))
        for key in measured.values
        for estimand in ESTIMANDS
    }


@dataclass(frozen=True)
class _Tested:
    """A case under one estimand. effect: None where it is not tested. level, rest: the parts of the
    effect that the accuracy of each class explains and the rest; None where there is no split.
    accuracy: the same contrast of accuracy; None for a statement about accuracy or a generator.
    mean: of the best and the worst subgroup, for a statement on which slope is steeper, else None.
    gate: why a statement about bias gets no verdict whatever the effect."""

    case: Case
    estimand: str
    effect: Effect | None
    margin: float = NAN
    level: Effect | None = None
    rest: Effect | None = None
    accuracy: Effect | None = None
    mean: Effect | None = None
    gate: str = ""


class _Sweep:
    """Everything measured: contrasts by (group, classifier), parts, generators' distances."""

    def __init__(self, groups: Sequence[Group], settings: Evaluation) -> None:
        self.groups, self.settings = {g.name: g for g in groups}, settings
        self.contrasts: dict[tuple[str, str], Contrasts] = {}
        self.parts: list[Part] = []
        for group in groups:
            for classifier in group.classifiers if len(group.arms) > 1 else ():
                measured = measure(classifier, group.arms, settings)
                if measured:
                    self._add(group, classifier, measured)

    def _add(self, group: Group, classifier: str, measured: Measured) -> None:
        if not group.lacks:
            self.contrasts[group.name, classifier] = _contrasts(measured)
        self.parts += decomposed(group, classifier, measured, self.settings)

    def contrast(self, case: Case, key: str, estimand: str, of: str = "") -> Contrast | None:
        """The case's contrast of one reading (of a subgroup); None where there is no such one."""
        at = (key, of, estimand)
        sides = [[self.contrasts.get(who, {}).get(at) for who in s] for s in (case.plus, case.less)]
        plus, less = ([c for c in side if c is not None] for side in sides)
        if len(plus) < len(case.plus) or len(less) < len(case.less):
            return None
        return minus(mean_of(plus), mean_of(less)) if less else mean_of(plus)

    def gate(self, case: Case) -> str:
        """Why a statement about bias gets no verdict: a generator of its groups is too poor."""
        if case.metric == "accuracy":
            return ""
        reasons = [self.groups[name].treatment.not_converged for name, _ in case.plus + case.less]
        return next((f"generator not converged: {reason}" for reason in reasons if reason), "")

    def distances(self, case: Case, estimand: str) -> tuple[Floats, float]:
        """Each chain's estimand over generations 1..N, and the mean distance at generation 1."""
        ((name, owner),) = case.plus
        values = self.groups[name].treatment.quality[case.metric]
        chains = sorted({seed for classifier, seed, _ in values if classifier == owner})
        found, starts = [], []
        for chain in chains:
            times = sorted(t for o, seed, t in values if (o, seed) == (owner, chain) and t > 0)
            known = [t for t in times if np.isfinite(values[owner, chain, t])]
            shape = time_weights([t - 1 for t in known], case.last - 1, estimand)
            if shape is not None:
                series = np.array([values[owner, chain, t] for t in known])
                found.append(float(shape @ series))
                starts.append(float(series[0]))
        return np.array(found), float(np.mean(starts)) if starts else NAN


def _least(metric: str, settings: Evaluation) -> float:
    """The smallest effect of interest over all generations, in the metric's unit."""
    margin = settings.claims.margin
    if metric.startswith("gap_variance"):
        return margin**2  # of gap_rms, a fraction
    if metric.startswith("log_odds"):
        return 4 * margin  # d logit = d p / (p (1 - p)), at most so steep at p = 1/2
    return margin


def _margin(sweep: _Sweep, case: Case, key: str, estimand: str, null: Floats | None) -> float:
    """The floor's band width of the same contrast, at least the smallest effect of interest."""
    least = _least(key, sweep.settings) / (case.last if estimand == SLOPE else 1)
    if null is None or not null.shape[1]:
        return least
    _, low, high = band(null.mean(axis=1), sweep.settings.level)
    return float(np.fmax(high - low, least))


def _test(sweep: _Sweep, case: Case, choice: Choice, estimand: str) -> _Tested:
    if case.lacks:
        return _Tested(case, estimand, None)
    if case.statement.compare == "generator":
        return _test_generator(sweep, case, estimand)
    settings = sweep.settings
    key, factor = choice.key(case.metric, case.reading, settings.ordered)
    contrast = sweep.contrast(case, key, estimand, case.statement.subgroup)
    if contrast is None:
        return _Tested(replace(case, lacks="no such reading of this dataset"), estimand, None)
    contrast = contrast.scaled(factor)
    floor = contrast if contrast.null is not None else _declared(sweep, case, estimand)
    margin = _margin(sweep, case, key, estimand, floor.null)

    def effect_of(key: str, of: str, scale: float) -> Effect | None:
        found = sweep.contrast(case, key, estimand, of)
        return None if found is None else effect(found.scaled(scale).draws, settings.level)

    return _Tested(
        case,
        estimand,
        effect(contrast.draws, settings.level),
        margin,
        effect_of(_change_part(key, "level"), case.statement.subgroup, factor),
        effect_of(_change_part(key, "distribution"), case.statement.subgroup, factor),
        None if _is_of_accuracy(case, key) else effect_of("accuracy", "", 1.0),
        effect_of(key, RANK_MEAN, factor) if case.statement.steeper else None,
        sweep.gate(case),
    )


def _change_part(key: str, part: str) -> str:
    """The key of one part of a reading's change; a suffix stands before the slash."""
    stem, slash, kind = key.partition("/")
    return f"{stem}_change_{part}{slash}{kind}"


def _is_of_accuracy(case: Case, key: str) -> bool:
    """Whether accuracy is no other explanation: the statement is about accuracies themselves, or
    the reading is relative to clean accuracy already."""
    return case.metric == "accuracy" or case.statement.steeper or key.startswith(RELATIVE)


def _declared(sweep: _Sweep, case: Case, estimand: str) -> Contrast:
    """The contrast under the readings that are used: its floor serves where one has none."""
    ordered = sweep.settings.ordered
    key, factor = Choice(ordered).key(case.metric, case.reading, ordered)
    found = sweep.contrast(case, key, estimand, case.statement.subgroup)
    assert found is not None
    return found.scaled(factor)


def _test_generator(sweep: _Sweep, case: Case, estimand: str) -> _Tested:
    values, start = sweep.distances(case, estimand)
    steps = max(case.last - 1, 1) if estimand == SLOPE else 1
    margin = sweep.settings.claims.distance_margin * abs(start) / steps
    return _Tested(case, estimand, effect_of_chains(values, sweep.settings.level), margin)


# --- what is said --------------------------------------------------------------------------------


def _p(tested: _Tested) -> tuple[float, float]:
    """p for the statement, and p against it; NaN where there is no test."""
    found = tested.effect
    if found is None or not found.chains or math.isnan(found.error):
        return NAN, NAN
    if tested.case.statement.direction == SAME:
        return found.p_inside(tested.margin), found.p_outside(tested.margin)
    if tested.mean is not None:  # |worst| > |best| is about (worst - best) (worst + best)
        return (max(found.p_change(), tested.mean.p_change()),) * 2
    return found.p_change(), found.p_change()


def _adjusted(tests: Sequence[_Tested]) -> list[tuple[float, float, float]]:
    """p, Holm-adjusted p, and Holm-adjusted p against; a family is tested by estimand."""
    pairs = [_p(tested) for tested in tests]
    families: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, tested in enumerate(tests):
        if not math.isnan(pairs[i][0]):
            families[tested.case.statement.family, tested.estimand].append(i)
    found = [(p, NAN, NAN) for p, _ in pairs]
    for members in families.values():
        adjusted = [holm([pairs[i][side] for i in members]) for side in (0, 1)]
        for i, *both in zip(members, *adjusted, strict=True):
            found[i] = (pairs[i][0], both[0], both[1])
    return found


def _judged(tested: _Tested, p_for: float, p_against: float, level: float) -> tuple[str, str]:
    """Verdict and reason."""
    found, alpha = tested.effect, 1 - level
    if found is None:
        return NOT_TESTED, tested.case.lacks
    if tested.gate:
        return UNDECIDED, tested.gate
    if math.isnan(found.error):
        return UNDECIDED, _no_error(found)
    if tested.case.statement.direction == SAME:
        verdict = _unchanged(p_for <= alpha, p_against <= alpha, level)
    elif p_for > alpha:
        raw = _p(tested)[0] <= alpha
        return UNDECIDED, "beyond zero only before Holm's adjustment" if raw else "interval holds 0"
    elif (_signed(tested, found) > 0) != (tested.case.statement.direction == UP):
        verdict = CONTRADICTED, "the opposite change is established"
    else:
        verdict = SUPPORTED, f"{100 * level:g} % interval beyond zero, after Holm's adjustment"
    moved = verdict[0] == CONTRADICTED or tested.case.statement.direction != SAME
    return (_by_accuracy(tested, level) if moved else None) or verdict


def _signed(tested: _Tested, found: Effect) -> float:
    """The effect, for a statement on slopes positive where the worst subgroup's is the steeper."""
    return found.value if tested.mean is None else -found.value * tested.mean.value


def _slopes(tested: _Tested) -> str:
    """Both ends of a gap, which is the best subgroup's effect less the worst's."""
    if tested.mean is None or tested.effect is None:
        return ""
    mean, half = tested.mean.value, tested.effect.value / 2
    unit = " per generation" if tested.estimand == SLOPE else ""
    return f"; worst {mean - half:+.4f}, best {mean + half:+.4f}{unit}"


def _by_accuracy(tested: _Tested, level: float) -> tuple[str, str] | None:
    """The verdict on an established change of fairness that accuracy explains, or may explain.

    Explained: the level part lies beyond zero on the effect's side and the rest inside the margin
    (two one-sided tests). Not separated: the rest is neither there nor beyond zero, or accuracy
    changed and the metric has no such parts. None: accuracy is not the reason.
    """
    found, parts = tested.effect, (tested.level, tested.rest)
    if found is None or tested.accuracy is None:
        return None
    part, rest = parts
    if part is None or rest is None:
        if not _beyond(tested.accuracy):
            return None
        return UNDECIDED, "accuracy changed as well, and nothing separates this metric from it"
    side = 1 if found.value > 0 else -1
    if _beyond(part) != side or _beyond(rest) == side:
        return None
    low, high = rest.interval(2 * level - 1)
    if -tested.margin <= low and high <= tested.margin:
        return ACCURACY, "follows from the accuracy of each class; the rest lies inside the margin"
    return UNDECIDED, "not separated from what the accuracy of each class does to it"


def _beyond(found: Effect) -> int:
    """1 or -1 where the interval lies above or below zero, else 0."""
    return int(found.low > 0) - int(found.high < 0)


def _no_error(found: Effect) -> str:
    """Why an effect has no error."""
    if found.chains == 1:
        return "this chain only"
    return "the metric is not defined in " + ("most resamples" if found.chains else "any chain")


def _unchanged(inside: bool, outside: bool, level: float) -> tuple[str, str]:
    tests = f"{100 * (2 * level - 1):g} % interval (two one-sided tests at {100 * (1 - level):g} %)"
    if inside:
        return SUPPORTED, f"{tests} inside the margin"
    if outside:
        return CONTRADICTED, f"{100 * level:g} % interval wholly outside the margin"
    return UNDECIDED, f"{tests} not inside the margin, after Holm's adjustment"


def _ends(tested: _Tested, level: float) -> tuple[float, float]:
    found = tested.effect
    if found is None:
        return NAN, NAN
    if tested.case.statement.direction == SAME and not math.isnan(found.error):
        return found.interval(2 * level - 1)
    return found.low, found.high


Found = dict[tuple[Case, str], Verdict]


def _estimands(case: Case) -> tuple[str, ...]:
    """Both; with one generation they are one number, and what is not tested stands once."""
    generator = case.statement.compare == "generator"
    alike = case.last - generator == 1
    return (case.statement.estimand,) if case.lacks or alike else ESTIMANDS


def _verdicts(sweep: _Sweep, cases: Sequence[Case], choices: Mapping[Case, Choice]) -> Found:
    """Every case under both estimands; one that is not tested once, under its declared one."""
    settings = sweep.settings
    used = Choice(settings.ordered)
    tests = [
        _test(sweep, case, choices.get(case, used), estimand)
        for case in cases
        for estimand in _estimands(case)
    ]
    return {
        (tested.case, tested.estimand): _verdict(tested, numbers, settings)
        for tested, numbers in zip(tests, _adjusted(tests), strict=True)
    }


def _verdict(tested: _Tested, numbers: tuple[float, float, float], settings: Evaluation) -> Verdict:
    case, found, level = tested.case, tested.effect, settings.level
    statement, (p, p_holm, p_against) = case.statement, numbers
    verdict, reason = _judged(tested, p_holm, p_against, level)
    low, high = _ends(tested, level)
    return Verdict(
        id=statement.id,
        section=statement.section,
        family=statement.family,
        text=statement.text,
        scenario_group=case.group,
        classifier=case.classifier,
        metric=case.metric,
        subgroup=statement.subgroup,
        estimand=tested.estimand,
        direction=statement.direction,
        control="" if statement.compare == "generator" else CONTROL,
        margin=tested.margin,
        value=found.value if found else NAN,
        low=low,
        high=high,
        mde=found.detectable(1 - level, settings.claims.power) if found else NAN,
        p=p,
        p_holm=p_holm,
        verdict=verdict,
        reason=reason + _slopes(tested),
    )


# --- what another reading would say --------------------------------------------------------------


def _touched(sweep: _Sweep, cases: Sequence[Case], definition: Definition) -> list[Case]:
    """Tested cases for which the other reading exists and is another one."""
    ordered = sweep.settings.ordered
    found = []
    for case in cases:
        if case.lacks or case.metric not in definition.metrics:
            continue
        used, other = (
            choice.key(case.metric, case.reading, ordered)
            for choice in (Choice(ordered), definition.choice)
        )
        keys = {used[0], other[0]}
        of = case.statement.subgroup
        if used != other and all(sweep.contrast(case, key, SLOPE, of) for key in keys):
            found.append(case)
    return found


def _alternatives(sweep: _Sweep, cases: Sequence[Case], used: Found) -> Iterator[Alternative]:
    """The declared estimand of each claim under each other reading; the family is tested anew."""
    for definition in definitions(sweep.settings.ordered):
        touched = _touched(sweep, cases, definition)
        found = _verdicts(sweep, cases, dict.fromkeys(touched, definition.choice))
        for case in touched:
            at = (case, case.statement.estimand)
            before, after = used[at].verdict, found[at].verdict
            who = ", ".join(name for name in (case.group, case.classifier) if name)
            yield Alternative(
                definition.name,
                definition.used or case.reading,
                definition.other,
                f"{case.statement.id} ({who})",
                before,
                after,
                before != after,
            )


def claims(arms: Sequence[Arm], settings: Evaluation) -> Result:
    """Every declared claim, judged on all scenarios of a sweep.

    Both estimands are tested: Holm's adjustment covers all cases of a family (all groups and
    classifiers) under one estimand. low and high are not adjusted.
    """
    groups = groups_of(arms)
    sweep = _Sweep(groups, settings)
    cases = list(cases_of(groups))
    found = _verdicts(sweep, cases, {})
    alternatives = tuple(_alternatives(sweep, cases, found))
    return Result(tuple(found.values()), tuple(sweep.parts), alternatives)
