"""Eq. 6: what is identified is recovered, what is not is refused, and the gauge never matters."""

import json
from dataclasses import replace

import laws
import numpy as np
import pytest

from ray_selfloop.config.evaluation import Dynamics, Evaluation
from ray_selfloop.equation6.bias import Labels
from ray_selfloop.equation6.fit import fit
from ray_selfloop.equation6.parameters import components, parameters
from ray_selfloop.equation6.steps import Step
from ray_selfloop.evaluation.rows import COLUMNS

G = {"a": 0.25, "b": 0.33}
D = {"d1": 0.1, "d2": 0.2}
DQ, DU = 0.6, 0.8
TRUTH = {
    ("(1-g[b])/(1-g[a])", "b"): 0.67 / 0.75,
    ("(1+d_D)/(1+d_D[d1])", "d2"): 1.2 / 1.1,
    ("d_Q/(1+d_D)", "d1"): 0.6 / 1.1,
    ("d_Q/(1+d_D)", "d2"): 0.6 / 1.2,
    ("d_U/(1+d_D)", "d1"): 0.8 / 1.1,
    ("d_U/(1+d_D)", "d2"): 0.8 / 1.2,
}


def law(seed, *, chains=3, steps=10, constant_q=False, gauge=1.0, noise=2e-4):
    """Series of two models on two datasets, and the factors of every step."""
    rng, factors, found = np.random.default_rng(seed), {}, []
    for i, d in enumerate(D):
        q = 1 - rng.uniform(0, 0.4, (chains, steps))
        q = np.full_like(q, 0.8) if constant_q else q
        u = rng.uniform(0, 0.3, (chains, steps))
        for k, t in np.ndindex(chains, steps):
            factors[(d, "", k, t)] = Step(float(q[k, t]), float(u[k, t]))
        for j, m in enumerate(G):
            a = gauge * (1 - G[m]) * (1 + D[d] + DQ * (1 - q) + DU * u) / gauge
            bias = 0.1 * np.concatenate([np.ones((chains, 1)), np.cumprod(a, axis=1)], axis=1)
            found.append(laws.series(d, m, bias, 10 * seed + 2 * i + j, noise=noise))
    return found, factors


def by_name(numbers):
    return {(n.quantity, n.scope): n for n in numbers}


def test_identified_ratios_are_recovered_and_covered():
    hits, values = dict.fromkeys(TRUTH, 0), {key: [] for key in TRUTH}
    for seed in range(40):
        found = by_name(parameters(*law(seed), 0.95, Labels()))
        for key, truth in TRUTH.items():
            hits[key] += found[key].low <= truth <= found[key].high
            values[key].append(found[key].value)
    assert all(count >= 35 for count in hits.values()), hits
    for key, truth in TRUTH.items():
        assert np.mean(values[key]) == pytest.approx(truth, rel=0.02)


def noisy(factors, error, seed):
    """u of every step with a normal error of this size, told."""
    rng = np.random.default_rng(seed)
    return {
        key: replace(step, u=step.u + error * rng.standard_normal(), u_error=error)
        for key, step in factors.items()
    }


@pytest.mark.parametrize("error", [0.02, 0.05])
def test_an_error_of_u_is_taken_into_account(error):
    """Taken as known, u of error .05 (sd of the truth .087) draws d_U down by a fourth."""
    key, hits, found, plain = ("d_U/(1+d_D)", "d1"), 0, [], []
    for seed in range(30):
        series, factors = law(seed)
        read = noisy(factors, error, seed)
        number = by_name(parameters(series, read, 0.95, Labels()))[key]
        hits += number.low <= TRUTH[key] <= number.high
        found.append(number.value / TRUTH[key])
        known = {place: replace(step, u_error=0.0) for place, step in read.items()}
        plain.append(by_name(parameters(series, known, 0.95, Labels()))[key].value / TRUTH[key])
    assert hits >= 25
    assert np.median(found) == pytest.approx(1.0, abs=0.1)
    if error > 0.03:
        assert np.median(plain) < 0.85


