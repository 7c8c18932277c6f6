"""Contrasts of arms: what is compared, and how sure one is; closed forms and known truths."""

from dataclasses import replace

import arm_worlds
import numpy as np
import pytest

from ray_selfloop.claims import contrasts
from ray_selfloop.claims.contrasts import (
    LAST_MINUS_FIRST,
    LEVEL,
    SLOPE,
    Contrast,
    Trial,
)
from ray_selfloop.claims.paired import measure
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.inference.chains import effect

PAIR = ("treatment", "no_synthetic")
ESTIMANDS = (SLOPE, LAST_MINUS_FIRST)
SETTINGS = Evaluation(resamples=100, permutations=20)


def trials(chains=2, seeds=2, generations=4):
    return [
        Trial(arm, chain, seed, t)
        for arm in PAIR
        for chain in range(chains)
        for seed in range(seeds)
        for t in range(generations + 1)
    ]


# --- what is compared ----------------------------------------------------------------------------


def test_a_slope_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    y = rng.standard_normal(11)
    w = contrasts.time_weights(list(range(11)), 10, SLOPE)
    assert w @ y == pytest.approx(np.polyfit(range(11), y, 1)[0])


def test_generations_that_do_not_carry_an_estimand_give_none():
    assert contrasts.time_weights([0, 1, 2], 10, SLOPE) is None
    assert contrasts.time_weights([1, 2, 3], 3, LAST_MINUS_FIRST) is None
    assert contrasts.time_weights([0, 1, 2], 3, LAST_MINUS_FIRST) is None
    assert contrasts.time_weights([0], 0, SLOPE) is None
    np.testing.assert_array_equal(contrasts.time_weights([0, 3], 3, LAST_MINUS_FIRST), [-1, 1])


def by_hand(values, usable, estimand, last):
    """The estimand of each chain, run by run, with loops."""
    found = {}
    for chain in sorted({trial.loop_seed for trial in values}):
        runs = []
        for seed in sorted({trial.seed for trial in values}):
            pairs = [[Trial(arm, chain, seed, t) for arm in PAIR] for t in range(last + 1)]
            times = [t for t, pair in enumerate(pairs) if all(usable[trial] for trial in pair)]
            d = [values[pairs[t][0]] - values[pairs[t][1]] for t in times]
            if estimand == SLOPE and len(times) == last + 1:
                runs.append(np.polyfit(times, d, 1)[0])
            if estimand == LAST_MINUS_FIRST and {0, last} <= set(times):
                runs.append(d[-1] - d[0])
        if runs:
            found[chain] = np.mean(runs)
    return found


@pytest.mark.parametrize("estimand", ESTIMANDS)
def test_a_trial_that_is_unusable_in_one_arm_leaves_both(estimand):
    rng, all_trials = np.random.default_rng(1), trials(chains=4)
    values = rng.standard_normal(len(all_trials))
    usable = rng.random(len(all_trials)) > 0.15
    found = contrasts.weights(all_trials, usable, PAIR, 4, estimand)
    expected = by_hand(
        dict(zip(all_trials, values, strict=True)),
        dict(zip(all_trials, usable, strict=True)),
        estimand,
        4,
    )
    assert {chain: w @ values for chain, w in found.items()} == pytest.approx(expected)
    assert len(expected) > 0
    assert not usable.all()


def test_only_trials_that_are_used_can_make_a_draw_undefined():
    values = np.array([[1.0, 2.0, np.nan], [1.0, np.nan, np.nan]])
    by_chain = {0: np.array([1.0, 0.0, 0.0]), 1: np.array([0.0, -1.0, 0.0])}
    np.testing.assert_array_equal(contrasts.applied(by_chain, values), [[1, -2], [1, np.nan]])
    assert contrasts.applied({}, values).shape == (2, 0)


def test_common_runs_are_usable_in_every_arm():
    all_trials = [*trials(1, 1, 1), Trial("unfiltered", 0, 0, 0)]
    found = contrasts.usable_in_all(
        all_trials, np.ones(len(all_trials), bool), [*PAIR, "unfiltered"]
    )
    assert found.tolist() == [trial.generation == 0 for trial in all_trials]


def test_contrasts_are_combined_by_chain():
    a = Contrast((0, 1, 2), np.arange(6.0).reshape(2, 3))
    b = Contrast((2, 0), np.array([[10.0, 20.0], [30.0, 40.0]]))
    difference = contrasts.minus(a, b)
    assert difference.chains == (0, 2)
    np.testing.assert_array_equal(difference.draws, [[0 - 20, 2 - 10], [3 - 40, 5 - 30]])
    np.testing.assert_array_equal(contrasts.mean_of([a, b]).draws, [[10, 6], [21.5, 17.5]])


