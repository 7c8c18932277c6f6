"""The tables of verdicts: eq. 6, laws, rests, claims, decomposition. Arranges; decides nothing."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ray_selfloop.claims.contrasts import LAST_MINUS_FIRST, LEVEL, SCATTER, SLOPE
from ray_selfloop.claims.statements import HYPOTHESIS
from ray_selfloop.config.arms import TREATMENT
from ray_selfloop.config.datasets.known import traits_of
from ray_selfloop.inference.verdicts import NOT_TESTED
from ray_selfloop.report import answer
from ray_selfloop.report.cells import Axis, around_zero
from ray_selfloop.report.view import Claim, Law, Part, ReadingRow, ReportView, RestPoint

ALL_OPEN = 60  # with more tested claims than this the sections are folded
ESTIMANDS = {
    SLOPE: "slope per generation",
    LAST_MINUS_FIRST: "last minus first generation",
    LEVEL: "mean over generations",
    SCATTER: "scatter around a line over generations",
}


def equation_6(view: ReportView) -> dict[str, Any]:
    """``main`` where the question is put, ``controls``, and the ``axis`` of all their ratios."""
    ends = (e for v in view.verdicts for e in (v.ratio, v.ratio_low, v.ratio_high))
    known = [e for e in ends if not math.isnan(e)]
    asked = answer.of_treatment(view)
    return {
        "axis": Axis(max(0.0, min([*known, 0.9]) - 0.05), min(4.0, max([*known, 1.1]) + 0.05)),
        "main": asked,
        "controls": [v for v in view.verdicts if v not in asked],
    }


def of_cues(view: ReportView) -> bool:
    """Whether an A of eq. 6 is about reliance on spurious cues and not about subgroups."""
    cued = {s.name for s in view.scenarios if traits_of(s.dataset).masks}
    return any(v.scenario in cued and not math.isnan(v.a) for v in view.verdicts)


def readings(found: Sequence[ReadingRow]) -> list[tuple[str, str, str, int, int]]:
    """Per definition: its name, the reading used, the other, claims, and verdicts that change."""
    per: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
    for row in found:
        per[row.definition, row.used, row.other].append(row.changes)
    return [(*key, len(told), sum(told)) for key, told in per.items()]


@dataclass(frozen=True)
class Section:
    """The tested claims of one section of the paper, judged together, each with its scale.

    together: how many."""

    title: str
    counts: list[tuple[str, int]]
    rows: list[tuple[Claim, Axis]]
    together: int
    open: bool


def sections(view: ReportView) -> list[Section]:
    """The tested claims beside the primary ones, by section."""
    tested = [c for c in beside(view.claims) if c.verdict != NOT_TESTED]
    found: dict[str, list[Claim]] = defaultdict(list)
    for claim in tested:
        found[claim.section].append(claim)
    few = len(tested) <= ALL_OPEN
    return [_section(name, claims, few) for name, claims in found.items()]


def beside(claims: Iterable[Claim]) -> list[Claim]:
    """The paper's statements: all but the hypothesis about each setting, which is the answer."""
    return [claim for claim in claims if claim.id != HYPOTHESIS]


def _section(title: str, claims: Sequence[Claim], unfolded: bool) -> Section:
    axes: dict[tuple[str, str], list[float]] = defaultdict(list)
    for c in claims:
        axes[c.metric, c.estimand] += [c.value, c.low, c.high, c.margin]
    rows = [(c, around_zero(axes[c.metric, c.estimand])) for c in claims]
    together = max(c.together for c in claims)
    return Section(heading(title), answer.counts(claims), rows, together, unfolded)


def heading(section: str) -> str:
    """``Section 4.2 biased``, ``Appendix A``."""
    return f"Section {section}" if section[:1].isdigit() else section[:1].upper() + section[1:]


def what(claim: Claim) -> str:
    """``md, fine 3: last minus first generation, treatment minus no_synthetic``."""
    subject = f"{claim.metric}, {claim.subgroup}" if claim.subgroup else claim.metric
    estimand = ESTIMANDS.get(claim.estimand, claim.estimand.replace("_", " "))
    against = f", {TREATMENT.name} minus {claim.control}" if claim.control else ""
    return f"{subject}: {estimand}{against}"


def without_prediction(laws: Sequence[Law]) -> dict[str, Any]:
    """How many fits predict nothing, and why; empty where every one does."""
    return _reasons([law for law in laws if law.held_out_error != law.held_out_error])


def rests(view: ReportView) -> dict[str, Any]:
    """``rows``: where the affine law is fitted; ``none``: how many it is not fitted to, and why."""
    fitted = [rest for rest in view.rests if not math.isnan(rest.b)]
    return {"rows": fitted, "none": _reasons([r for r in view.rests if math.isnan(r.b)])}


def _reasons(found: Sequence[Law | RestPoint]) -> dict[str, Any]:
    why = "; ".join(dict.fromkeys(one.note for one in found if one.note))
    return {"of": len(found), "why": why or "not defined"} if found else {}


def parts(found: Sequence[Part]) -> list[dict[str, Any]]:
    """The decomposition as a table: one row per classifier and metric, one column per part."""
    rows: dict[tuple[str, str], dict[str, Part]] = defaultdict(dict)
    for part in found:
        rows[part.classifier, part.metric][part.part] = part
    return [
        {
            "classifier": classifier or "all",
            "metric": metric,
            "parts": of,
            "notes": list(dict.fromkeys(p.note for p in of.values() if p.note)),
        }
        for (classifier, metric), of in rows.items()
    ]
