"""Which law predicts held-out generations: data that follow one law are predicted by it."""

import json
from dataclasses import asdict, replace

import laws as simulated
import numpy as np
import pytest

from ray_selfloop.config.evaluation import Dynamics, Evaluation
from ray_selfloop.equation6.laws import compare
from ray_selfloop.equation6.steps import Step

SETTINGS = Evaluation(level=0.9)


def judged(bias, factors=None, seed=0, noise=1e-4, **dynamics):
    series = simulated.series("s", "a", bias, seed, noise=noise)
    settings = SETTINGS.model_copy(update={"dynamics": Dynamics(**dynamics)})
    return {law.law: law for law in compare(series, factors or {}, settings)}


def drawn(seed, chains=5, steps=10):
    """B that follows eq. 6 with a0 = 0.9, rQ = 0.5, rU = 0.8, and its factors."""
    rng = np.random.default_rng(seed)
    x, u = rng.uniform(0, 0.5, (chains, steps)), rng.uniform(0, 0.4, (chains, steps))
    a = 0.9 * (1 + 0.5 * x + 0.8 * u)
    bias = 0.05 * np.concatenate([np.ones((chains, 1)), np.cumprod(a, axis=1)], axis=1)
    places = np.ndindex(chains, steps)
    return bias, {("s", "", k, t): Step(1 - x[k, t], u[k, t]) for k, t in places}


def test_eq6_recovers_what_one_model_and_dataset_identify_and_predicts_best():
    bias, factors = drawn(0, chains=8)
    found = judged(bias, factors)
    assert found["eq6"].parameters["(1-g)(1+d_D)"] == pytest.approx(0.9, abs=0.03)
    assert found["eq6"].parameters["d_Q/(1+d_D)"] == pytest.approx(0.5, abs=0.12)
    assert found["eq6"].parameters["d_U/(1+d_D)"] == pytest.approx(0.8, abs=0.12)
    assert found["eq6"].held_out_error == min(law.held_out_error for law in found.values())
    assert found["eq6"].better_than_persistence is True


def test_a_constant_a_is_recovered_without_pull_towards_one():
    found = [
        judged(0.06 * 0.9 ** np.arange(11) * np.ones((4, 1)), seed=seed, noise=4e-4)["constant"]
        for seed in range(30)
    ]
    values = np.array([law.parameters["A"] for law in found])
    assert values.mean() == pytest.approx(0.9, abs=2.5 * values.std() / 30**0.5 + 1e-3)


def test_an_affine_recursion_is_recovered():
    bias = [np.full(5, 0.2)]
    for _ in range(9):
        bias.append(0.03 + 0.6 * bias[-1])
    found = judged(np.stack(bias, axis=1), noise=1e-5)
    assert found["affine"].parameters["a"] == pytest.approx(0.03, abs=2e-3)
    assert found["affine"].parameters["b"] == pytest.approx(0.6, abs=0.02)
    assert found["affine"].better_than_persistence is not False
    assert found["constant"].better_than_persistence is False
    assert found["affine"].held_out_error < found["constant"].held_out_error


def test_persistence_carries_a_filtered_level_not_the_last_noisy_point():
    level = np.full((6, 11), 0.08)
    errors = [judged(level, seed=seed, noise=1e-3) for seed in range(10)]
    filtered = np.mean([found["persistence"].held_out_error ** 2 for found in errors])
    last = [simulated.series("s", "a", level, seed, noise=1e-3) for seed in range(10)]
    raw = np.mean([(s.squared[0, :, -2:] - s.squared[0, :, -3:-2]) ** 2 for s in last])
    assert filtered < 0.75 * raw
    assert all(found["constant"].better_than_persistence is not True for found in errors[:3])


def test_persistence_follows_a_level_that_moves():
    bias = 0.05 + 0.01 * np.arange(11) * np.ones((4, 1))
    found = judged(bias, noise=1e-9)["persistence"]
    steps = bias[:, -2:] ** 2 - bias[:, -3:-2] ** 2
    assert found.held_out_error == pytest.approx(np.sqrt((steps**2).mean()), rel=1e-3)


def test_a_constant_factor_is_lost_and_said_to_be_lost():
    bias, factors = drawn(1)
    held = {key: Step(0.8, step.u) for key, step in factors.items()}
    found = judged(bias, held)["eq6"]
    assert "d_Q/(1+d_D)" not in found.parameters
    assert "q is constant: d_Q/(1+d_D) is lost" in found.note
    nothing = judged(bias, {})["eq6"]
    assert nothing.parameters == {}
    assert np.isnan(nothing.held_out_error)
    assert "q is not known for every step" in nothing.note


def test_held_out_generations_are_not_fitted():
    bias, factors = drawn(2)
    series = simulated.series("s", "a", bias, 0)
    squared = series.squared.copy()
    squared[0, :, -2:] *= 7
    before = compare(series, factors, SETTINGS)
    after = compare(replace(series, squared=squared), factors, SETTINGS)
    for one, other in zip(before, after, strict=True):
        assert one.parameters == other.parameters
        assert one.held_out_error != other.held_out_error


@pytest.mark.parametrize(("steps", "note"), [(3, "too few generations"), (4, "")])
def test_too_few_generations_have_a_note_and_no_number(steps, note):
    found = judged(np.full((3, steps + 1), 0.08))
    assert sorted(found) == ["affine", "constant", "eq6", "persistence"]
    assert (found["constant"].note == "") == (note == "")
    assert np.isnan(found["constant"].held_out_error) == bool(note)
    assert found["constant"].note.startswith(note)


def test_one_chain_is_compared_with_nothing():
    found = judged(np.full((1, 9), 0.08))["constant"]
    assert found.better_than_persistence is None
    assert np.isfinite(found.held_out_error)
    assert np.isnan([found.low, found.high]).all()


def test_a_law_is_plain_data():
    found = judged(*drawn(3))["eq6"]
    entry = json.loads(json.dumps(asdict(found)))
    assert set(entry) == {
        "scenario", "classifier", "law", "parameters", "held_out_error", "low", "high",
        "better_than_persistence", "note",
    }  # fmt: skip
