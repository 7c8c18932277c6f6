"""Power and the smallest effect that is found: against the noncentral t, and by simulation."""

import numpy as np
import pytest
from scipy.stats import nct, ttest_1samp
from scipy.stats import t as student

from ray_selfloop.inference.chains import Effect
from ray_selfloop.inference.power import detectable, detectable_from, power_of


@pytest.mark.parametrize("m", [2, 3, 8])
def test_without_a_shared_part_it_is_the_noncentral_t(m):
    for alpha in (0.05, 0.0125):
        expected = nct.sf(student.ppf(1 - alpha / 2, m - 1), m - 1, 3.0)
        assert power_of(3.0, 1.0, m, alpha) == pytest.approx(expected, abs=0.004)


def test_the_smallest_effect_is_found_with_the_power_that_was_asked_for():
    for m, share in ((3, 0.0), (5, 0.3), (12, 0.0)):
        size = detectable(0.01, m, 0.0125, 0.8, share)
        assert power_of(size, 0.01, m, 0.0125, share) == pytest.approx(0.8, abs=1e-3)


def test_one_chain_finds_nothing():
    assert power_of(1.0, 0.1, 1, 0.05) == 0
    assert detectable(0.1, 1, 0.05, 0.8) == float("inf")
    assert detectable_from(0.1, 1, 0.05, 0.8) == float("inf")


@pytest.mark.parametrize("m", [3, 5, 8])
def test_an_effect_of_the_printed_size_is_found_in_four_of_five_repetitions(m):
    """The printed effect rests on an error that is itself estimated from m chains."""
    rng, found, n = np.random.default_rng(m), 0, 2000
    for first in rng.standard_normal((n, m)):
        printed = detectable_from(float(first.std(ddof=1)) / m**0.5, m, 0.05, 0.8)
        again = printed + rng.standard_normal(m)
        test = ttest_1samp(again, 0.0)
        found += bool(test.pvalue < 0.05 and test.statistic > 0)
    assert 0.77 < found / n < 0.83


@pytest.mark.parametrize(("share", "own"), [(0.3, 0.0), (0.6, 0.0), (0.0, 0.7), (0.2, 0.6)])
def test_so_it_is_where_test_images_are_much_of_the_error(share, own):
    """The error's known part does not scatter: an effect for a wholly unknown one is too large."""
    rng, m, alpha, n, found = np.random.default_rng(9), 3, 0.05, 3000, 0

    def drawn():
        values = (1 - share) ** 0.5 * m**0.5 * rng.standard_normal(m)
        return values + share**0.5 * rng.standard_normal()

    def effect_of(values):
        between = float(values.var(ddof=1)) / m
        return Effect(float(values.mean()), 0, 0, between, share, m, own)

    for _ in range(n):
        first = effect_of(drawn())
        printed = detectable_from(first.error, m, alpha, 0.8, *first.known)
        found += effect_of(drawn() + printed).p_above(0.0) <= alpha
    assert 0.74 < found / n < 0.93  # 1.0 for a wholly unknown error
