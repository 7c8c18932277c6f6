"""Levels of several looks: one look is the fixed design, all looks together keep the level."""

import numpy as np
import pytest
from scipy.stats import t as student

from ray_selfloop.inference.sequential import levels

LOOKS = (3, 5, 8, 12)


def test_one_look_is_the_fixed_design():
    assert levels((8,), 0.05) == (0.05,)


def test_levels_rise_with_the_number_of_chains():
    found = np.array(levels(LOOKS, 0.05))
    assert found / found[-1] == pytest.approx(np.array(LOOKS) / 12)
    assert 0.05 / 4 < found[-1] < 0.05


@pytest.mark.parametrize("looks", [LOOKS, (2, 3), (5, 10, 20)])
@pytest.mark.parametrize("alpha", [0.05, 0.0125])
def test_all_looks_together_keep_the_level(looks, alpha):
    """On other draws than those that made the levels; at full level at every look it is doubled."""
    rng, n = np.random.default_rng(7), 100_000
    values = rng.standard_normal((n, looks[-1]))
    p = np.stack(
        [
            2 * student.sf(np.abs(v.mean(1)) / (v.std(1, ddof=1) / m**0.5), m - 1)
            for m in looks
            for v in [values[:, :m]]
        ]
    )
    falsely = (p <= np.array(levels(looks, alpha))[:, None]).any(0).mean()
    assert abs(falsely - alpha) < 3 * (alpha / n) ** 0.5 + 0.02 * alpha
    assert (p <= alpha).any(0).mean() > 1.2 * alpha


def test_what_all_chains_share_makes_the_looks_more_alike():
    rng, n = np.random.default_rng(8), 50_000
    from ray_selfloop.inference.chains import tails

    values = rng.standard_normal((n, 12)) + rng.standard_normal((n, 1))
    hit = np.zeros(n, bool)
    for m, a in zip(LOOKS, levels(LOOKS, 0.05), strict=True):
        v = values[:, :m]
        hit |= tails(np.abs(v.mean(1)), v.var(1, ddof=1) / m, 1.0, m) <= a
    assert hit.mean() < 0.05
