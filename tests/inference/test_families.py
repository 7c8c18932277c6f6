"""Several statements, several networks: adjusted p values against their definitions."""

import numpy as np
import pytest

from ray_selfloop.inference.families import at_least, holm, needed


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_some_all_and_most():
    p = [0.001, 0.02, 0.2, 0.5, 0.9]
    assert at_least(p, needed("some", 5)) == pytest.approx(0.005)
    assert at_least(p, needed("all", 5)) == 0.9
    assert at_least(p, needed("most", 5)) == pytest.approx(0.6)
    assert needed("most", 4) == 3


def test_an_unknown_p_is_no_help():
    assert at_least([0.01, float("nan")], 1) == pytest.approx(0.02)
    assert np.isnan(at_least([0.01, float("nan")], 2))
    assert np.isnan(at_least([], 1))


@pytest.mark.parametrize("quantifier", ["all", "most", "some"])
def test_a_false_statement_about_networks_holds_at_its_level(quantifier):
    """As many networks as just do not make it true have an effect that is always found."""
    rng, n, networks = np.random.default_rng(0), 20_000, 5
    p = rng.random((n, networks))
    p[:, : needed(quantifier, networks) - 1] = 1e-9
    rate = np.mean([at_least(row, needed(quantifier, networks)) < 0.05 for row in p])
    assert rate <= 0.05 + 3 * (0.05 / n) ** 0.5
    assert rate > 0.04