def test_an_error_of_q_is_taken_into_account():
    key, found = ("d_Q/(1+d_D)", "d2"), []
    for seed in range(20):
        series, factors = law(seed)
        rng = np.random.default_rng(seed)
        read = {
            place: replace(step, q=step.q + 0.06 * rng.standard_normal(), q_error=0.06)
            for place, step in factors.items()
        }
        found.append(by_name(parameters(series, read, 0.95, Labels()))[key].value / TRUTH[key])
    assert np.median(found) == pytest.approx(1.0, abs=0.1)


def test_u_that_is_mostly_error_is_refused():
    series, factors = law(0)
    found = by_name(parameters(series, noisy(factors, 0.3, 0), 0.95, Labels()))
    number = found[("d_U/(1+d_D)", "d1")]
    assert np.isnan(number.value)
    assert number.note == "not identified: u varies no more than its own errors"
    assert np.isfinite(found[("(1-g[b])/(1-g[a])", "b")].value)


def test_a_constant_q_is_named_and_what_hangs_on_it_has_no_number():
    found = by_name(parameters(*law(0, constant_q=True), 0.95, Labels()))
    for (quantity, _), number in found.items():
        if quantity.startswith(("d_Q", "d_U", "(1+d_D)")):
            assert np.isnan([number.value, number.low, number.high]).all()
            assert number.note == "not identified: q is constant over the observed steps"
    ratio = found[("(1-g[b])/(1-g[a])", "b")]
    assert ratio.low <= TRUTH[("(1-g[b])/(1-g[a])", "b")] <= ratio.high
    assert not any(quantity == "g" for quantity, _ in found)


def test_unknown_factors_cost_the_parameters_and_nothing_else():
    series, _ = law(0)
    found = by_name(parameters(series, {}, 0.95, Labels()))
    assert "q is not known" in found[("d_Q/(1+d_D)", "d1")].note
    assert np.isfinite(found[("(1-g[b])/(1-g[a])", "b")].value)


def test_literal_indexing_identifies_d_q_without_the_first_step():
    truth, key = TRUTH[("d_Q/(1+d_D)", "d1")], ("d_Q/(1+d_D)", "d1")
    hits = 0
    for seed in range(20):
        series, factors = law(seed)  # step 0 -> 1 as `factors.steps` has it under literal
        first = {place: Step(np.nan, np.nan) for place in factors if place[3] == 0}
        found = by_name(parameters(series, factors | first, 0.95, Labels()))
        hits += found[key].low <= truth <= found[key].high
        assert np.isfinite([n.value for (quantity, _), n in found.items() if quantity != "g"]).all()
    assert hits >= 17


def test_a_step_without_q_alone_still_refuses_d_q():
    series, factors = law(0)
    half = {key: Step(np.nan, step.u) for key, step in factors.items() if key[3] == 0}
    found = by_name(parameters(series, factors | half, 0.95, Labels()))
    assert "q is not known" in found[("d_Q/(1+d_D)", "d1")].note


def test_collinear_q_and_u_are_both_refused():
    series, factors = law(0)
    tied = {key: Step(1 - 2 * step.u, step.u) for key, step in factors.items()}
    found = by_name(parameters(series, tied, 0.95, Labels()))
    assert np.isnan(found[("d_Q/(1+d_D)", "d1")].value)
    assert found[("d_U/(1+d_D)", "d2")].note == "not identified: q and u do not vary independently"
    assert np.isfinite(found[("(1+d_D)/(1+d_D[d1])", "d2")].value)


def test_no_more_steps_than_parameters_means_no_numbers():
    series, factors = law(0, chains=1, steps=1)
    numbers = parameters([s for s in series if s.scenario == "d1"], factors, 0.95, Labels())
    assert numbers
    assert all(np.isnan(n.value) and "no more observed steps" in n.note for n in numbers)


def test_one_chain_is_marked():
    found = by_name(parameters(*law(0, chains=1), 0.95, Labels()))
    assert found[("d_Q/(1+d_D)", "d1")].note == "this chain only"


def test_g_has_an_admissible_interval_that_holds_the_truth_and_no_estimate():
    found = by_name(parameters(*law(1, noise=1e-6), 0.95, Labels()))
    for model, g in G.items():
        number = found[("g", model)]
        assert np.isnan(number.value)
        assert number.low - 1e-3 <= g < number.high == 1.0


