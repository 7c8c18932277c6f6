"""p values and intervals over chains: closed forms, the tail, and that the two are one."""

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp
from scipy.stats import t as student

from ray_selfloop.inference import chains
from ray_selfloop.inference.chains import Effect, critical, effect, effect_of_chains, tail, tails

ALPHAS = (0.05, 0.01, 0.001)


def shared_draws(rng, values, shared, own=0.0, resamples=400):
    """Observed values ``(m,)`` with image resamples that move all chains alike, and each apart."""
    noise = shared**0.5 * rng.standard_normal((resamples, 1))
    noise = noise + own**0.5 * rng.standard_normal((resamples, len(values)))
    return np.vstack([values, values + noise])


def test_without_a_shared_part_it_is_the_t_test():
    rng = np.random.default_rng(0)
    for m in (2, 3, 7):
        values = rng.standard_normal(m) + 1
        found = effect_of_chains(values, 0.95)
        reference = ttest_1samp(values, 0.0)
        assert found.p_change() == pytest.approx(reference.pvalue, rel=1e-6)
        ends = reference.confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((ends.low, ends.high), rel=1e-5)


def test_without_scatter_between_chains_it_is_the_normal_law():
    assert tail(1.96, 0.0, 1.0, 3) == pytest.approx(2 * norm.sf(1.96))
    assert critical(0.95, 3, 1e9) == pytest.approx(norm.ppf(0.975), rel=1e-3)
    assert critical(0.95, 3) == pytest.approx(student.ppf(0.975, 2), rel=1e-3)


@pytest.mark.parametrize("m", [2, 3, 5, 10])
@pytest.mark.parametrize("ratio", [200.0, 10.0, 1.0, 0.1])
def test_p_values_hold_in_the_tail(m, ratio):
    """Satterthwaite's freedom gave 10 times nominal at .001 for 3 chains and a ratio of 10."""
    rng, n = np.random.default_rng(0), 60_000
    values = rng.standard_normal((n, m)) + ratio**-0.5 * rng.standard_normal((n, 1))
    found = tails(np.abs(values.mean(1)), values.var(1, ddof=1) / m, 1 / ratio, m)
    for alpha in ALPHAS:
        error = (alpha / n) ** 0.5
        assert (found < alpha).mean() <= alpha * 1.1 + 3 * error


def test_it_is_not_blind_where_images_count():
    """t with m - 1 freedom on the whole variance keeps the level and nearly never rejects."""
    rng, n, m = np.random.default_rng(0), 20_000, 5
    values = rng.standard_normal((n, m)) + 10**-0.5 * rng.standard_normal((n, 1))
    between = values.var(1, ddof=1) / m
    ours = tails(np.abs(values.mean(1)), between, 0.1, m)
    whole = 2 * student.sf(np.abs(values.mean(1)) / np.sqrt(between + 0.1), m - 1)
    assert (ours < 0.05).mean() > 1.7 * (whole < 0.05).mean()


def test_many_at_once_are_one_by_one():
    found = tails(np.array([0.5, 2.0]), np.array([0.3, 0.1]), 0.2, 4)
    assert found == pytest.approx([tail(0.5, 0.3, 0.2, 4), tail(2.0, 0.1, 0.2, 4)])


def test_an_interval_ends_where_its_p_value_crosses():
    rng = np.random.default_rng(1)
    found = effect(shared_draws(rng, rng.standard_normal(3), 0.2, 0.1), 0.9)
    assert found.p_above(found.low) == pytest.approx(0.1, rel=1e-4)
    assert found.p_below(found.high) == pytest.approx(0.1, rel=1e-4)
    assert found.p_above(found.low - 1e-3) < 0.1 < found.p_above(found.low + 1e-3)


def test_critical_values_are_those_of_the_interval():
    found = Effect(0.0, 0, 0, 0.3, 0.1, 4)
    reach = float(critical(0.95, 4, 0.1 / 0.3)) * found.error
    assert found.interval(0.95)[1] == pytest.approx(reach, rel=2e-3)


def test_chains_that_agree_are_no_surer_than_their_images():
    rng = np.random.default_rng(2)
    draws = shared_draws(rng, np.full(3, 0.1), 0.0, own=3e-4)
    found = effect(draws, 0.95)
    assert found.between < 1e-12
    assert found.own == pytest.approx(1e-4, rel=0.3)
    assert found.p_change() == pytest.approx(2 * norm.sf(0.1 / found.error), rel=0.05)


