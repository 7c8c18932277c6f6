"""The positive control in worlds whose truth is known: seen, not seen, absent."""

from dataclasses import replace

import pytest

from ray_selfloop.claims import positive
from ray_selfloop.claims.cases import groups_of
from ray_selfloop.claims.measured import Looks
from ray_selfloop.claims.verdicts import Result, claims
from ray_selfloop.config.arms import CONTROL, MAJORITY_KEPT, TREATMENT
from ray_selfloop.config.claims import Claims
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.inference.verdicts import RULED_OUT, SUPPORTED, UNDECIDED
from ray_selfloop.simulator import Layout, Step, World

WORLD = World(
    Layout.crossed_digits(100), level=2.5, gap=(0.6, -0.1, -0.5), about={"dataset": "other: own"}
)
SETTINGS = Evaluation(resamples=60, permutations=20, claims=Claims(gap_margin=0.05))
NOTHING, GROWTH = Step(), Step(gap=0.6)


def arms(checked: Step | None, treatment: Step = NOTHING, chains: int = 5):
    steps = {TREATMENT.name: treatment, CONTROL.name: NOTHING}
    if checked is not None:
        steps[MAJORITY_KEPT.name] = checked
    return WORLD.arms(steps, chains, 2, ("n0", "n1"), seed=3)


def judged(checked: Step | None, treatment: Step = NOTHING, chains: int = 5) -> Result:
    return claims(arms(checked, treatment, chains), SETTINGS)


@pytest.mark.parametrize(("treatment", "word"), [(NOTHING, RULED_OUT), (GROWTH, SUPPORTED)])
def test_what_was_seen_changes_no_verdict(treatment: Step, word: str) -> None:
    seen, absent = judged(GROWTH, treatment), judged(None, treatment)
    (row,) = seen.positive
    assert row.verdict == positive.SEEN
    assert row.arm == MAJORITY_KEPT.name
    assert 0 < row.low < row.value < row.high
    assert (seen.claims[0].verdict, absent.claims[0].verdict) == (word, word)


@pytest.mark.parametrize("treatment", [NOTHING, GROWTH])
def test_where_it_is_not_seen_nothing_is_said_of_bias_either_way(treatment: Step) -> None:
    found = judged(NOTHING, treatment)
    (row,) = found.positive
    assert row.verdict == positive.UNSEEN
    assert row.low < 0 < row.high
    tested = [c for c in found.claims if c.verdict != "not tested" and c.metric != "accuracy"]
    assert {c.verdict for c in tested} == {UNDECIDED}
    primary = found.claims[0]
    assert primary.reason == "the positive control was not seen"
    assert (primary.half, primary.twice) == (UNDECIDED, UNDECIDED)
    others = [a for a in arms(NOTHING, treatment) if a.arm != MAJORITY_KEPT.name]
    before = claims(others, SETTINGS).claims[0]  # the numbers stay
    assert (primary.value, primary.low, primary.mde) == (before.value, before.low, before.mde)


def test_bias_that_shrinks_in_it_was_not_seen_to_grow() -> None:
    (row,) = judged(Step(gap=-0.3)).positive
    assert row.high < 0
    assert row.verdict == positive.UNSEEN


def test_one_chain_tests_nothing() -> None:
    (row,) = judged(GROWTH, chains=1).positive
    assert row.verdict == "not tested: one chain"
    assert "one chain only" in judged(GROWTH, chains=1).claims[0].reason


def test_a_check_of_which_no_run_ended_was_not_tested() -> None:
    whole = arms(GROWTH)
    lost = [replace(a, outcomes=[o for o in a.outcomes if o.generation < 2])
            if a.arm == MAJORITY_KEPT.name else a for a in whole]  # fmt: skip
    found = claims(lost, SETTINGS)
    (row,) = found.positive
    assert (row.chains, row.verdict) == (0, "not tested: no chain has all generations")
    assert found.claims[0].verdict == UNDECIDED
    assert found.claims[0].reason.startswith("the positive control was not tested")


def test_without_a_control_there_is_nothing_to_see_it_against() -> None:
    alone = [a for a in arms(GROWTH) if a.arm != CONTROL.name]
    assert claims(alone, SETTINGS).positive == ()
    assert [*positive.cases(groups_of(alone), "md")] == []


def test_the_record_of_a_sweep_without_one_is_what_it_was() -> None:
    assert "positive" not in judged(None).summary()
    (row,) = judged(GROWTH).summary()["positive"]
    assert row["verdict"] == positive.SEEN


def test_a_sweep_that_goes_on_until_it_is_decided_goes_on_until_it_is_seen() -> None:
    looks = Looks((3, 5), (0, 1, 2))
    (first, *_) = claims(arms(NOTHING, chains=3), SETTINGS, looks=looks).claims
    assert first.looks[0].verdict == UNDECIDED
    assert first.looks[0].open
