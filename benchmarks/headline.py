"""What the page's first sentence says in worlds whose truth is known, and how often it is false.

    python benchmarks/headline.py [--studies 200] [--chains 3 8] [--world NAME ...]

Every study is a sweep of `ray_selfloop.simulator` (crossed digits, 10 x 3 x 200, 3 generations),
judged by `dynamics.claims` and by eq. 6, and worded by `report.answer` as the page words it.
Without a control the sentence must be 'Undecided: no control' always. A sentence is false where its
verdict says of MD, or of A, what is not so: that bias grew or shrank where it did not, or did so by
accuracy alone; that it did not grow by the margin where it did. Must be at most 5 % in every world.
"""

import argparse
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ray_selfloop.claims.paired import Arm
from ray_selfloop.claims.verdicts import claims
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.equation6.bias import Labels, bias_series, not_converged
from ray_selfloop.equation6.fit import fit
from ray_selfloop.evaluation.rows import Rows, Where
from ray_selfloop.report.answer import Answer, answer
from ray_selfloop.report.view import ReportView, ScenarioView, Verdict
from ray_selfloop.simulator import Layout, Step, World

GENERATIONS, MARGIN = 3, 0.02
BASE = World(Layout.crossed_digits(200), level=3.0, gap=(0.5, -0.1, -0.4), chain=0.1, seed=0.1,
             slope=0.03, common=0.05, wobble=0.03,

             about={"dataset": "colorized_digits"})  # fmt: skip
GREW, SHRANK, SMALL, BY_ACCURACY = "grew", "shrank", "small", "by accuracy"
LEADS = {"Yes": GREW, "As accuracy explains": BY_ACCURACY, f"Not by {MARGIN:.3f}": SMALL}


@dataclass(frozen=True)
class Known:
    """A world with its truth. step: what the treatment does; true: the words that are true of it;
    networks: how many there are. poor: from which generation on the generator is poor, 0 never.
    checked: what happens in the positive control, None where there is none."""

    step: Step
    true: tuple[str, ...]
    networks: int = 2
    poor: int = 0
    checked: Step | None = None


def growth(size: float) -> float:
    """True change of pooled MD by generation N where each generation adds ``size`` of the gap."""
    start, end = (BASE.rates(BASE.moved(Step(gap=size), t)).mean(axis=0) for t in (0, GENERATIONS))
    return float(np.ptp(end) - np.ptp(start))


def gap_for(change: float) -> float:
    """The share of the gap per generation that makes MD change so."""
    low, high = -0.33, 2.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if growth(middle) < change else (low, middle)
    return high


def _lost() -> np.ndarray:
    lost = np.zeros(BASE.shape, bool)
    lost[:5, 2] = True
    return lost


WORLDS: dict[str, Callable[[], Known]] = {
    "nothing happens": lambda: Known(Step(), (SMALL,)),
    "accuracy falls, all logits alike": lambda: Known(Step(level=-0.35), (BY_ACCURACY,)),
    "bias grows by twice the margin": lambda: Known(Step(gap=gap_for(2 * MARGIN)), (GREW,)),
    "bias shrinks": lambda: Known(Step(gap=gap_for(-MARGIN)), (SHRANK, SMALL)),
    "one network grows, four do not": lambda: Known(
        Step(gap=gap_for(3 * MARGIN), networks=("n0",)), (GREW, SMALL), networks=5
    ),
    "two chains collapse in the treatment": lambda: Known(
        Step(collapse=(0, 1)), (SMALL,)
    ),
    "a subgroup is lost in half of the classes": lambda: Known(Step(lost=_lost()), (GREW,)),
    "the generator decays after generation 1": lambda: Known(
        Step(level=-0.2, gap=0.3, after=1), (GREW,), poor=2
    ),
    "nothing happens, as the positive control shows": lambda: Known(
        Step(), (SMALL,), checked=Step(gap=gap_for(3 * MARGIN))
    ),
    "nothing happens, to the positive control neither": lambda: Known(Step(), (), checked=Step()),
    "bias grows, the positive control is blind": lambda: Known(
        Step(gap=gap_for(2 * MARGIN)), (), checked=Step()
    ),
}  # fmt: skip


