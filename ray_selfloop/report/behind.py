"""How many chains and trials stand behind a mean, and how many were lost to collapse. Reads alone.

Collapsed trials stay in every mean of accuracy and are left out of every other one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan

from ray_selfloop.evaluation.metrics import CHAINS, TRIALS, TRIALS_ACCURACY
from ray_selfloop.report.series import Table
from ray_selfloop.report.view import ScenarioView

NOT_COUNTED = "–"


@dataclass(frozen=True)
class Behind:
    """Of one generation: chains and sound trials behind a mean of fairness; trials: all of them."""

    chains: int
    sound: int
    trials: int

    @property
    def lost(self) -> int:
        return self.trials - self.sound

    @property
    def text(self) -> str:
        """``3 · 4, 2 lost``: chains, trials, lost to collapse."""
        return f"{self.chains} · {self.sound}{f', {self.lost} lost' if self.lost else ''}"


def at(table: Table, scenario: str, classifier: str, generation: int) -> Behind | None:
    """Behind one classifier's means of a generation; None where the table does not say."""
    counts = (CHAINS, TRIALS, TRIALS_ACCURACY)
    found = [table.mean(scenario, classifier, one.name).at(generation)[0] for one in counts]
    if any(map(isnan, found)):
        return None
    return Behind(*(round(n) for n in found))


def cell(table: Table, scenario: str, classifier: str, generation: int) -> str:
    """As `Behind.text`; an en dash where the table does not say."""
    found = at(table, scenario, classifier, generation)
    return found.text if found else NOT_COUNTED


def sentence(table: Table, scenario: ScenarioView) -> str:
    """What stands behind each mean of a scenario; "" where the table does not say."""
    asked = ((name, n) for name in scenario.classifiers for n in table.generations)
    told = (at(table, scenario.name, name, n) for name, n in asked)
    found = [one for one in told if one]
    if not found:
        return ""
    chains, trials = _range((b.chains for b in found), "chain"), [b.trials for b in found]
    lost, of = sum(b.lost for b in found), sum(trials)
    if not lost:
        return f"Behind each mean: {chains}, {_range(trials, 'trial')}, none lost to collapse."
    sound = _range((b.sound for b in found), "trial")
    return (
        f"Behind each mean of accuracy: {_range(trials, 'trial')}; behind any other mean: "
        f"{chains}, {sound}, since {lost} of {of} trials are lost to collapse."
    )


def lost(table: Table, scenarios: Iterable[ScenarioView]) -> str:
    """Trials after generation 0 that each arm lost to collapse; "" where the table does not say."""
    by_arm: dict[str, list[Behind]] = {}
    for scenario in scenarios:
        asked = ((c, n) for c in scenario.classifiers for n in table.generations if n)
        each = (at(table, scenario.name, name, n) for name, n in asked)
        by_arm[scenario.arm] = [one for one in each if one]
    if not all(by_arm.values()):
        return ""
    told = {arm: (sum(b.lost for b in of), sum(b.trials for b in of)) for arm, of in by_arm.items()}
    if not any(n for n, _ in told.values()):
        return "none lost to collapse"
    parts = ", ".join(f"{arm} {n} of {of}" for arm, (n, of) in told.items())
    return f"lost to collapse: {parts}"


def _range(counts: Iterable[int], what: str) -> str:
    """``3 chains``, ``1 trial``, ``4 to 6 trials``."""
    found = sorted(set(counts))
    number = " to ".join(dict.fromkeys((str(found[0]), str(found[-1]))))
    return f"{number} {what}{'' if number == '1' else 's'}"
