"""The mean over chains of a level: what its interval holds, and what it is with one chain."""

import numpy as np
import pytest

from ray_selfloop.inference.chains import image_variance, over_chains
from ray_selfloop.inference.images import reverse_percentile


def test_three_chains_cover_their_mean_where_a_bootstrap_of_runs_does_not():
    rng, inside, naive = np.random.default_rng(2), [], []
    for _ in range(500):
        image = 0.3 * rng.standard_normal()  # what the test images add to all chains
        chains = rng.standard_normal(3) + image
        draws = np.vstack([chains, chains + 0.3 * rng.standard_normal((200, 1))])
        _, low, high = over_chains(draws, 0.9)
        inside.append(low <= 0 <= high)
        runs = chains[rng.integers(3, size=(200, 3))].mean(axis=1)
        naive.append(np.quantile(runs, 0.05) <= 0 <= np.quantile(runs, 0.95))
    assert 0.86 <= np.mean(inside) <= 0.97
    assert np.mean(naive) < 0.75


def test_one_chain_has_the_image_interval_alone():
    draws = np.random.default_rng(4).standard_normal((501, 1))
    value, low, high = over_chains(draws, 0.95)
    expected = reverse_percentile(draws[:, 0], 0.95)
    assert (value, low, high) == (draws[0, 0], *(float(end) for end in expected))


def test_chains_that_agree_by_chance_are_no_surer_than_their_images():
    rng = np.random.default_rng(0)
    draws = np.concatenate([np.full((1, 3), 0.1), rng.normal(0.1, 0.02, (400, 3))])
    _, low, high = over_chains(draws, 0.95)
    assert high - low == pytest.approx(2 * 1.96 * image_variance(draws) ** 0.5, rel=0.05)


def test_a_bias_that_the_draws_show_is_taken_off_and_the_interval_widened_to_the_value():
    rng = np.random.default_rng(5)
    chains = np.array([0.4, 0.5, 0.6])
    noise = 0.01 * rng.standard_normal((400, 3))
    plain = over_chains(np.vstack([chains, chains + noise]), 0.9)
    for bias in (0.02, 0.5):
        value, low, high = over_chains(np.vstack([chains, chains + bias + noise]), 0.9)
        assert value == pytest.approx(0.5)
        assert low == pytest.approx(plain[1] - bias)
        assert high == pytest.approx(max(plain[2] - bias, 0.5))
