"""What stands beside the answer: primary statements, words, declaration, what `a_a` shows.

Arranges; decides nothing, and says nothing that a verdict does not.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any

from ray_selfloop.claims.noise import AS_EXPECTED, UNTESTED
from ray_selfloop.config.arms import TREATMENT
from ray_selfloop.config.datasets.known import traits_of
from ray_selfloop.inference.verdicts import EXPLORATORY, NOT_TESTED, UNDECIDED, WORDS
from ray_selfloop.report import answer, behind, numbers
from ray_selfloop.report.cells import around_zero
from ray_selfloop.report.groups import Group, groups
from ray_selfloop.report.series import Table
from ray_selfloop.report.verdicts import beside, row
from ray_selfloop.report.view import Claim, Declared, Null, ReadingRow, ReportView

Words = list[tuple[str, str]]
ONE_NUMBER = {2: "1 − MEO is MD", 3: "1 − MEO is 2/3 of MD"}  # of so many subgroups


def rows(view: ReportView, table: Table) -> list[dict[str, Any]]:
    """The hypothesis about every setting, primary ones first."""
    settings = {group.name: group for group in groups(view.scenarios)}
    titles = {name: group.title for name, group in settings.items()}
    found = answer.hypothesis(view.claims)
    axis = around_zero(e for c in found for e in (c.value, c.low, c.high, c.margin))
    return [
        row(claim, axis, titles) | {"lost": _lost(claim, settings.get(claim.scenario_group), table)}
        for claim in found
    ]


def _lost(claim: Claim, setting: Group | None, table: Table) -> str:
    """What the arms behind a claim lost to collapse."""
    compared = (TREATMENT.name, claim.control)
    arms = [s for s in setting.scenarios if s.arm in compared] if setting else []
    return claim.lost or behind.lost(table, arms)


def networks(view: ReportView, titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """The effect of each network behind the primary statements."""
    return [
        {
            "where": titles.get(claim.scenario_group, claim.scenario_group),
            "of": one,
            "value": numbers.signed(one.value),
            "interval": numbers.small_interval(one.low, one.high) or "–",
        }
        for claim in answer.hypothesis(view.claims)
        for one in claim.networks
        if not isnan(one.value)
    ]


# --- words ---------------------------------------------------------------------------------------


def defined(view: ReportView) -> dict[str, Words]:
    """Place of the page -> the verdict words that a reader meets there first, with what they mean.

    Places in the order of the page: ``answer``, ``counts``, ``primary``, ``claims``, ``readings``.
    """
    known: set[str] = set()
    found = {}
    for place, used in _used(view):
        new = (set(used) & set(WORDS)) - known
        found[place] = [(word, meaning) for word, meaning in WORDS.items() if word in new]
        known |= new
    return found


def _used(view: ReportView) -> Iterator[tuple[str, Iterable[str]]]:
    asked, others = answer.hypothesis(view.claims), beside(view.claims)
    yield "answer", of_answer(view)
    yield "counts", [c.verdict for c in others if c.verdict != NOT_TESTED]
    laws = [v.text.split(":")[0] for v in view.verdicts]
    yield "primary", [*_all_words(asked), *laws]
    yield "claims", _all_words(others)
    yield "readings", [w for r in readings(view) for w in (r.verdict_used, r.verdict_other)]


def of_answer(view: ReportView) -> list[str]:
    """The verdict words behind the answer; without a tested statement its first word, if any."""
    tested = [c for c in answer.hypothesis(view.claims) if c.verdict != NOT_TESTED]
    answering = [c for c in tested if c.primary] or tested
    lead = answer.answer(view).lead.lower()
    return [*(c.verdict for c in answering), *([lead] if lead == UNDECIDED else [])]


def _all_words(claims: Iterable[Claim]) -> list[str]:
    """A margin's half and double included."""
    return [word for c in claims for word in (c.verdict, c.half, c.twice)]