def test_each_component_of_the_graph_has_its_own_gauge():
    pairs = {("a", "d1"), ("b", "d1"), ("c", "d2"), ("c", "d3"), ("b", "d4")}
    assert components(pairs) == [(["a", "b"], ["d1", "d4"]), (["c"], ["d2", "d3"])]
    series, factors = law(0)
    apart = [s for s in series if (s.classifier, s.scenario) in {("a", "d1"), ("b", "d2")}]
    quantities = {n.quantity for n in parameters(apart, factors, 0.95, Labels())}
    assert not any(q.startswith(("(1-g", "(1+d_D")) for q in quantities)


def test_bias_under_its_floor_takes_no_part():
    series, factors = law(0)
    quiet = [laws.series("d1", "z", np.full((3, 11), 1e-3), 5), *series]
    assert str(parameters(quiet, factors, 0.95, Labels())) == str(
        parameters(series, factors, 0.95, Labels())
    )


def test_a_fit_becomes_rows_and_json():
    series, factors = law(0)
    quiet = laws.series("d1", "z", np.full((3, 11), 1e-3), 5)
    found = fit([*series, quiet], factors, Evaluation(), Labels(experts={"d1": "a"}))
    rows = found.rows()
    assert tuple(rows.columns) == COLUMNS
    overall = rows[rows["generation"].isna() & (rows["metric"] == "A")]
    overall = overall.set_index(["scenario", "classifier"])
    assert len(overall) == 5
    assert np.isnan(overall.loc[("d1", "z"), "value"])
    summary = json.loads(json.dumps(found.summary()))
    verdicts = {(v["scenario"], v["classifier"]): v for v in summary["verdicts"]}
    assert {v["text"] for v in verdicts.values()} == {"undecided: no control"}
    assert verdicts[("d1", "z")]["a"] is None
    assert "only the expert's bias (a)" in verdicts[("d1", "b")]["note"]
    assert "expert" not in verdicts[("d1", "a")]["note"] + verdicts[("d2", "b")]["note"]
    assert verdicts[("d1", "a")]["a"] == overall.loc[("d1", "a"), "value"]
    assert {"scope", "quantity", "value", "low", "high", "note"} == set(summary["fit"][0])


def test_an_interval_without_an_end_says_so_in_rows_and_json():
    bias = 0.1 * 1.3 ** np.arange(4) * np.ones((2, 1))
    series = laws.series("d1", "a", bias, 0, noise=1.5e-3)
    narrow = Evaluation().model_copy(update={"dynamics": Dynamics(growth_limit=1.36)})
    found = fit([series], {}, narrow, Labels())
    (verdict,) = found.summary()["verdicts"]
    assert verdict["high"] is None
    assert "interval open above" in verdict["note"]
    rows = found.rows()
    overall = rows[rows["generation"].isna()].iloc[0]
    assert np.isfinite(overall["value"])
    assert np.isnan(overall["high"])


def test_an_empty_sweep_has_an_empty_table():
    found = fit([], {}, Evaluation(), Labels())
    assert found.rows().empty
    assert found.summary() == {"verdicts": [], "fit": [], "laws": [], "rests": []}


def test_arms_of_one_dataset_share_its_d_d():
    """Two arms with other q and u: one d_D, so that what differs between them identifies d_Q."""
    rng, factors, series = np.random.default_rng(0), {}, []
    for i, (arm, x) in enumerate({"poor": 0.4, "good": 0.0}.items()):
        u = rng.uniform(0, 0.3, (3, 10))
        a = 0.8 * (1 + 0.1 + 0.6 * x + 0.8 * u)
        bias = 0.1 * np.concatenate([np.ones((3, 1)), np.cumprod(a, axis=1)], axis=1)
        series.append(laws.series(arm, "a", bias, i))
        places = np.ndindex(3, 10)
        factors |= {(arm, "", k, t): Step(1 - x, float(u[k, t])) for k, t in places}
    apart = by_name(parameters(series, factors, 0.95, Labels()))
    assert "q is constant" in apart[("d_Q/(1+d_D)", "poor")].note
    together = by_name(parameters(series, factors, 0.95, Labels({"poor": "d", "good": "d"})))
    found = together[("d_Q/(1+d_D)", "d")]
    assert found.value == pytest.approx(0.6 / 1.1, abs=0.1)
    assert found.low < 0.6 / 1.1 < found.high