def test_the_shared_part_is_what_moves_all_chains():
    rng = np.random.default_rng(3)
    draws = shared_draws(rng, rng.standard_normal(4), 0.5, own=0.3, resamples=4000)
    assert chains.shared_variance(draws) == pytest.approx(0.5, rel=0.1)
    assert chains.image_variance(draws) == pytest.approx(0.5 + 0.3 / 4, rel=0.1)


def test_equivalence_reads_off_the_same_interval():
    found = Effect(0.001, 0, 0, 1e-6, 0.0, 5)
    low, high = found.interval(0.95)
    inside = max(abs(low), abs(high))
    assert found.p_inside(inside * 1.01) < 0.05 < found.p_inside(inside * 0.99)


def test_one_chain_or_none_has_no_p_value():
    rng = np.random.default_rng(4)
    one = effect(shared_draws(rng, np.array([0.3]), 0.01), 0.95)
    assert one.low < 0.3 < one.high
    assert not one.tested
    assert np.isnan(one.p_change())
    assert effect(np.empty((5, 0)), 0.95).chains == 0
    undefined = effect(np.vstack([[0.1, 0.2], np.full((9, 2), np.nan)]), 0.95)
    assert (undefined.value, undefined.tested) == (pytest.approx(0.15), False)


def test_chains_and_resamples_that_all_say_the_same_are_certain():
    found = effect(np.full((5, 3), 0.2), 0.95)
    assert (found.low, found.high) == pytest.approx((0.2, 0.2))
    assert found.p_change() < 1e-9
    assert effect(np.zeros((5, 3)), 0.95).p_change() == 1.0


# --- gaps near their floor -----------------------------------------------------------------------


def test_the_floor_of_a_gap_is_told_from_the_gap():
    """Gaps of 0.03 and 0 seen through noise of 0.02: draws lie around the gap without it."""
    rng = np.random.default_rng(3)
    for true in (0.03, 0.0):
        seen = np.hypot(true, 0.02)
        again = 2 * seen - true + 0.001 * rng.standard_normal((400, 3))
        floor, start = chains.noise_floor(np.vstack([np.full((1, 3), seen), again]))
        assert floor == pytest.approx(0.02, abs=0.001)
        assert start == pytest.approx(true, abs=0.001)


def test_near_its_floor_less_of_a_change_is_seen():
    plain = Effect(0.0, -0.01, 0.01, 2e-5, 0.0, 5)
    near = Effect(0.0, -0.01, 0.01, 2e-5, 0.0, 5, floor=0.04, start=0.0)
    far = Effect(0.0, -0.01, 0.01, 2e-5, 0.0, 5, floor=0.04, start=1.0)
    assert plain.seen(0.02) == 0.02
    assert near.seen(0.02) == pytest.approx(np.hypot(0.04, 0.02) - 0.04)
    assert far.seen(0.02) == pytest.approx(0.02, rel=0.01)
    assert far.seen(-0.02) == pytest.approx(-0.02, rel=0.01)
    assert near.p_short_of(0.02) > 5 * plain.p_short_of(0.02)
    assert plain.p_short_of(0.02) == plain.p_below(0.02)
    assert plain.p_short_of(-0.02) == plain.p_above(-0.02)
    assert near.p_inside(0.02) >= near.p_short_of(0.02)


def test_a_fall_is_seen_as_of_a_gap_that_is_no_smaller():
    near = Effect(0.0, -0.01, 0.01, 1e-9, 0.0, 5, floor=0.04, start=0.0)
    assert near.seen(-0.02) == pytest.approx(0.04 - np.hypot(0.04, 0.02))
    assert near.p_short_of(-0.02) < 0.05


def test_of_what_falls_where_its_gap_grows_all_is_turned():
    """MEO is 1 less a gap: what is seen of its fall is what is seen of the gap's growth."""
    gap = Effect(0.001, -0.01, 0.01, 2e-5, 0.0, 5, floor=0.04, start=0.01)
    meo = Effect(-0.001, -0.01, 0.01, 2e-5, 0.0, 5, floor=0.04, start=0.01, way=-1)
    for change in (0.02, -0.02):
        assert meo.seen(-change) == pytest.approx(-gap.seen(change))
        assert meo.p_short_of(-change) == pytest.approx(gap.p_short_of(change))