# --- counts, declaration, null -------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """The paper's statements beside the primary ones: verdicts, how many tested and not."""

    verdicts: list[tuple[str, int]]
    tested: int
    untested: int


def counts(view: ReportView) -> Counts:
    """Of the statements beside the primary ones, each once."""
    found = [(word, n) for word, n in answer.counts(beside(view.claims)) if word != NOT_TESTED]
    tested = sum(n for _, n in found)
    return Counts(found, tested, len(beside(view.claims)) - tested)


@dataclass(frozen=True)
class Frozen:
    """The declaration in words. late: whether nothing of the page was declared before the data."""

    text: str
    late: bool
    primary: tuple[str, ...]


def declaration(found: Declared | None) -> Frozen:
    """When what is judged was declared, and what follows where that was too late."""
    if found is None or not found.at:
        return Frozen(
            "What is judged here was never declared before the data: this storage holds no "
            f"declaration of it. So every statement of this page is {EXPLORATORY}.",
            True,
            found.primary if found else (),
        )
    when = f"Declared {found.at}"
    if found.before:
        rest = "before the first classifier of generation 1 was trained"
        more = f"; {found.others} other declarations lie beside it" if found.others else ""
        return Frozen(f"{when}, {rest}; hash {found.hash}{more}", False, found.primary)
    return Frozen(
        f"{when}, after the first classifier of generation 1 had begun to train; hash "
        f"{found.hash}. Statements, margins or settings were chosen, or changed, when data could "
        "already be seen: "
        f"so every statement of this page is {EXPLORATORY}.",
        True,
        found.primary,
    )


def readings(view: ReportView) -> tuple[ReadingRow, ...]:
    """What other readings change: none where nothing has a verdict, declared too late."""
    return () if declaration(view.declared).late else view.readings


@dataclass(frozen=True)
class Nothing:
    """What the arm `a_a` shows. rows: one per change. wrong: whether any is not as it must be."""

    text: str
    wrong: bool
    rows: list[dict[str, Any]]


def nothing(view: ReportView, titles: Mapping[str, str]) -> Nothing | None:
    """In words and as a table; None without the arm."""
    if not view.null:
        return None
    tested = [n for n in view.null if n.verdict != UNTESTED]
    fine = sum(n.verdict == AS_EXPECTED for n in tested)
    rows = [_null(n, titles.get(n.scenario_group, n.scenario_group)) for n in view.null]
    return Nothing(_of_nothing(fine, len(tested)), fine < len(tested), rows)


def _of_nothing(fine: int, tested: int) -> str:
    what = "In the arm a_a nothing but seeds changes from generation to generation, so that every"
    if not tested:
        return f"{what} true change is 0; with one chain none of its changes can be tested."
    if fine == tested:
        return f"{what} true change is 0: {fine} of {tested} changes look like no effect."
    return (
        f"{what} true change is 0, but only {fine} of {tested} changes look like no effect: "
        f"{tested - fine} intervals exclude it. Do not believe the intervals of this page."
    )


def _null(found: Null, where: str) -> dict[str, Any]:
    return {
        "where": where,
        "of": found,
        "value": numbers.signed(found.value),
        "interval": numbers.small_interval(found.low, found.high) or "–",
        "kind": "untested" if found.verdict in (AS_EXPECTED, UNTESTED) else "contradicted",
    }


def one_number(view: ReportView) -> str:
    """Where MEO and MD are one number, in one sentence; "" where nowhere."""
    counts = {traits_of(s.dataset).title or s.title: len(s.subgroup_names)
              for s in view.scenarios}  # fmt: skip
    parts = [
        f"with the {n} subgroups of {' and '.join(d for d, k in counts.items() if k == n)} {what}"
        for n, what in ONE_NUMBER.items()
        if n in counts.values()
    ]
    told = "; ".join(parts)
    return f"{told[:1].upper()}{told[1:]}: one number, shown twice and tested once." if told else ""
