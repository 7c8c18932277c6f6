"""What a verdict is of: A of a treatment over that of its control, by Holm over all treatments."""

import json
from dataclasses import replace

import laws
import numpy as np
import pytest
from test_relative import arms

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.equation6.bias import Labels
from ray_selfloop.equation6.fit import SEEDS, fit
from ray_selfloop.inference.families import holm

SETTINGS = Evaluation()


def labels(**more):
    """Scenarios ``s<i>`` (treatments) and ``c<i>`` (controls) of groups 0, 1, ..."""
    names = [(kind, i) for i in range(8) for kind in "sc"]
    named = {"s": "treatment", "c": "no_synthetic"}
    return Labels(
        arms={f"{kind}{i}": named[kind] for kind, i in names} | more.pop("arms", {}),
        groups={f"{kind}{i}": str(i) for kind, i in names} | more.pop("groups", {}),
        **more,
    )


def pair(i, ratio, seed=0, **more):
    treated, control = arms(ratio, 1.0, seed, **more)
    return [replace(treated, scenario=f"s{i}"), replace(control, scenario=f"c{i}")]


def verdicts(series, given):
    summary = json.loads(json.dumps(fit(series, {}, SETTINGS, given).summary()))
    return {v["scenario"]: v for v in summary["verdicts"]}


@pytest.mark.parametrize(("ratio", "word"), [(1.2, "A > control"), (0.8, "A < control")])
def test_a_treatment_is_judged_against_its_control(ratio, word):
    found = verdicts(pair(0, ratio), labels())
    treated, control = found["s0"], found["c0"]
    assert treated["text"] == word
    assert treated["ratio_low"] < ratio < treated["ratio_high"]
    assert treated["p_holm"] < 0.05
    assert treated["chains"] == 5
    assert control["text"] == "control"
    assert control["low"] < 1 < control["high"]
    assert control["ratio"] is control["p_holm"] is None


def test_without_a_control_there_is_no_verdict_whatever_a_is():
    bias = 0.1 * 1.3 ** np.arange(5) * np.ones((3, 1))
    series = [laws.series("s0", "a", bias, 0, noise=1e-5)]
    for given in (labels(), Labels()):
        found = verdicts(series, given)["s0"]
        assert found["text"] == "undecided: no control"
        assert found["low"] > 1
        assert found["ratio"] is found["p_holm"] is None


def test_a_control_of_another_group_or_classifier_is_none():
    treated, control = pair(0, 1.2)
    for other in (replace(control, scenario="c1"), replace(control, classifier="b")):
        assert verdicts([treated, other], labels())["s0"]["text"] == "undecided: no control"


def test_what_both_arms_do_is_not_the_treatment():
    treated, control = arms(1.0, 1.3, 4)
    series = replace(treated, scenario="s0"), replace(control, scenario="c0")
    found = verdicts(series, labels())
    assert found["s0"]["low"] > 1
    assert found["s0"]["text"].startswith("undecided: ratio 1 is not excluded")


def test_p_values_are_adjusted_over_all_treatments_of_the_sweep():
    series = [one for i in range(6) for one in pair(i, 1.0 if i else 1.04, seed=i)]
    together, alone = verdicts(series, labels()), {}
    for i in range(6):
        alone |= verdicts(series[2 * i : 2 * i + 2], labels())
    names = [f"s{i}" for i in range(6)]
    assert [together[n]["p_holm"] for n in names] == pytest.approx(
        holm([alone[n]["p_holm"] for n in names])
    )
    for n in names:
        assert together[n]["ratio_low"] == alone[n]["ratio_low"]


def test_what_holm_takes_away_is_said():
    """An unadjusted p of .02 in 6 cases."""
    series = [one for i in range(6) for one in pair(i, 1.0, seed=i)]
    for seed in range(40):
        one = pair(0, 1.03, seed=seed)
        if 0.01 < verdicts(one, labels())["s0"]["p_holm"] < 0.05:
            break
    found = verdicts([*one, *series[2:]], labels())["s0"]
    assert found["text"] == "undecided: ratio 1 is not excluded, of 6 cases"
    assert found["ratio_low"] > 1