def test_scratch_and_pretrained_are_two_models():
    series, factors = law(0)
    models = {"d1": {"a": "a, scratch"}, "d2": {"a": "a, pretrained"}}
    found = by_name(parameters(series, factors, 0.95, Labels(models=models)))
    assert {("(1-g[a, scratch])/(1-g[a, pretrained])", "a, scratch")} < set(found)
    truth = by_name(parameters(series, factors, 0.95, Labels()))
    assert ("(1-g[b])/(1-g[a])", "b") in truth


def test_ten_chains_have_intervals_that_hold():
    hits, key = 0, ("d_Q/(1+d_D)", "d1")
    for seed in range(15):
        number = by_name(parameters(*law(seed, chains=10, steps=4), 0.95, Labels()))[key]
        hits += number.low <= TRUTH[key] <= number.high
    assert hits >= 12


def test_a_floor_inflated_bias_gives_no_parameters():
    series, factors = law(0)
    assert parameters([replace(s, inflated=True) for s in series], factors, 0.95, Labels()) == []


def test_a_generator_too_poor_to_ask_costs_the_verdict_not_the_interval():
    bias = 0.1 * 1.3 ** np.arange(5) * np.ones((3, 1))
    series = [laws.series(name, "a", bias, 0, noise=1e-5) for name in ("d1", "c1")]
    arms = {"arms": {"d1": "treatment", "c1": "no_synthetic"}, "groups": {"d1": "g", "c1": "g"}}
    plain, _ = fit(series, {}, Evaluation(), Labels(**arms)).summary()["verdicts"]
    gated, _ = fit(
        series, {}, Evaluation(), Labels(**arms, gated={"d1": "label fidelity 0.30"})
    ).summary()["verdicts"]
    assert plain["text"].startswith("undecided: ratio 1 is not excluded")
    assert gated["text"] == "undecided: generator too poor to ask"
    assert gated["note"].startswith("label fidelity 0.30; ")
    assert (gated["a"], gated["low"]) == (plain["a"], plain["low"])


def test_what_is_declared_after_the_data_gets_a_ratio_and_no_verdict():
    grows, still = (0.1 * a ** np.arange(5) * np.ones((3, 1)) for a in (1.3, 1.0))
    series = [laws.series("d1", "a", grows, 0, noise=1e-5),
              laws.series("c1", "a", still, 1, noise=1e-5)]  # fmt: skip
    arms = {"arms": {"d1": "treatment", "c1": "no_synthetic"}, "groups": {"d1": "g", "c1": "g"}}
    early, late = (
        fit(series, {}, Evaluation(), Labels(**arms, exploratory=why)).summary()["verdicts"][0]
        for why in ("", "declared after the data")
    )
    assert early["text"] == "A > control"
    assert late["text"] == "exploratory: declared after the data"
    assert late["ratio"] == early["ratio"]


def test_steps_while_the_queue_fills_are_apart():
    """Bias grows while the dose does, then stays: A over all says growth, filled says none."""
    bias = np.array([0.05, 0.1, 0.2, 0.2, 0.2, 0.2, 0.2]) * np.ones((3, 1))
    series = laws.series("d1", "a", bias, 0, noise=1e-4)
    found = fit([series], {}, Evaluation(), Labels(filled={"d1": 2}))
    (apart,) = [n for n in found.numbers if n.quantity == "A over filled-queue steps"]
    assert (apart.scope, apart.note[:24]) == ("d1, a", "steps from generation 2 ")
    assert apart.low < 1 < apart.high
    assert found.verdicts[0].found.low > 1
    rows = found.rows().set_index("metric")
    assert rows.loc["A_filled", "value"] == apart.value
    throughout = fit([series], {}, Evaluation(), Labels(filled={"d1": 6}))
    assert "confounded throughout" in throughout.numbers[0].note
    assert "A_filled" not in set(throughout.rows()["metric"])


def test_the_laws_are_in_the_summary():
    series, factors = law(0)
    found = json.loads(json.dumps(fit(series, factors, Evaluation(), Labels()).summary()))["laws"]
    assert len(found) == 4 * len(series)
    assert {entry["law"] for entry in found} == {"eq6", "constant", "affine", "persistence"}
    assert all(entry["held_out_error"] > 0 for entry in found)
