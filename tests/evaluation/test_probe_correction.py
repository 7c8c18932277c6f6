"""Shares behind a probe that errs: exact where they can be, honest about what it costs."""

from itertools import product

import numpy as np
import pytest

from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation.fidelity import share_change, share_counts
from ray_selfloop.evaluation.generator_rows import Generated, Reference, generator_rows
from ray_selfloop.evaluation.probe_correction import (
    corrected_shares,
    error_inflation,
    probed_change,
)

LOPSIDED = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.25, 0.25, 0.5]])  # reads 0 too often
IDENTITY = np.eye(3)[None]


def matrices(count, groups, seed=0):
    """Random confusion matrices ``(count, G, G)`` that lean to the diagonal; rows sum to 1."""
    draw = np.random.default_rng(seed).dirichlet(np.ones(groups), size=(count, groups))
    return 0.5 * np.eye(groups) + 0.5 * draw


def test_a_probe_without_errors_changes_nothing():
    counts = np.array([[3.0, 0.0, 7.0], [1.0, 1.0, 2.0]])
    found = corrected_shares(counts, np.tile(np.eye(3), (2, 1, 1)))
    np.testing.assert_allclose(found, [[0.3, 0.0, 0.7], [0.25, 0.25, 0.5]], atol=1e-12)


@pytest.mark.parametrize("groups", [2, 3, 5])
def test_the_law_of_the_readings_gives_back_the_true_shares(groups):
    law = matrices(200, groups)
    true = np.random.default_rng(1).dirichlet(np.full(groups, 0.5), size=200)
    read = np.einsum("ci,cij->cj", true, law)
    np.testing.assert_allclose(corrected_shares(read, law), true, atol=1e-7)
    scaled = corrected_shares(read * 730, law * 50)  # counts and shares mean the same
    np.testing.assert_allclose(scaled, true, atol=1e-7)


def test_readings_that_no_shares_can_give_are_answered_by_the_nearest_shares():
    grid = np.array(
        [p for p in product(np.linspace(0, 1, 101), repeat=3) if abs(sum(p) - 1) < 1e-9]
    )
    reachable = grid @ LOPSIDED
    for read in ([0.0, 0.5, 0.5], [0.1, 0.9, 0.0], [1.0, 0.0, 0.0], [0.2, 0.1, 0.7]):
        (found,) = corrected_shares(np.array([read]), LOPSIDED[None])
        assert found.min() >= 0
        assert found.sum() == pytest.approx(1)
        best = np.linalg.norm(reachable - read, axis=1).min()
        ours = np.linalg.norm(found @ LOPSIDED - read)
        assert best - 0.011 < ours < best + 1e-6  # the grid's step is 0.01


def test_shares_of_many_simulated_readings_are_recovered():
    rng, true = np.random.default_rng(2), np.array([0.1, 0.2, 0.7])
    shown = rng.choice(3, size=200_000, p=true)
    read = (rng.random(len(shown))[:, None] > LOPSIDED[shown].cumsum(axis=1)).sum(axis=1)
    counts = np.bincount(read, minlength=3).astype(float)
    assert abs(counts / counts.sum() - true).max() > 0.15
    np.testing.assert_allclose(corrected_shares(counts[None], LOPSIDED[None])[0], true, atol=0.01)


def test_a_class_without_images_has_no_shares_and_a_blind_probe_still_gives_some():
    counts = np.array([[0.0, 0.0, 0.0], [5.0, 3.0, 2.0]])
    found = corrected_shares(counts, np.stack([LOPSIDED, np.full((3, 3), 1 / 3)]))
    assert np.isnan(found[0]).all()
    assert found[1].sum() == pytest.approx(1)
    assert found[1].min() >= 0


def test_error_inflation_is_the_ratio_of_standard_errors():
    rng, p, n = np.random.default_rng(3), np.array([[0.3, 0.3, 0.4]]), 4_000
    assert error_inflation(IDENTITY, p)[0] == pytest.approx(1)
    assert error_inflation(np.full((1, 3, 3), 1 / 3), p)[0] == np.inf
    read = rng.multinomial(n, p[0] @ LOPSIDED, size=(4_000, 1)).astype(float)
    plain = rng.multinomial(n, p[0], size=(4_000, 1)) / n
    errors = [s.var(axis=0).sum() for s in (corrected_shares(read, LOPSIDED[None]), plain)]
    expected = error_inflation(LOPSIDED[None] * 50, p * 1_000)[0]
    assert expected > 1.5
    assert np.sqrt(errors[0] / errors[1]) == pytest.approx(expected, rel=0.05)


