"""Trials by end state, from a sweep's own results table."""

from dataclasses import replace

import numpy as np
import pytest

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.classifier_rows import fairness_rows
from ray_selfloop.evaluation.end_states import ONE_CLASS, SHORTCUT, WORKING
from ray_selfloop.evaluation.predictions import Outcome
from ray_selfloop.evaluation.states import held, mixed, of_one_state, of_results, told
from ray_selfloop.simulator import Layout

TEST = Layout.crossed_digits(20, classes=3).test_set()
FEW = Evaluation(resamples=20, permutations=20)
BY_GROUP = TEST.subgroups % TEST.classes
GIVEN = {WORKING: TEST.labels, SHORTCUT: BY_GROUP, ONE_CLASS: np.zeros_like(TEST.labels)}


def outcome(chain: int, generation: int, state: str) -> Outcome:
    return Outcome(chain, generation, "a", 0, GIVEN[state], collapsed=state == ONE_CLASS)


@pytest.fixture(scope="module")
def rows():
    ends = (WORKING, SHORTCUT, ONE_CLASS)
    trials = [outcome(k, t, WORKING) for k in range(3) for t in range(2)]
    trials += [outcome(k, 2, end) for k, end in enumerate(ends)]
    trials += [outcome(k, 3, WORKING if k else ONE_CLASS) for k in range(3)]
    return fairness_rows("s", trials, TEST, FEW)


def test_states_come_back_from_the_results(rows) -> None:
    states = of_results(rows)
    assert len(states) == 12
    assert held(states)["s", "a", 1] == {WORKING: 3}
    assert held(states)["s", "a", 2] == {WORKING: 1, SHORTCUT: 1, ONE_CLASS: 1}
    assert told(held(states)["s", "a", 2]) == "1 working, 1 by the shortcut, 1 one class only"
    assert set(states.loc[states["collapsed"], "state"]) == {ONE_CLASS}


def test_the_table_has_the_share_of_each_state(rows) -> None:
    mean = rows[rows["seed"].isna() & (rows["metric"] == metrics.BY_SHORTCUT.name)]
    assert mean.set_index("generation")["value"].to_dict() == {0: 0, 1: 0, 2: pytest.approx(1 / 3),
                                                                3: 0}  # fmt: skip


def test_a_mean_stands_only_where_all_that_did_not_collapse_are_in_one_state(rows) -> None:
    states = of_results(rows)
    standing = states[~states["collapsed"]]
    assert list(mixed(standing)) == [("s", "a", 2)]
    shown = of_one_state(rows, standing, (metrics.ACCURACY.name,))
    means = shown[shown["seed"].isna() & shown["loop_seed"].isna()]
    of = {
        name: set(means.loc[means["metric"] == name, "generation"])
        for name in (metrics.MD.name, metrics.ACCURACY.name, metrics.ONE_CLASS.name)
    }
    assert of[metrics.MD.name] == {0, 1, 3}
    assert of[metrics.ACCURACY.name] == of[metrics.ONE_CLASS.name] == {0, 1, 2, 3}
    trials = [table[table["seed"].notna()] for table in (rows, shown)]
    assert len(trials[0]) == len(trials[1])


def test_data_without_subgroups_have_end_states_too() -> None:
    plain = replace(Layout.cifar(3, 1, 40).test_set(), subgroup_names=())
    trials = [Outcome(0, 0, "a", 0, plain.labels), Outcome(1, 0, "a", 0, 0 * plain.labels)]
    states = of_results(fairness_rows("s", trials, plain, FEW))
    assert held(states)["s", "a", 0] == {WORKING: 1, ONE_CLASS: 1}
