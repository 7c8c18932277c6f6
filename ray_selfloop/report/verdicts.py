"""The tables of verdicts: eq. 6, laws, claims, decomposition. Arranges; decides nothing."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray_selfloop.report import answer, groups, numbers
from ray_selfloop.report.cells import Axis, around_zero
from ray_selfloop.report.view import Claim, Law, Part, ReadingRow, ReportView, Verdict

ALL_OPEN = 60  # with more claims than this only the hypothesis' section is unfolded
ESTIMANDS = {"slope": "slope per generation", "last_minus_first": "last minus first generation"}


def equation_6(view: ReportView) -> dict[str, list[dict[str, Any]]]:
    """One row per verdict, all on one scale: ``main`` where the question is put, ``controls``."""
    ends = [e for v in view.verdicts for e in (v.low, v.high, v.a) if not math.isnan(e)]
    axis = Axis(max(0.0, min([*ends, 0.9]) - 0.05), min(4.0, max([*ends, 1.1]) + 0.05))
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
        "kind": answer.verdict_kind(verdict.text),
        "mark": axis.mark(verdict.a, verdict.low, verdict.high),
        "one": axis.x(1.0),
    }


def of_cues(view: ReportView) -> bool:
    """Whether an A of eq. 6 is about reliance on spurious cues and not about subgroups."""
    cued = {s.name for s in view.scenarios if s.dataset == "hard_imagenet"}
    return any(v.scenario in cued and not math.isnan(v.a) for v in view.verdicts)


def hypothesis(view: ReportView, titles: Mapping[str, str]) -> dict[str, Any]:
    """The hypothesis' claims: rows = setting and classifier, columns = metric and estimand.

    Settings without subgroups have no row.
    """
    found = answer.asked(view)
    columns = list(dict.fromkeys((c.metric, c.estimand) for c in found))
    rows: dict[tuple[str, str], dict[tuple[str, str], Claim]] = defaultdict(dict)
    for c in found:
        rows[titles.get(c.scenario_group, c.scenario_group), c.classifier][c.metric, c.estimand] = c
    return {
        "columns": [(metric, ESTIMANDS.get(what, what)) for metric, what in columns],
        "rows": [
            {
                "where": where or "any",
                "classifier": classifier or "all",
                "cells": [_judged(of.get(column)) for column in columns],
            }
            for (where, classifier), of in rows.items()
        ],
    }


def _judged(claim: Claim | None) -> dict[str, Any] | None:
    kind = answer.verdict_kind(_with_reason(claim)) if claim else ""
    return {"of": claim, "kind": kind} if claim else None


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
    """The claims of one section of the paper. rows: tested, with their family; untested: folded."""

    title: str
    counts: list[tuple[str, int]]
    rows: list[dict[str, Any]]
    untested: list[dict[str, Any]]
    open: bool


def sections(view: ReportView, titles: Mapping[str, str]) -> list[Section]:
    """Claims by section, the hypothesis first; titles: scenario group -> its title."""
    first = answer.hypothesis(view.claims)
    found: dict[str, list[Claim]] = defaultdict(list)
    for claim in [*first, *(c for c in view.claims if c not in first)]:
        found[claim.section].append(claim)
    few = len(view.claims) <= ALL_OPEN
    own = {claim.section for claim in first}
    return [
        _section(section, claims, titles, few or section in own)
        for section, claims in found.items()
    ]


def _section(
    title: str, claims: Sequence[Claim], titles: Mapping[str, str], unfolded: bool
) -> Section:
    axes: dict[tuple[str, str], list[float]] = defaultdict(list)
    for c in claims:
        axes[c.metric, c.estimand] += [c.value, c.low, c.high, c.margin]
    rows = [
        _claim(c, around_zero(axes[c.metric, c.estimand]), titles)
        for c in sorted(claims, key=_family([c.family for c in claims]))
    ]
    tested = [row for row in rows if row["kind"] != "untested"]
    untested = [row for row in rows if row["kind"] == "untested"]
    heading = f"Section {title}" if title[:1].isdigit() else title[:1].upper() + title[1:]
    return Section(heading, answer.counts(claims), tested, untested, unfolded and bool(tested))


def _family(order: Sequence[str]) -> Any:
    rank = {family: i for i, family in reversed(list(enumerate(order)))}
    return lambda claim: rank[claim.family]


def _claim(claim: Claim, axis: Axis, titles: Mapping[str, str]) -> dict[str, Any]:
    place = titles.get(claim.scenario_group, claim.scenario_group)
    margin = 0.0 if math.isnan(claim.margin) else claim.margin
    subject = f"{claim.metric}, {claim.subgroup}" if claim.subgroup else claim.metric
    what = ESTIMANDS.get(claim.estimand, claim.estimand)
    return {
        "of": claim,
        "where": place,
        "what": f"{subject}: {what}, minus {claim.control}" if claim.control else what,
        "value": numbers.signed(claim.value),
        "interval": numbers.small_interval(claim.low, claim.high),
        "kind": answer.verdict_kind(_with_reason(claim)),
        "mark": axis.mark(claim.value, claim.low, claim.high),
        "margin": (axis.x(-margin), axis.x(margin)),
    }


def _with_reason(claim: Claim) -> str:
    whole = claim.verdict == answer.UNDECIDED
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
