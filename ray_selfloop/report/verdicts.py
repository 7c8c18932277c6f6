"""The tables of verdicts: eq. 6, laws, claims, decomposition. Arranges; decides nothing."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray_selfloop.claims.contrasts import LAST_MINUS_FIRST, LEVEL, SCATTER, SLOPE
from ray_selfloop.claims.statements import HYPOTHESIS
from ray_selfloop.config.arms import TREATMENT
from ray_selfloop.config.datasets.known import traits_of
from ray_selfloop.inference.verdicts import NOT_TESTED, UNDECIDED
from ray_selfloop.report import answer, groups, numbers
from ray_selfloop.report.cells import Axis, around_zero
from ray_selfloop.report.view import Claim, Law, Part, ReadingRow, ReportView, Verdict

ALL_OPEN = 60  # with more tested claims than this the sections are folded
ESTIMANDS = {
    SLOPE: "slope per generation",
    LAST_MINUS_FIRST: "last minus first generation",
    LEVEL: "mean over generations",
    SCATTER: "scatter around a line over generations",
}


def equation_6(view: ReportView) -> dict[str, list[dict[str, Any]]]:
    """One row per case, all on one scale: ``main`` where the question is put, ``controls``."""
    ends = (e for v in view.verdicts for e in (v.ratio, v.ratio_low, v.ratio_high))
    known = [e for e in ends if not math.isnan(e)]
    axis = Axis(max(0.0, min([*known, 0.9]) - 0.05), min(4.0, max([*known, 1.1]) + 0.05))
    titles, asked = groups.titles(view.scenarios), answer.of_treatment(view)
    rows = [(v, _row(v, axis, titles.get(v.scenario, v.scenario))) for v in view.verdicts]
    return {
        "main": [row for v, row in rows if v in asked],
        "controls": [row for v, row in rows if v not in asked],
    }


def _row(verdict: Verdict, axis: Axis, title: str) -> dict[str, Any]:
    return {
        "scenario": title,
        "of": verdict,
        "a": numbers.number(verdict.a),
        "interval": numbers.interval(verdict.low, verdict.high),
        "ratio": numbers.number(verdict.ratio) if verdict.ratio == verdict.ratio else "–",
        "ratio_interval": numbers.interval(verdict.ratio_low, verdict.ratio_high),
        "kind": answer.verdict_kind(verdict.text),
        "mark": axis.mark(verdict.ratio, verdict.ratio_low, verdict.ratio_high),
        "one": axis.x(1.0),
    }


def of_cues(view: ReportView) -> bool:
    """Whether an A of eq. 6 is about reliance on spurious cues and not about subgroups."""
    cued = {s.name for s in view.scenarios if traits_of(s.dataset).masks}
    return any(v.scenario in cued and not math.isnan(v.a) for v in view.verdicts)


def readings(found: Sequence[ReadingRow]) -> dict[str, Any]:
    """Other readings: per definition how many verdicts change; ``changed`` and ``same`` rows."""
    per: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
    for row in found:
        per[row.definition, row.used, row.other].append(row.changes)
    return {
        "definitions": [(*key, len(told), sum(told)) for key, told in per.items()],
        "changed": [row for row in found if row.changes],
        "same": [row for row in found if not row.changes],
    }


@dataclass(frozen=True)
class Section:
    """The tested claims of one section of the paper, judged together. together: how many."""

    title: str
    counts: list[tuple[str, int]]
    rows: list[dict[str, Any]]
    together: int
    open: bool


def sections(view: ReportView, titles: Mapping[str, str]) -> list[Section]:
    """The claims beside the primary ones, by section; titles: scenario group -> its title."""
    tested = [c for c in beside(view.claims) if c.verdict != NOT_TESTED]
    found: dict[str, list[Claim]] = defaultdict(list)
    for claim in tested:
        found[claim.section].append(claim)
    few = len(tested) <= ALL_OPEN
    return [_section(name, claims, titles, few) for name, claims in found.items()]


def untested(view: ReportView, titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """The claims beside the primary ones that this sweep cannot test, each with why."""
    lacking = (c for c in beside(view.claims) if c.verdict == NOT_TESTED)
    return [
        {"of": c, "section": _heading(c.section), "where": titles.get(c.scenario_group, "")}
        for c in lacking
    ]


def beside(claims: Iterable[Claim]) -> list[Claim]:
    """The paper's statements: all but the hypothesis about each setting, which is the answer."""
    return [claim for claim in claims if claim.id != HYPOTHESIS]


def _section(
    title: str, claims: Sequence[Claim], titles: Mapping[str, str], unfolded: bool
) -> Section:
    axes: dict[tuple[str, str], list[float]] = defaultdict(list)
    for c in claims:
        axes[c.metric, c.estimand] += [c.value, c.low, c.high, c.margin]
    rows = [row(c, around_zero(axes[c.metric, c.estimand]), titles) for c in claims]
    together = max(c.together for c in claims)
    return Section(_heading(title), answer.counts(claims), rows, together, unfolded)


def _heading(section: str) -> str:
    return f"Section {section}" if section[:1].isdigit() else section[:1].upper() + section[1:]


def row(claim: Claim, axis: Axis, titles: Mapping[str, str]) -> dict[str, Any]:
    """One claim as tables show it."""
    margin = 0.0 if math.isnan(claim.margin) else claim.margin
    return {
        "of": claim,
        "where": titles.get(claim.scenario_group, claim.scenario_group),
        "what": _what(claim),
        "value": numbers.signed(claim.value) if claim.value == claim.value else "–",
        "interval": numbers.small_interval(claim.low, claim.high),
        "kind": answer.verdict_kind(_with_reason(claim)),
        "mark": axis.mark(claim.value, claim.low, claim.high),
        "margin": (axis.x(-margin), axis.x(margin)),
        "level": numbers.small_interval(claim.level_low, claim.level_high),
        "rest": numbers.small_interval(claim.rest_low, claim.rest_high),
    }


def _what(claim: Claim) -> str:
    """``md, fine 3: last minus first generation, treatment minus no_synthetic``."""
    subject = f"{claim.metric}, {claim.subgroup}" if claim.subgroup else claim.metric
    estimand = ESTIMANDS.get(claim.estimand, claim.estimand.replace("_", " "))
    against = f", {TREATMENT.name} minus {claim.control}" if claim.control else ""
    return f"{subject}: {estimand}{against}"


def _with_reason(claim: Claim) -> str:
    whole = claim.verdict == UNDECIDED
    return f"{claim.verdict}: {claim.reason}" if whole else claim.verdict


def without_prediction(laws: Sequence[Law]) -> dict[str, Any]:
    """How many fits predict nothing, and why; empty where every one does."""
    found = [law for law in laws if law.held_out_error != law.held_out_error]
    why = "; ".join(dict.fromkeys(law.note for law in found if law.note))
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