def test_spans_levels_and_one_arm_alone():
    assert contrasts.span("2_minus_0", 4) == (0, 2)
    assert contrasts.span("last_minus_2", 4) == (2, 4)
    assert contrasts.span(SLOPE, 4) is None
    np.testing.assert_array_equal(
        contrasts.time_weights([0, 1, 2, 3], 3, "last_minus_2"), [0, 0, -1, 1]
    )
    assert contrasts.time_weights([0, 1, 2], 2, "last_minus_2") is None  # nothing comes after 2
    np.testing.assert_allclose(contrasts.time_weights([0, 1, 2], 2, LEVEL), [0, 0.5, 0.5])
    assert contrasts.time_weights([0, 2], 2, LEVEL) is None
    some = trials(chains=1, seeds=1, generations=2)
    (w,) = contrasts.weights(some, np.ones(6, bool), PAIR[:1], 2, LAST_MINUS_FIRST).values()
    assert w.tolist() == [-1, 0, 1, 0, 0, 0]


def test_scatter_is_what_a_line_leaves():
    some = trials(chains=2, seeds=1, generations=4)
    rng = np.random.default_rng(0)
    values = np.array([[3.0 + 0.5 * t.generation for t in some]] * 2)
    moved = values + np.array([t.arm == PAIR[0] for t in some]) * rng.standard_normal(len(some))
    flat = contrasts.scattered(some, np.ones(len(some), bool), PAIR, 4, values)
    np.testing.assert_allclose(flat.draws, 0, atol=1e-12)
    found = contrasts.scattered(some, np.ones(len(some), bool), PAIR, 4, moved)
    rest = np.polyfit(range(5), moved[0, :5], 1, full=True)[1][0]
    assert found.draws[0, 0] == pytest.approx(rest / 3)
    few = trials(chains=2, seeds=1, generations=2)
    assert contrasts.scattered(few, np.ones(len(few), bool), PAIR, 2, values[:, :12]).chains == ()


# --- simulated experiments -----------------------------------------------------------------------


NOTHING = dict.fromkeys(PAIR, 0.0)


@pytest.fixture(scope="module")
def null_experiments():
    """Experiments without an effect, read as accuracy and MD."""
    keys = (("accuracy", ""), ("md_pooled", ""))
    found = {key: [] for key in keys}
    for seed in range(120):
        world = arm_worlds.World(seed, images=60, chain_sd=0.15, gap=0.4)
        arms = world.arms(NOTHING, generations=2)
        measured = measure("lenet", {arm.arm: arm for arm in arms}, SETTINGS)
        for key in keys:
            draws = measured.contrast(key, LAST_MINUS_FIRST, PAIR).draws
            found[key].append((effect(draws, 0.95), effect(draws, 0.8)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "md_pooled"])
def test_no_effect_is_rarely_called_a_change(null_experiments, metric):
    found = [found for found, _ in null_experiments[metric, ""]]
    assert np.mean([f.p_change() <= 0.05 for f in found]) <= 0.10  # 120 draws: 2.5 sd above 0.05
    assert np.mean([f.p_change() <= 0.20 for f in found]) <= 0.30
    assert np.mean([f.p_change() <= 0.5 for f in found]) >= 0.3  # and not by never rejecting


@pytest.mark.slow
def test_equivalence_is_rarely_declared_where_the_effect_is_the_margin(null_experiments):
    found = [found for found, _ in null_experiments["accuracy", ""]]
    shifted = [replace(f, value=f.value + 0.1) for f in found]
    assert np.mean([f.p_inside(0.1) <= 0.05 for f in shifted]) <= 0.10
    assert np.mean([f.p_inside(0.1) <= 0.05 for f in found]) >= 0.15  # no effect: it is often shown


def test_pairing_removes_what_the_images_share():
    rng = np.random.default_rng(6)
    images = 0.05 * rng.standard_normal((401, 1))  # the same in both arms and in all chains
    images[0] = 0
    own = 0.002 * rng.standard_normal((2, 401, 3))
    a, b = (Contrast((0, 1, 2), images + part) for part in own)
    paired = effect(contrasts.minus(a, b).draws, 0.95)
    apart = [effect(side.draws, 0.95).error for side in (a, b)]
    assert paired.error < 0.1 * np.hypot(*apart)


def test_a_common_image_part_counts_once_however_many_chains():
    rng = np.random.default_rng(7)
    draws = 0.05 * rng.standard_normal((2001, 1)) + np.zeros((1, 20))
    draws[0] = 1e-4 * rng.standard_normal(20)
    found = effect(draws, 0.95)
    assert found.error == pytest.approx(0.05, rel=0.1)


def test_scatter_holds_nothing_of_the_test_images():
    """Two classifiers of unequal accuracy that do not move: their image noise is no scatter."""
    rng, some = np.random.default_rng(8), trials(chains=300, seeds=1, generations=4)
    sd = np.where([t.arm == PAIR[0] for t in some], 0.05, 0.01)
    observed = sd * rng.standard_normal(len(some))
    draws = np.vstack([observed, observed + sd * rng.standard_normal((60, len(some)))])
    found = contrasts.scattered(some, np.ones(len(some), bool), PAIR, 4, draws)
    error = found.draws[0].std() / 300**0.5
    assert abs(found.draws[0].mean()) < 3 * error
    assert found.draws[1:].mean() == pytest.approx(found.draws[0].mean(), abs=3 * error)