def perfect_worlds(classes, images, real, seed):
    """Readings of a perfect generator, and confusion counts of ``real`` images per subgroup.

    Every class is a world of its own: the true matrix is the same, the counted one is not.
    """
    rng, shares = np.random.default_rng(seed), np.tile([0.2, 0.3, 0.5], (classes, 1))
    counts = rng.multinomial(images, shares[0] @ LOPSIDED, size=classes).astype(float)
    confusion = rng.multinomial(real, LOPSIDED, size=(classes, 3)).astype(float)
    return counts, shares, confusion


@pytest.mark.parametrize(("images", "real"), [(60, 50), (600, 20)])
def test_a_perfect_generator_has_no_unbalance_behind_the_probes_lean(images, real):
    found, rng = [], np.random.default_rng(5)
    for seed in range(12):
        counts, shares, confusion = perfect_worlds(10, images, real, seed)
        found.append(probed_change(counts, shares, confusion, 160, 0.95, rng).change.u.mean)
        raw = share_change(counts, shares, 50, 0.95, rng).u.mean
        assert raw[1] > 0.05  # what the probe's own lean would be taken for
    value, low, _ = np.array(found).T
    assert abs(value.mean()) < 0.02 + 3 * value.std() / 12**0.5
    assert (low <= 0).sum() >= 11


def test_an_unbalance_behind_few_real_images_is_not_understated():
    """True .3: less a perfect generator's total variation it would read .12."""
    rng, shares = np.random.default_rng(9), np.tile([0.2, 0.3, 0.5], (10, 1))
    true, found = np.array([0.5, 0.1875, 0.3125]), []
    for _ in range(6):
        counts = rng.multinomial(600, true @ LOPSIDED, size=10).astype(float)
        confusion = rng.multinomial(20, LOPSIDED, size=(10, 3)).astype(float)
        found.append(probed_change(counts, shares, confusion, 160, 0.95, rng).change.u.mean[0])
    assert 0.2 < np.mean(found) < 0.37


def test_an_unbalance_is_found_behind_the_errors_with_its_sign():
    shares, true = np.array([[0.5, 0.3, 0.2]]), np.array([0.2, 0.3, 0.5])
    counts = np.round(30_000 * true @ LOPSIDED)[None]
    found = probed_change(
        counts, shares, LOPSIDED[None] * 5_000, 50, 0.95, np.random.default_rng(0)
    )
    np.testing.assert_allclose(found.shares[0, 0], true, atol=1e-3)
    assert found.change.variation[0, 0] == pytest.approx(0.3, abs=1e-3)
    assert found.change.signed[0, 0] == pytest.approx(-0.3, abs=1e-3)


def test_draws_scatter_as_the_estimate_does_over_worlds():
    counts, shares, confusion = perfect_worlds(300, 300, 60, seed=6)
    found = probed_change(counts, shares, confusion, 100, 0.95, np.random.default_rng(7)).shares
    between, within = found[0].std(axis=0), found[1:].std(axis=0).mean(axis=0)
    np.testing.assert_allclose(within, between, rtol=0.2)
    exact = probed_change(
        counts, shares, confusion * 1e6, 100, 0.95, np.random.default_rng(7)
    ).shares
    assert (exact[1:].std(axis=0).mean(axis=0) < 0.9 * within).all()  # the matrix's own part


def test_rows_of_a_probed_split_carry_corrected_shares_with_intervals():
    rng, shares = np.random.default_rng(8), np.array([[0.2, 0.3, 0.5]] * 2)
    labels = np.repeat([0, 1], 400)
    read = np.concatenate([rng.choice(3, 400, p=row @ LOPSIDED) for row in shares])
    reference = Reference({}, shares, ("c0", "c1"), ("a", "b", "c"))
    settings = Evaluation(resamples=100)

    def table(confusion):
        split = {"kept": Generated({}, labels, None, read, confusion)}
        return generator_rows(1, split, reference, settings)

    probed, raw = table(np.tile(LOPSIDED * 200, (2, 1, 1))), table(None)
    found = probed[probed["metric"] == "subgroup_share"]
    expected = corrected_shares(
        share_counts(labels, read, 2, 3)[:, :3], np.tile(LOPSIDED, (2, 1, 1))
    )
    np.testing.assert_allclose(found["value"], expected.ravel())
    assert (found["low"] <= found["value"]).all()
    assert (found["high"] >= found["value"]).all()
    assert (found["high"] - found["low"] > 0.05).all()
    u, u_raw = (t[(t["metric"] == "u") & (t["class"] == "")].iloc[0] for t in (probed, raw))
    assert u["low"] <= 0 <= u["high"]
    assert u_raw["low"] > 0.05  # the probe's lean, taken for unbalanced generation
    assert "none_clear" in set(raw["metric"]) - set(probed["metric"])  # a probe never says so
    assert probed.equals(table(np.tile(LOPSIDED * 200, (2, 1, 1))))
