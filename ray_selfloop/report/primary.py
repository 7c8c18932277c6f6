"""What stands beside the answer: primary statements, words, declaration, what `a_a` shows.

Arranges; decides nothing, and says nothing that a verdict does not.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isnan

from ray_selfloop.claims.noise import AS_EXPECTED, UNTESTED
from ray_selfloop.config.arms import TREATMENT
from ray_selfloop.config.datasets.known import traits_of
from ray_selfloop.inference import verdicts as words
from ray_selfloop.report import answer, behind
from ray_selfloop.report.cells import Axis, around_zero
from ray_selfloop.report.groups import groups
from ray_selfloop.report.series import Table
from ray_selfloop.report.verdicts import beside
from ray_selfloop.report.view import (
    Claim,
    Declared,
    Look,
    Network,
    Positive,
    ReadingRow,
    ReportView,
    ScenarioView,
)

Words = list[tuple[str, str]]
ONE_NUMBER = {2: "1 − MEO is MD", 3: "1 − MEO is 2/3 of MD"}  # of so many subgroups


def rows(view: ReportView, table: Table) -> list[tuple[Claim, Axis, str]]:
    """The hypothesis about every setting, primary ones first; its scale, what collapsed."""
    settings = {group.name: group.scenarios for group in groups(view.scenarios)}
    found = answer.hypothesis(view.claims)
    axis = around_zero(e for c in found for e in (c.value, c.low, c.high, c.margin))
    return [(c, axis, _lost(c, settings.get(c.scenario_group, ()), table)) for c in found]


def _lost(claim: Claim, setting: Sequence[ScenarioView], table: Table) -> str:
    """What the arms behind a claim lost to collapse."""
    arms = [s for s in setting if s.arm in (TREATMENT.name, claim.control)]
    return claim.lost or behind.lost(table, arms)


def networks(view: ReportView) -> list[tuple[str, Network]]:
    """The setting and the effect of each network behind the primary statements."""
    asked = answer.hypothesis(view.claims)
    return [(c.scenario_group, n) for c in asked for n in c.networks if not isnan(n.value)]


def looks(view: ReportView) -> list[tuple[str, Claim, Look]]:
    """The setting, the primary statement and each of its looks."""
    asked = answer.hypothesis(view.claims)
    return [(c.scenario_group, c, look) for c in asked for look in c.looks]


def positive(view: ReportView) -> list[tuple[Positive, Axis]]:
    """Each positive control, on one scale."""
    axis = around_zero(e for p in view.positive for e in (p.value, p.low, p.high))
    return [(one, axis) for one in view.positive]


# --- words ---------------------------------------------------------------------------------------


def defined(view: ReportView) -> dict[str, Words]:
    """Place of the page -> the verdict words that a reader meets there first, with what they mean.

    Places in the order of the page: ``answer``, ``counts``, ``primary``, ``claims``, ``readings``.
    """
    known: set[str] = set()
    found = {}
    for place, used in _used(view):
        new = (set(used) & set(words.WORDS)) - known
        found[place] = [(word, meaning) for word, meaning in words.WORDS.items() if word in new]
        known |= new
    return found


def _used(view: ReportView) -> Iterator[tuple[str, Iterable[str]]]:
    asked, others = answer.hypothesis(view.claims), beside(view.claims)
    yield "answer", of_answer(view)
    shown = others if of_the_paper(view) else []
    yield "counts", [c.verdict for c in shown if c.verdict != words.NOT_TESTED]
    laws = [v.text.split(":")[0] for v in view.verdicts]
    yield "primary", [*_all_words(asked), *laws]
    yield "claims", _all_words(others)
    yield "readings", [w for r in readings(view) for w in (r.verdict_used, r.verdict_other)]


def of_answer(view: ReportView) -> list[str]:
    """The verdict words behind the answer; without a tested statement its first word, if any."""
    tested = [c for c in answer.hypothesis(view.claims) if c.verdict != words.NOT_TESTED]
    answering = [c for c in tested if c.primary] or tested
    lead = answer.answer(view).lead.lower()
    return [*(c.verdict for c in answering), *([lead] if lead == words.UNDECIDED else [])]


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


def of_the_paper(view: ReportView) -> bool:
    """Whether any of its data are the paper's: else nobody asked what the paper says of its own."""
    return not view.scenarios or any(scenario.of_the_paper for scenario in view.scenarios)


def counts(view: ReportView) -> Counts:
    """Of the statements beside the primary ones, each once."""
    found = [
        (word, n) for word, n in answer.counts(beside(view.claims)) if word != words.NOT_TESTED
    ]
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
    if found and found.of_table:
        return Frozen("The numbers of this table were there before it was judged.", True, ())
    if found is None or not found.at:
        return Frozen(
            "What is judged here was never declared before the data: this storage holds no "
            f"declaration of it. So every statement of this page is {words.EXPLORATORY}.",
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
        f"so every statement of this page is {words.EXPLORATORY}.",
        True,
        found.primary,
    )


def readings(view: ReportView) -> tuple[ReadingRow, ...]:
    """What other readings change: none where nothing has a verdict, declared too late."""
    return () if declaration(view.declared).late else view.readings


@dataclass(frozen=True)
class Nothing:
    """What the arm `a_a` shows. wrong: whether any change is not as it must be."""

    text: str
    wrong: bool


def nothing(view: ReportView) -> Nothing | None:
    """In words; None without the arm."""
    if not view.null:
        return None
    tested = [n for n in view.null if n.verdict != UNTESTED]
    fine = sum(n.verdict == AS_EXPECTED for n in tested)
    return Nothing(_of_nothing(fine, len(tested)), fine < len(tested))


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
