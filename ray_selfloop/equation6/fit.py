"""The fit of eq. 6 over a sweep: A and a verdict for each scenario and classifier, the parameters,
the comparison of laws, and where bias would come to rest.

Puts the parts together and gives them the forms that the table and the report read. Decides what a
verdict is of: A of a treatment relative to its control, adjusted over all treatment cases of the
sweep. Without a control there is none, whatever A is: accuracy alone moves A.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ray_selfloop.config.arms import ARMS, CONTROL, TREATMENT
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.equation6.amplification import NO_BIAS, Amplification, amplification
from ray_selfloop.equation6.bias import BiasSeries, Labels
from ray_selfloop.equation6.laws import Law, compare
from ray_selfloop.equation6.parameters import Number, parameters
from ray_selfloop.equation6.relative import NAN, NO_CONTROL, NOTHING, Relative, relative
from ray_selfloop.equation6.rest_point import RestPoint, rest_point
from ray_selfloop.equation6.steps import Steps
from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.rows import Rows, Where, typed
from ray_selfloop.inference.chains import effect
from ray_selfloop.inference.families import holm
from ray_selfloop.inference.verdicts import most

WITHOUT_GENERATION = frozenset(arm.name for arm in ARMS.values() if not arm.generates)
CONTROL_ARM, EXPLORATORY = "control", "exploratory"
TOO_POOR = "undecided: generator too poor to ask"
UNEVEN = "undecided: the arms lost different trials"
UNFINISHED = "undecided: its last generation is not there yet"
BY_ACCURACY = "undecided: not separated from what accuracy does to it"
CUES = "B: accuracy without the object over clean accuracy; no subgroups, so no u term"
SEEDS = (
    "one classifier seed: B holds the scatter between seeds, which draws A towards 1; two or more "
    "seeds (loop.classifier_seeds) take it out"
)
FILLED = "A over filled-queue steps"


@dataclass(frozen=True)
class Verdict:
    """What is said of one classifier in one scenario, as a record and the report have it.

    a, low, high: geometric mean of A_t and its interval; NaN = not identified or not defined.
    ratio, ratio_low, ratio_high: A over the A of the control arm, chain by chain; NaN without one.
    text, note, p_holm, chains: as of `ModelVerdict`.
    """

    scenario: str
    classifier: str
    a: float
    low: float
    high: float
    text: str
    note: str = ""
    ratio: float = NAN
    ratio_low: float = NAN
    ratio_high: float = NAN
    p_holm: float = NAN
    chains: int = 0


@dataclass(frozen=True)
class ModelVerdict:
    """A of one classifier in one scenario, and A relative to its control.

    text: the verdict. note: what the reader must know beside it, or "". ratio: A over that of the
    control of the same group, at the unadjusted level; None without one. p_holm: of ratio = 1,
    adjusted over the treatment cases of the sweep; NaN elsewhere. same_accuracy: p of 'accuracy
    changed as in the control', NaN where it is not known, 0 where B is relative to it. filled: A
    over the steps whose queue is filled; None where that is all steps or none.
    """

    scenario: str
    classifier: str
    found: Amplification
    text: str
    note: str
    ratio: Relative | None = None
    p_holm: float = NAN
    same_accuracy: float = NAN
    filled: Amplification | None = None

    @property
    def p(self) -> float:
        """That A differs from the control's by more than accuracy may do to it."""
        ratio = self.ratio or NOTHING
        return most(ratio.p, self.same_accuracy)

    @property
    def chains(self) -> int:
        """Behind the ratio, or behind A where there is none."""
        return self.ratio.chains if self.ratio else self.found.chains

    @property
    def row(self) -> Verdict:
        """In plain numbers."""
        found, ratio = self.found, self.ratio or NOTHING
        return Verdict(
            self.scenario, self.classifier, found.a, found.low, found.high, self.text, self.note,
            ratio.value, ratio.low, ratio.high, self.p_holm, self.chains,
        )  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """verdicts: one for each series. numbers: A over filled-queue steps, identified ratios, and
    refused ones with reasons. laws: those compared on held-out last generations. rests: one of each
    series."""

    verdicts: tuple[ModelVerdict, ...]
    numbers: tuple[Number, ...]
    laws: tuple[Law, ...] = ()
    rests: tuple[RestPoint, ...] = ()

    def rows(self) -> pd.DataFrame:
        """Rows of the results table, metric ``A``, split ``test``.

        Without generation: the geometric mean of A_t. With generation t: ``A_t = B(t+1) / B(t)``,
        where B(t) is above its noise floor. An end that is NaN beside a value is open.
        ``A_filled``: the mean over the steps whose queue is filled, where the queue fills first.
        ``A_ratio``: A over that of the control, where the group has one. ``rest_point``: B*.
        """
        frames = [Rows("", "test").frame()]
        for verdict in self.verdicts:
            rows, found, name = Rows(verdict.scenario, "test"), verdict.found, verdict.classifier
            rows.add(metrics.AMPLIFICATION.name, found.ends, Where(classifier=name))
            if verdict.ratio is not None:
                ends = verdict.ratio.ends
                rows.add(metrics.AMPLIFICATION_RATIO.name, ends, Where(classifier=name))
            if verdict.filled is not None:
                ends = verdict.filled.ends
                rows.add(metrics.AMPLIFICATION_FILLED.name, ends, Where(classifier=name))
            for t, ends in found.by_step.items():
                rows.add(metrics.AMPLIFICATION.name, ends, Where(generation=t, classifier=name))
            frames.append(rows.frame())
        for rest in self.rests:
            if not math.isnan(rest.value):
                rows = Rows(rest.scenario, "test")
                rows.add(metrics.REST_POINT.name, rest.ends, Where(classifier=rest.classifier))
                frames.append(rows.frame())
        return typed(pd.concat(frames, ignore_index=True))

    def summary(self) -> dict[str, list[dict[str, Any]]]:
        """What fits into a record: lists of `Verdict`, `Number`, `Law`, `RestPoint`."""
        verdicts = [verdict.row for verdict in self.verdicts]
        return {
            "verdicts": entries(verdicts),
            "fit": entries(self.numbers),
            "laws": entries(self.laws),
            "rests": entries(self.rests),
        }


