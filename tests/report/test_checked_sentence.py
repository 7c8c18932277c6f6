"""The first sentence of simulated sweeps whose positive control is seen, not seen, or absent."""

import pandas as pd
import pytest

from ray_selfloop.claims.verdicts import claims
from ray_selfloop.config.arms import CONTROL, MAJORITY_KEPT, TREATMENT
from ray_selfloop.config.claims import Claims
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.report import answer
from ray_selfloop.report.answer import Answer
from ray_selfloop.report.view import ReportView, ScenarioView
from ray_selfloop.simulator import Layout, Step, World

WORLD = World(
    Layout.crossed_digits(100), level=2.5, gap=(0.6, -0.1, -0.5), about={"dataset": "other: own"}
)
SETTINGS = Evaluation(resamples=60, permutations=20, claims=Claims(gap_margin=0.05))
NOTHING, GROWTH = Step(), Step(gap=0.6)
DENIES = ("excluded", "grew", "shrank", "not decided", "would have been found")


def sentence(checked: Step | None, treatment: Step = NOTHING, chains: int = 5) -> Answer:
    steps = {TREATMENT.name: treatment, CONTROL.name: NOTHING}
    if checked is not None:
        steps[MAJORITY_KEPT.name] = checked
    arms = WORLD.arms(steps, chains, 2, ("n0", "n1"), seed=3)
    found = claims(arms, SETTINGS)
    scenarios = tuple(
        ScenarioView(a.scenario, a.scenario, {}, (), (), a.classifiers, (), group=a.group,
                     arm=a.arm, dataset="colorized_digits")
        for a in arms
    )  # fmt: skip
    view = ReportView(
        name="s", question="", results=pd.DataFrame(), stages=(), failures=(), warnings=(),
        scenarios=scenarios, verdicts=(), config_yaml="", finished="", version="", level=0.95,
        claims=found.claims, positive=found.positive,
    )  # fmt: skip
    return answer.answer(view)


@pytest.mark.parametrize(
    ("treatment", "lead", "happened"),
    [
        (NOTHING, "Not by 0.050", "that bias grew by 0.050 or more is excluded (MD "),
        (GROWTH, "Yes", "bias grew (MD +"),
        (Step(gap=-0.5), "No", "bias shrank (MD -"),
    ],
)
def test_it_says_what_happened_that_the_control_was_seen_and_what_would_have_been(
    treatment: Step, lead: str, happened: str
) -> None:
    found = sentence(GROWTH, treatment)
    assert found.lead == lead
    happening, checked, size = found.rest.split("; ")
    assert happening.startswith(happened)
    assert "mean over 2 networks, 5 chains, 40 trials" in happening
    begin = "the positive control was seen (kept sets of each class's majority alone: MD +"
    assert checked.startswith(begin)
    assert size.startswith("a change of 0.0")
    assert size.endswith(" would have been found in 4 of 5 repetitions")


@pytest.mark.parametrize("treatment", [NOTHING, GROWTH, Step(gap=-0.5)])
def test_a_sweep_that_misses_it_is_not_to_be_believed_whatever_it_found(treatment: Step) -> None:
    found = sentence(NOTHING, treatment)
    assert found.text.startswith("Not to be believed: the positive control was not seen (kept sets")
    assert found.text.endswith("so that nothing is said of what the loop did to bias, either way.")
    assert not any(word in found.text for word in DENIES)


def test_without_one_nothing_is_said_of_it() -> None:
    found = sentence(None)
    assert found.lead == "Not by 0.050"
    assert "positive control" not in found.text


def test_one_chain_is_no_evidence_that_it_was_missed() -> None:
    found = sentence(GROWTH, chains=1)
    assert found.lead == "Undecided"
    assert "the positive control was not tested: one chain" in found.text