def test_untested_treatments_count_among_the_cases():
    quiet = [replace(one, floor=np.full(7, np.inf)) for one in pair(1, 1.0, seed=1)]
    tested = pair(0, 1.04, seed=2)
    alone = verdicts(tested, labels())["s0"]["p_holm"]
    found = verdicts([*tested, *quiet], labels())
    assert found["s0"]["p_holm"] == pytest.approx(min(2 * alone, 1))
    assert found["s1"]["text"] == "undecided: no measurable bias"


def test_other_arms_have_a_ratio_and_no_word():
    treated, control = pair(0, 1.2)
    other = replace(treated, scenario="x")
    given = labels(arms={"x": "unfiltered", "y": "a_a"}, groups={"x": "0", "y": "0"})
    found = verdicts([treated, control, other, replace(control, scenario="y")], given)
    assert found["x"]["text"] == "exploratory"
    assert found["x"]["ratio"] == found["s0"]["ratio"]
    assert found["x"]["p_holm"] is None
    assert found["y"]["text"] == "control"
    assert found["s0"]["p_holm"] == verdicts([treated, control], labels())["s0"]["p_holm"]


def test_a_generator_that_is_not_converged_costs_the_verdict_not_the_ratio():
    plain = verdicts(pair(0, 1.2), labels())["s0"]
    gated = verdicts(pair(0, 1.2), labels(gated={"s0": "label fidelity 0.30"}))["s0"]
    assert gated["text"] == "undecided: generator too poor to ask"
    assert gated["note"].startswith("label fidelity 0.30")
    assert gated["ratio_low"] == plain["ratio_low"]


def test_the_note_says_what_one_seed_leaves_in_b():
    series = pair(0, 1.2)
    assert SEEDS in verdicts(series, labels())["s0"]["note"]
    apart = [replace(one, seeds_apart=True) for one in series]
    assert verdicts(apart, labels())["s0"]["note"] == ""


def test_the_ratio_has_a_row_of_its_own():
    rows = fit(pair(0, 1.2), {}, SETTINGS, labels()).rows()
    (ratio,) = rows[rows["metric"] == "A_ratio"].to_dict("records")
    assert (ratio["scenario"], ratio["classifier"], ratio["split"]) == ("s0", "a", "test")
    assert ratio["low"] < 1.2 < ratio["high"]


def test_one_chain_has_a_ratio_and_no_p():
    found = verdicts([one.of((0,)) for one in pair(0, 1.2)], labels())["s0"]
    assert found["text"] == "undecided: this chain only"
    assert found["ratio"] == pytest.approx(1.2, abs=0.1)
    assert found["p_holm"] is None
    assert found["chains"] == 1


def test_arms_that_lost_different_numbers_of_trials_have_a_ratio_and_no_verdict():
    treated, control = pair(0, 1.3)
    fewer = treated.seeds.copy()
    fewer[0, -1] -= 1
    plain = verdicts([treated, control], labels())["s0"]
    found = verdicts([replace(treated, seeds=fewer), control], labels())["s0"]
    assert plain["text"] == "A > control"
    assert found["text"] == "undecided: the arms lost different trials"
    assert found["ratio"] == plain["ratio"]


def moving(series, change):
    """With an accuracy that changes so by the last generation, the same in all resamples."""
    accuracy = np.zeros(series.squared.shape)
    accuracy[:, :, -1] = change + 1e-4 * np.arange(len(series.chains))
    return replace(series, accuracy=accuracy)


def test_a_ratio_beside_another_accuracy_is_not_separated_from_it():
    treated, control = pair(0, 1.3)
    alike = verdicts([moving(treated, 0.001), moving(control, 0.0)], labels())["s0"]
    apart = verdicts([moving(treated, -0.1), moving(control, 0.0)], labels())["s0"]
    assert alike["text"] == "A > control"
    assert apart["text"] == "undecided: not separated from what accuracy does to it"
    assert apart["ratio"] == alike["ratio"]


def test_what_has_not_come_to_its_last_generation_has_no_verdict():
    found = verdicts(pair(0, 1.3), labels(generations={"s0": 10}))["s0"]
    assert found["text"] == "undecided: its last generation is not there yet"
