"""Whether a sweep with `decide` goes on to its next look, and what is said of it.

Decides no verdict: it reads those that were reached, and predicts what more chains cost.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray_selfloop.planning import Plan, learned, prepare
from ray_selfloop.stages import claims

if TYPE_CHECKING:
    from ray_selfloop.running import Run


def further(run: "Run", words: Sequence[str], say: Callable[[str], object]) -> Plan | None:
    """The plan of the next look; None where the sweep ends, and why is said.

    words: the command line.
    """
    plan = run.plan
    decide, chains = plan.sweep.decide, len(plan.sweep.loop.loop_seeds)
    if decide is None or plan.corrupt:
        return None
    if run.progress.failed:
        say(f"look at {chains} chains: stages failed; no chain is added before they are mended")
        return None
    if not run.declared_before:
        say(f"look at {chains} chains: not declared before its data; no chain is added")
        return None
    primary = _primary(plan)
    open_ones = [*_open(primary)]
    if not open_ones:
        all_of_them = primary and all(row["decided"] for row in primary)
        what = "all primary statements are decided" if all_of_them else "more would decide nothing"
        say(f"look at {chains} chains: {what}")
        return None
    said = f"look at {chains} chains: undecided: {'; '.join(open_ones)}"
    look = decide.looks.index(chains) + 1
    if look == len(decide.looks):
        say(f"{said}; it was the last look")
        return None
    found = prepare(words, look=look)
    hours, more = _hours(found)
    count = decide.looks[look] - chains
    cost = f"{count} more chain{'s take' if count > 1 else ' takes'} about {more:.3g} core-hours"
    if decide.hours is not None and more > 0 and hours + more > decide.hours:
        say(
            f"{said}; {cost}, and decide.hours={decide.hours:g} are spent with the {hours:.3g} so "
            f"far; decide.hours={1.1 * (hours + more):.3g} goes on"
        )
        return None
    say(f"{said}; {cost}: going on")
    return found


def _open(primary: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The settings whose primary statement more chains may decide, with its interval."""
    for row in primary:
        if not row["decided"] and row["looks"] and row["looks"][-1]["open"]:
            ends = ", ".join(f"{row['looks'][-1][end]:+.4f}" for end in ("low", "high"))
            yield f"{row['scenario_group']}: {row['metric']} {row['value']:+.4f} [{ends}]"


def _primary(plan: Plan) -> list[dict[str, Any]]:
    """The primary statements as judged at this look."""
    keys = [node.stage.key for node in plan.graph.of_kind(claims.KIND.name)]
    found = [plan.records[key].summary["claims"] for key in keys if key in plan.records]
    return [row for rows in found for row in rows if row["primary"]]


def _hours(plan: Plan) -> tuple[float, float]:
    """Core-hours behind what is published of a plan, and what is missing takes."""
    costs = learned(plan)
    of = {True: 0.0, False: 0.0}
    for node in plan.graph:
        of[node.stage.key in plan.records] += costs.core_seconds(node)
    return of[True] / 3600, of[False] / 3600
