"""B^2 of different seeds: the mean over pairs by brute force, and what of it survives scatter."""

from dataclasses import replace
from itertools import combinations

import laws
import numpy as np
import pytest

from ray_selfloop.config.evaluation import Dynamics, Evaluation
from ray_selfloop.equation6.bias import bias_series
from ray_selfloop.evaluation.tallies import permuted, resampled

SETTINGS = Evaluation(resamples=60, permutations=60)
POOLED = SETTINGS.model_copy(update={"dynamics": Dynamics(bias="gap_rms_pooled")})


def crossed(test):
    """The same rows as if each image were shown once in every subgroup."""
    rank = np.empty(len(test.labels), np.int64)
    for c, g in np.ndindex(test.classes, test.groups):
        rows = np.flatnonzero((test.labels == c) & (test.subgroups == g))
        rank[rows] = np.arange(len(rows))
    return replace(test, units=test.labels * len(rank) + rank, crossed=True)


def by_hand(test, x, y, pooled):
    """Covariance over subgroups of two seeds' rates less that of their noise, from single rows."""
    rates, noises = [], []
    for c in range(test.classes):
        a, b = (
            np.stack([z[(test.labels == c) & (test.subgroups == g)] for g in range(test.groups)])
            for z in (x, y)
        )
        n = a.shape[1]
        joint = (a - a.mean(1, keepdims=True)) @ (b - b.mean(1, keepdims=True)).T / (n - 1) / n
        joint = joint if test.crossed else np.diag(np.diag(joint))
        noises.append((np.trace(joint) - joint.sum() / len(a)) / (len(a) - 1))
        rates.append((a.mean(1), b.mean(1)))
    p, q = np.swapaxes(rates, 0, 1)
    if pooled:  # equal cells
        p, q = p.mean(0, keepdims=True), q.mean(0, keepdims=True)
        noises = [np.mean(noises) / test.classes]
    found = ((p - p.mean(1, keepdims=True)) * (q - q.mean(1, keepdims=True))).sum(1)
    return float((found / (test.groups - 1) - noises).mean())


@pytest.mark.parametrize("settings", [SETTINGS, POOLED])
@pytest.mark.parametrize("change", [lambda test: test, crossed])
def test_it_is_the_mean_over_pairs_of_different_seeds(change, settings):
    test, found = laws.outcomes(0.9, 0.1, 0, per_cell=20, chains=1, steps=1, seeds=3)
    test = change(test)
    (series,) = bias_series("s", found, test, settings)
    for t in range(2):
        rows = [(o.predictions == test.labels).astype(float) for o in found if o.generation == t]
        pairs = [by_hand(test, x, y, settings is POOLED) for x, y in combinations(rows, 2)]
        assert series.squared[0, 0, t] == pytest.approx(np.mean(pairs), abs=1e-7)


@pytest.mark.parametrize("change", [lambda test: test, crossed])
def test_resamples_are_those_of_the_pairs_moved_to_the_estimate(change):
    """A draw is the covariance of the resampled rates less the observed noise: of copies of one
    trial the same as of that trial alone."""
    test, found = laws.outcomes(0.9, 0.1, 0, per_cell=20, chains=2, steps=1, seeds=1)
    test, copies = change(test), [replace(o, seed=s) for o in found for s in (0, 1)]
    (one,), (two,) = (bias_series("s", trials, test, SETTINGS) for trials in (found, copies))
    for part in ("squared", "square", "floor"):
        np.testing.assert_allclose(getattr(two, part), getattr(one, part), atol=1e-7)
    assert (one.seeds_apart, two.seeds_apart) == (False, True)


def scattered(seed, sd, seeds=2, per_cell=60, bias=0.05):
    """Trials of one generation whose cells have their own scatter beside the bias; many chains."""
    test, _ = laws.outcomes(1.0, bias, seed, per_cell=per_cell, chains=1, steps=0, seeds=1)
    rng, found = np.random.default_rng(seed), []
    _, plain = laws.outcomes(1.0, bias, seed, per_cell=per_cell, chains=12, steps=0, seeds=seeds)
    for o in plain:
        lost = sd * rng.uniform(0, 2, (test.classes, test.groups))[test.labels, test.subgroups]
        wrong = rng.random(len(test.labels)) < lost
        found.append(replace(o, predictions=np.where(wrong, -1, o.predictions)))
    return test, found


def test_scatter_between_seeds_stays_out_of_b():
    """Rates lose 0 to 16 % at random in each cell and trial: .92 of the bias is left."""
    test, found = scattered(3, 0.08)
    (two,) = bias_series("s", found, test, SETTINGS)
    (one,) = bias_series("s", [o for o in found if o.seed == 0], test, SETTINGS)
    truth, scatter = (0.92 * 0.05) ** 2, 0.85**2 * 0.16**2 / 12
    assert two.mean[0] == pytest.approx(truth, abs=0.35 * truth)
    assert one.mean[0] == pytest.approx(truth + scatter, abs=0.35 * truth)


def test_a_place_with_one_sound_seed_is_missing_where_most_have_two():
    test, found = laws.outcomes(1.0, 0.08, 0, per_cell=20, steps=2, chains=2)
    cut = [replace(o, collapsed=(o.loop_seed, o.generation, o.seed) == (1, 1, 0)) for o in found]
    (series,) = bias_series("s", cut, test, SETTINGS)
    assert series.seeds_apart
    np.testing.assert_array_equal(series.seeds, [[2, 2, 2], [2, 1, 2]])
    np.testing.assert_array_equal(np.isnan(series.squared[0]), series.seeds < 2)
    assert np.isfinite(series.floor).all()
    few = [o for o in found if o.seed == 0 or (o.loop_seed, o.generation) == (0, 0)]
    (series,) = bias_series("s", few, test, SETTINGS)
    assert not series.seeds_apart
    assert np.isfinite(series.squared[0]).all()


@pytest.mark.parametrize("bias", ["md", "one_minus_meo"])
def test_readings_that_are_no_variance_have_no_pairs(bias):
    test, found = laws.outcomes(1.0, 0.08, 0, per_cell=20, steps=1, chains=2)
    settings = SETTINGS.model_copy(update={"dynamics": Dynamics(bias=bias)})
    (series,) = bias_series("s", found, test, settings)
    assert not series.seeds_apart


@pytest.mark.parametrize("draw", [resampled, permuted])
def test_a_tally_counts_sums_of_seeds_exactly(draw):
    """What a mean of seeds is measured from: a tally of whole numbers is the sum of the tallies."""
    test, found = laws.outcomes(1.0, 0.1, 0, per_cell=20, steps=0, chains=1, seeds=3)
    correct = np.stack([o.predictions == test.labels for o in found])
    total = draw(correct.sum(axis=0, keepdims=True).astype(float), test, 30, 0)
    np.testing.assert_array_equal(total.hits[:, 0], draw(correct, test, 30, 0).hits.sum(axis=1))