def wrong(found: Answer, known: Known) -> bool:
    """Whether a sentence says what is not so: of MD, or of A against the control's."""
    law = re.search(r"A above that of the control in (\d+) and below it in (\d+)", found.rest)
    above, below = (int(n) for n in law.groups()) if law else (0, 0)
    of_law = (above and GREW not in known.true) or (below and SHRANK not in known.true)
    return bool(of_law) or (bool(said(found)) and said(found) not in known.true)


def said(found: Answer) -> str:
    """The word that a headline says of MD, "" where it says none."""
    if found.lead in LEADS:
        return LEADS[found.lead]
    if found.lead == "No":
        return SHRANK
    return ""


def laws_of(arms: Sequence[Arm], settings: Evaluation) -> tuple[Verdict, ...]:
    """Eq. 6's verdicts."""
    series = [
        one
        for arm in arms
        if arm.test is not None
        for one in bias_series(arm.scenario, list(arm.outcomes), arm.test, settings)
    ]
    labels = Labels(
        arms={a.scenario: a.arm for a in arms}, groups={a.scenario: a.group for a in arms}
    )
    return tuple(verdict.row for verdict in fit(series, {}, settings, labels).verdicts)


def view_of(arms: Sequence[Arm], settings: Evaluation) -> ReportView:
    """The view of one sweep, as far as the answer reads it."""
    found = claims(arms, settings)
    return ReportView(
        name="s", question="", results=pd.DataFrame(), stages=(), failures=(), warnings=(),
        scenarios=tuple(
            ScenarioView(a.scenario, a.scenario, {}, (), (), a.classifiers, (), group=a.group,
                         arm=a.arm, dataset=a.dataset)
            for a in arms
        ),
        verdicts=laws_of(arms, settings),
        config_yaml="", finished="", version="", level=settings.level,
        claims=found.claims, positive=found.positive,
    )  # fmt: skip


def fidelity(known: Known) -> pd.DataFrame:
    """The generator's label fidelity by generation, and the judge's accuracy: a sweep's rows."""
    rows = Rows("s", "generated")
    for t in range(1, GENERATIONS + 1):
        good = not known.poor or t < known.poor
        rows.add("label_fidelity", [0.93 if good else 0.4], Where(0, t))
        rows.add("judge_accuracy", [0.95], Where(0, t))
    return rows.frame()


def study(known: Known, chains: int, control: bool, seed: int) -> Answer:
    """One sweep's first sentence."""
    networks = tuple(f"n{i}" for i in range(known.networks))
    steps = {"treatment": known.step} | ({"no_synthetic": Step()} if control else {})
    steps |= {"majority_kept": known.checked} if known.checked else {}
    arms = BASE.arms(steps, chains, GENERATIONS, networks, seed=[seed, chains], images=seed)
    poor = not_converged(fidelity(known), "s", 0.8)
    arms = [replace(arm, not_converged=poor * (arm.arm == "treatment")) for arm in arms]
    settings = Evaluation(resamples=60, permutations=20, seed=seed)
    return answer(view_of(arms, settings))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--chains", type=int, nargs="+", default=[3, 8])
    parser.add_argument("--world", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    parser.add_argument("--first", type=int, default=0, help="seed of the first study")
    options = parser.parse_args()
    for name in options.world:
        known = WORLDS[name]()
        for control in (True, False):
            for chains in options.chains if control else options.chains[:1]:
                begun, words, false = time.monotonic(), Counter[str](), 0
                for seed in range(options.first, options.first + options.studies):
                    found = study(
                        known, max(chains, 5) if known.step.collapse else chains, control, seed
                    )
                    words[f"{found.lead}: {found.rest.split(' (')[0].split(';')[0]}"] += 1
                    false += wrong(found, known)
                rate = false / options.studies
                error = max((rate * (1 - rate) / options.studies) ** 0.5, 0.5 / options.studies)
                told = "with control" if control else "no control"
                print(f"\n{name}; {told}, {chains} chains: false {rate:.3f} +- {error:.3f} "
                      f"({time.monotonic() - begun:.0f} s)")  # fmt: skip
                for sentence, n in words.most_common():
                    print(f"   {n / options.studies:.3f}  {sentence}")


if __name__ == "__main__":
    main()