def entries(rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Rows as JSON objects named as their fields; null for NaN."""
    found: list[dict[str, Any]] = _plain([asdict(row) for row in rows])
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _open(of: str, ends: tuple[float, float, float]) -> str:
    """That an interval (value, low, high) has no end below or above, with the end that it has; ""
    if it has both, or no value."""
    value, low, high = ends
    if math.isnan(value):
        return ""
    if math.isnan(low) and math.isnan(high):
        return f"interval{of} open below and above"
    if math.isnan(low):
        return f"interval{of} open below, up to {high:.3f}"
    return f"interval{of} open above, from {low:.3f}" if math.isnan(high) else ""


def _note(series: BiasSeries, found: Amplification, ratio: Relative | None, labels: Labels) -> str:
    notes = [_open("", found.ends)]
    if ratio is not None:
        notes.append(_open(" of the ratio", ratio.ends))
        if ratio.chains < len(series.chains):
            notes.append(f"ratio from {ratio.chains} of {len(series.chains)} chains")
    notes.append(_reading(series))
    if len(series.chains) == 1 and found.verdict != NO_BIAS:
        notes.append("interval of this chain only")
    expert = labels.experts.get(series.scenario, "")
    if expert and expert != series.classifier:
        notes.append(
            f"descriptive: in a shared chain only the expert's bias ({expert}) acts on the next "
            "generation"
        )
    return "; ".join(note for note in notes if note)


def _reading(series: BiasSeries) -> str:
    """What the reader must know of this B, or ""."""
    if series.inflated:
        return "floor-inflated: this B holds true gap + noise, which draws A towards 1"
    if not series.subgroups:
        return CUES
    return "" if series.seeds_apart else SEEDS


def _filled(series: BiasSeries, labels: Labels, settings: Evaluation) -> Amplification | None:
    """A over the generations from which the dose stays the same; None if it is all or under two."""
    start = labels.filled.get(series.scenario, 0)
    if not 0 < start < series.generations - 1:
        return None
    later = series.between(start, series.generations)
    return amplification(later, settings.level, settings.dynamics.growth_limit)


def _separate(series: BiasSeries, found: Amplification | None, labels: Labels) -> Number | None:
    """A over filled-queue steps, as a number beside the parameters; None where there is no queue
    that fills."""
    start = labels.filled.get(series.scenario, 0)
    if start == 0:
        return None
    scope = f"{series.scenario}, {series.classifier}"
    if found is None:
        note = "no step with an unchanged dose: dose and generation are confounded throughout"
        return Number(scope, FILLED, NAN, NAN, NAN, note)
    note = f"steps from generation {start} on; before, dose and generation are confounded"
    note = f"{note}; {found.verdict}" if found.verdict.startswith("undecided:") else note
    return Number(scope, FILLED, *found.ends, note)


def _control(one: BiasSeries, series: Sequence[BiasSeries], labels: Labels) -> BiasSeries | None:
    """What a series is judged against: of the same group and classifier, in the control arm."""
    group = labels.groups.get(one.scenario)
    for other in series:
        alike = group is not None and labels.groups.get(other.scenario) == group
        if (
            alike
            and other.classifier == one.classifier
            and labels.arm(other.scenario) == CONTROL.name
        ):
            return other
    return None


def _case(
    one: BiasSeries, control: BiasSeries | None, labels: Labels, settings: Evaluation
) -> ModelVerdict:
    """All but what Holm adds."""
    limit = settings.dynamics.growth_limit
    found = amplification(one, settings.level, limit)
    ratio = None if control is None else relative(one, control, settings.level, limit)
    gate, note = labels.gated.get(one.scenario, ""), _note(one, found, ratio, labels)
    note = "; ".join(part for part in (gate, note) if part)
    filled = _filled(one, labels, settings)
    text = _without_test(ratio, gate) or _incomplete(one, control, labels)
    same = NAN if control is None else _same_accuracy(one, control, settings)
    return ModelVerdict(
        one.scenario, one.classifier, found, text, note, ratio, same_accuracy=same, filled=filled
    )


def _same_accuracy(one: BiasSeries, control: BiasSeries, settings: Evaluation) -> float:
    """p of equivalence of accuracy's change, last minus first, on the chains of both arms; bias
    moves with accuracy, and only where accuracy moved alike is A's own another one."""
    shared = tuple(chain for chain in one.chains if chain in control.chains)
    ours, theirs = one.of(shared).accuracy, control.of(shared).accuracy
    if ours is None or theirs is None:
        return 0.0
    apart = (ours - theirs)[:, :, [0, -1]] @ np.array([-1.0, 1.0])
    found = effect(apart[:, ~np.isnan(apart[0])], settings.level)
    return found.p_inside(settings.claims.accuracy_margin)


def _incomplete(one: BiasSeries, control: BiasSeries | None, labels: Labels) -> str:
    """Why what is there is no whole experiment, or ""."""
    if one.generations - 1 < labels.generations.get(one.scenario, 0):
        return UNFINISHED
    return "" if _even(one, control) else UNEVEN


def _even(one: BiasSeries, control: BiasSeries | None) -> bool:
    """Whether both arms have the same sound trials; what only survivors show is no verdict."""
    return control is None or (
        one.chains == control.chains and np.array_equal(one.seeds, control.seeds)
    )


def _without_test(ratio: Relative | None, gate: str) -> str:
    """Why a treatment has no verdict whatever its p is, or ""."""
    if ratio is None:
        return NO_CONTROL
    return TOO_POOR if gate else ratio.refused


def _judged(case: ModelVerdict, p_holm: float, cases: int, level: float) -> ModelVerdict:
    """A treatment with its verdict; p_holm: of so many cases, in which one without a p counts."""
    ratio, alpha = case.ratio or NOTHING, 1.0 - level
    if math.isnan(case.p):
        return case
    if case.text:
        return replace(case, p_holm=p_holm)
    if p_holm > alpha:
        why = f", of {cases} cases" if case.p <= alpha else ""
        text = (
            BY_ACCURACY if ratio.p <= alpha < case.p else f"undecided: ratio 1 is not excluded{why}"
        )
        return replace(case, p_holm=p_holm, text=text)
    word = "A > control" if ratio.above < ratio.below else "A < control"
    return replace(case, p_holm=p_holm, text=word)


def _verdicts(
    series: Sequence[BiasSeries], labels: Labels, settings: Evaluation
) -> list[ModelVerdict]:
    """Of every series; a treatment with a control that has no p counts among Holm's cases."""
    found = []
    for one in series:
        of_control = labels.arm(one.scenario) in WITHOUT_GENERATION
        control = None if of_control else _control(one, series, labels)
        found.append(_case(one, control, labels, settings))
    arms = [labels.arm(v.scenario) for v in found]
    tested = [i for i, v in enumerate(found) if arms[i] == TREATMENT.name and v.ratio is not None]
    p = [1.0 if math.isnan(found[i].p) else found[i].p for i in tested]
    adjusted = dict(zip(tested, holm(p), strict=True))
    for i, case in enumerate(found):
        if i in adjusted:
            found[i] = _judged(case, adjusted[i], len(tested), settings.level)
        elif arms[i] != TREATMENT.name:
            word = CONTROL_ARM if arms[i] in WITHOUT_GENERATION else EXPLORATORY
            found[i] = replace(case, text=word)
        if labels.exploratory and arms[i] == TREATMENT.name and case.ratio is not None:
            found[i] = replace(found[i], text=f"{EXPLORATORY}: {labels.exploratory}")
    return found


def fit(series: Sequence[BiasSeries], factors: Steps, settings: Evaluation, labels: Labels) -> Fit:
    """Fit eq. 6 over all models, datasets and chains of a sweep.

    series: from `factors.bias_series`, all scenarios. factors: from `factors.steps`; a missing step
    only costs the parameters. A verdict is of one treatment scenario and classifier against its
    control, by Holm over all of them; the control arms have the text ``control``, other arms
    ``exploratory``. d_D belongs to the dataset and g_M to the model that ``labels`` name. A
    generator that is not converged costs its scenario the verdict, not its part in the parameters:
    a designed q needs poor generators.
    """
    verdicts = _verdicts(series, labels, settings)
    apart = [_separate(one, v.filled, labels) for one, v in zip(series, verdicts, strict=True)]
    numbers = [number for number in apart if number is not None]
    numbers += parameters(series, factors, settings.level, labels)
    laws = [law for one in series for law in compare(one, factors, settings)]
    rests = tuple(rest_point(one, settings.level) for one in series)
    return Fit(tuple(verdicts), tuple(numbers), tuple(laws), rests)
