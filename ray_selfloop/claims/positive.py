"""The positive control: an arm in which bias grows by design, as a check of a whole sweep.

A sweep that does not see it may miss anything: what it finds on that setting is no evidence, in
either direction. It is a check and no statement: one interval at `evaluation.level`, judged with
nothing else, and without a word on the treatment. Which arms there are stands in `config.arms`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isnan

from ray_selfloop.claims.cases import Case, Group, hypothesis_about
from ray_selfloop.claims.measured import Sweep
from ray_selfloop.claims.paired import CONTROL
from ray_selfloop.config.arms import POSITIVE
from ray_selfloop.evaluation.metrics import ACCURACY
from ray_selfloop.inference.chains import Effect
from ray_selfloop.inference.verdicts import UP, beyond

SEEN, UNSEEN, UNTESTED = "seen", "not seen", "not tested"


@dataclass(frozen=True)
class Positive:
    """The positive control of a setting: of its arm minus the control what the primary statement is
    about, in the metric's unit. verdict: `SEEN`, `UNSEEN`, or that it is not tested, and why."""

    scenario_group: str
    arm: str
    metric: str
    value: float
    low: float
    high: float
    chains: int
    verdict: str


def cases(groups: Sequence[Group], metric: str) -> Iterator[Case]:
    """The hypothesis about each positive control, in the place of its setting's treatment."""
    for group in groups:
        for arm in POSITIVE:
            if arm.name in group.arms:
                case = hypothesis_about(group, groups, metric)
                if not case.lacks:
                    yield replace(case, arms=(arm.name, CONTROL))


def positive(sweep: Sweep, groups: Sequence[Group]) -> Iterator[Positive]:
    """A row for each positive control of these groups."""
    for case in cases(groups, sweep.settings.claims.primary):
        key, factor = sweep.key(case)
        if not all(sweep.has(who, key) for one in case.members for who in one.everyone):
            continue  # nothing of this setting is published
        found = sweep.effect(case, case.members, key, factor)
        ends = found.value, found.low, found.high, found.chains
        yield Positive(case.group, case.arms[0], case.metric, *ends, _verdict(sweep, case, found))


def _verdict(sweep: Sweep, case: Case, found: Effect) -> str:
    if found.chains < 2:
        return f"{UNTESTED}: {'one chain' if found.chains else 'no chain has all generations'}"
    lost, uneven = sweep.lost(case)
    if uneven and case.metric != ACCURACY.name:
        return f"{UNTESTED}: the arms lost different trials ({lost})"
    side = 1 if case.statement.direction == UP else -1
    p = beyond(found, 0.0, side)
    return SEEN if not isnan(p) and p <= 1 - sweep.settings.level else UNSEEN


def unseen(sweep: Sweep, case: Case) -> str:
    """Why a statement about bias is not to be believed: a positive control of its settings was not
    seen; "" where it is, or where there is none."""
    if case.metric == ACCURACY.name and not case.primary:
        return ""
    names = {who[0] for member in case.members for who in member.everyone}
    found = positive(sweep, [group for group in sweep.groups if group.name in names])
    return next((f"the positive control was {one.verdict}" for one in found
                 if one.verdict != SEEN), "")  # fmt: skip
