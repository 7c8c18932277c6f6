"""The first fit of eq. 6 over a sweep: A and a verdict for each model and dataset, then parameters.

Puts the parts together and gives them the forms that the table and the report read.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.dynamics.amplification import NO_BIAS, Amplification, amplification
from ray_selfloop.dynamics.equation import Number, parameters
from ray_selfloop.dynamics.factors import BiasSeries, Steps
from ray_selfloop.evaluation.rows import Rows, Where, typed


@dataclass(frozen=True)
class ModelVerdict:
    """A of one classifier in one scenario. note: what the reader must know beside it, or ""."""

    scenario: str
    classifier: str
    found: Amplification
    note: str


@dataclass(frozen=True)
class Fit:
    """verdicts: one for each series. numbers: identified ratios, and refused ones with reasons."""

    verdicts: tuple[ModelVerdict, ...]
    numbers: tuple[Number, ...]

    def rows(self) -> pd.DataFrame:
        """Rows of the results table, metric ``A``, split ``test``.

        Without generation: the geometric mean of A_t. With generation t: ``A_t = B(t+1) / B(t)``,
        where B(t) is above its noise floor. An end that is NaN beside a value is open.
        """
        frames = [Rows("", "test").frame()]
        for verdict in self.verdicts:
            rows, found = Rows(verdict.scenario, "test"), verdict.found
            where = Where(classifier=verdict.classifier)
            rows.add("A", (found.a, found.low, found.high), where)
            for t, ends in found.by_step.items():
                rows.add("A", ends, Where(generation=t, classifier=verdict.classifier))
            frames.append(rows.frame())
        return typed(pd.concat(frames, ignore_index=True))

    def summary(self) -> dict[str, list[dict[str, str | float | None]]]:
        """What fits into a record, ready for JSON; null where a number is not identified.

        verdicts: scenario, classifier, a, low, high, text, note. fit: scope, quantity, value, low,
        high, note.
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
        return {"verdicts": verdicts, "fit": [_json(**asdict(n)) for n in self.numbers]}


def _json(**entry: str | float) -> dict[str, str | float | None]:
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


def _note(series: BiasSeries, found: Amplification, expert: str) -> str:
    notes = [_open(found)] if _open(found) else []
    if len(series.chains) == 1 and found.verdict != NO_BIAS:
        notes.append("interval of this chain only")
    if expert and expert != series.classifier:
        notes.append(
            f"descriptive: in a shared chain only the expert's bias ({expert}) acts on the next "
            "generation"
        )
    return "; ".join(notes)


def fit(
    series: Sequence[BiasSeries], factors: Steps, settings: Evaluation, experts: Mapping[str, str]
) -> Fit:
    """Fit eq. 6 over all models, datasets and chains of a sweep.

    series: from `factors.bias_series`, all scenarios. factors: from `factors.steps`; a missing step
    only costs the parameters. experts: scenario -> the classifier whose uncertainty filters a
    shared chain; a scenario without one has no entry or "".
    """
    limit = settings.dynamics.growth_limit
    verdicts = []
    for one in series:
        found = amplification(one, settings.level, limit)
        note = _note(one, found, experts.get(one.scenario, ""))
        verdicts.append(ModelVerdict(one.scenario, one.classifier, found, note))
    return Fit(tuple(verdicts), tuple(parameters(series, factors, settings.level)))
