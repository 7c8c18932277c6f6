"""The fit of eq. 6 over a sweep: A and a verdict for each scenario and classifier, the parameters,
and the comparison of laws.

Puts the parts together and gives them the forms that the table and the report read. Decides when a
verdict is withheld although A has an interval.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.dynamics.amplification import NO_BIAS, Amplification, amplification
from ray_selfloop.dynamics.equation import Number, parameters
from ray_selfloop.dynamics.factors import BiasSeries, Labels, Steps
from ray_selfloop.dynamics.laws import Law, compare
from ray_selfloop.evaluation.rows import Rows, Where, typed

NOT_CONVERGED = "undecided: generator not converged"
CUES = "B: accuracy without the object over clean accuracy; no subgroups, so no u term"
FILLED = "A over filled-queue steps"


@dataclass(frozen=True)
class ModelVerdict:
    """A of one classifier in one scenario. note: what the reader must know beside it, or "".

    filled: A over the steps whose queue is filled alone; None where that is all steps or none.
    """

    scenario: str
    classifier: str
    found: Amplification
    note: str
    filled: Amplification | None = None


@dataclass(frozen=True)
class Fit:
    """verdicts: one for each series. numbers: A over filled-queue steps, identified ratios, and
    refused ones with reasons. laws: those compared on held-out last generations."""

    verdicts: tuple[ModelVerdict, ...]
    numbers: tuple[Number, ...]
    laws: tuple[Law, ...] = ()

    def rows(self) -> pd.DataFrame:
        """Rows of the results table, metric ``A``, split ``test``.

        Without generation: the geometric mean of A_t. With generation t: ``A_t = B(t+1) / B(t)``,
        where B(t) is above its noise floor. An end that is NaN beside a value is open.
        ``A_filled``: the mean over the steps whose queue is filled, where the queue fills first.
        """
        frames = [Rows("", "test").frame()]
        for verdict in self.verdicts:
            rows, found = Rows(verdict.scenario, "test"), verdict.found
            where = Where(classifier=verdict.classifier)
            rows.add("A", (found.a, found.low, found.high), where)
            if verdict.filled is not None:
                ends = verdict.filled.a, verdict.filled.low, verdict.filled.high
                rows.add("A_filled", ends, where)
            for t, ends in found.by_step.items():
                rows.add("A", ends, Where(generation=t, classifier=verdict.classifier))
            frames.append(rows.frame())
        return typed(pd.concat(frames, ignore_index=True))

    def summary(self) -> dict[str, list[dict[str, Any]]]:
        """What fits into a record, ready for JSON; null where a number is not identified.

        verdicts: scenario, classifier, a, low, high, text, note. fit: scope, quantity, value, low,
        high, note. laws: scenario, classifier, law, parameters, held_out_error, low, high,
        better_than_persistence, note.
        """
        verdicts = [
            _json(
                scenario=v.scenario,
                classifier=v.classifier,
                a=v.found.a,
                low=v.found.low,
                high=v.found.high,
                text=v.found.verdict,
                note=v.note,
            )
            for v in self.verdicts
        ]
        return {
            "verdicts": verdicts,
            "fit": [_json(**asdict(n)) for n in self.numbers],
            "laws": [_json(**asdict(law)) for law in self.laws],
        }


def _json(**entry: Any) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in entry.items()
    }


def _open(found: Amplification) -> str:
    """That A's interval has no end below or above, with the end that it has; "" if it has both."""
    if math.isnan(found.a):
        return ""
    below, above = math.isnan(found.low), math.isnan(found.high)
    if below and above:
        return "interval open below and above"
    if below:
        return f"interval open below, up to {found.high:.3f}"
    return f"interval open above, from {found.low:.3f}" if above else ""


def _note(series: BiasSeries, found: Amplification, labels: Labels) -> str:
    notes = [_open(found)] if _open(found) else []
    if series.inflated:
        notes.append("floor-inflated: this B holds true gap + noise, which draws A towards 1")
    if not series.subgroups:
        notes.append(CUES)
    if len(series.chains) == 1 and found.verdict != NO_BIAS:
        notes.append("interval of this chain only")
    expert = labels.experts.get(series.scenario, "")
    if expert and expert != series.classifier:
        notes.append(
            f"descriptive: in a shared chain only the expert's bias ({expert}) acts on the next "
            "generation"
        )
    return "; ".join(notes)


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
    scope, nan = f"{series.scenario}, {series.classifier}", float("nan")
    if found is None:
        note = "no step with an unchanged dose: dose and generation are confounded throughout"
        return Number(scope, FILLED, nan, nan, nan, note)
    note = f"steps from generation {start} on; before, dose and generation are confounded"
    note = f"{note}; {found.verdict}" if found.verdict.startswith("undecided:") else note
    return Number(scope, FILLED, found.a, found.low, found.high, note)


def _verdict(series: BiasSeries, labels: Labels, settings: Evaluation) -> ModelVerdict:
    found = amplification(series, settings.level, settings.dynamics.growth_limit)
    note, gate = _note(series, found, labels), labels.gated.get(series.scenario, "")
    if gate:
        found = replace(found, verdict=NOT_CONVERGED)
        note = f"{gate}; {note}" if note else gate
    filled = _filled(series, labels, settings)
    return ModelVerdict(series.scenario, series.classifier, found, note, filled)


def fit(series: Sequence[BiasSeries], factors: Steps, settings: Evaluation, labels: Labels) -> Fit:
    """Fit eq. 6 over all models, datasets and chains of a sweep.

    series: from `factors.bias_series`, all scenarios. factors: from `factors.steps`; a missing step
    only costs the parameters. A verdict is of one scenario and classifier; d_D belongs to the
    dataset and g_M to the model that ``labels`` name. A generator that is not converged costs its
    scenario the verdict, not its part in the parameters: a designed q needs poor generators.
    """
    verdicts = [_verdict(one, labels, settings) for one in series]
    apart = [_separate(one, v.filled, labels) for one, v in zip(series, verdicts, strict=True)]
    numbers = [number for number in apart if number is not None]
    numbers += parameters(series, factors, settings.level, labels)
    laws = [law for one in series for law in compare(one, factors, settings)]
    return Fit(tuple(verdicts), tuple(numbers), tuple(laws))
