"""The errors of q and u of a step; which generations a step takes: test_factors."""

import pytest

from ray_selfloop.config.evaluation import Dynamics
from ray_selfloop.equation6.steps import queue_error, steps
from ray_selfloop.evaluation.rows import Rows, Where


def table(ends):
    rows = Rows("s", "kept")
    for g, (value, low, high) in enumerate(ends, start=1):
        rows.add("u", [value, low, high], Where(0, g))
        rows.add("q", [0.9], Where(0, g))
    return rows.frame()


def test_the_error_of_a_queue_is_that_of_independent_generations():
    assert queue_error({1: 0.03, 2: 0.04}, {1: 1.0, 2: 1.0}) == pytest.approx(0.025)
    assert queue_error({1: 0.03, 2: 0.04}, {1: 2.0, 2: 0.0}) == pytest.approx(0.03)
    assert queue_error({1: 0.03}, {1: 1.0, 2: 1.0}) == pytest.approx(0.015)  # 2: designed
    assert queue_error({1: 0.03}, {}) == 0.0


@pytest.mark.parametrize(("level", "quantile"), [(0.95, 1.96), (0.9, 1.645)])
def test_an_interval_gives_the_error_of_its_level(level, quantile):
    found = steps(
        table([(0.1, 0.06, 0.14), (0.2, 0.2, 0.2)]),
        {"s": {("a", 0, 1): {1: 5.0}, ("a", 0, 2): {1: 5.0, 2: 5.0}}},
        Dynamics(),
        level,
    )
    first, second = found["s", "", 0, 0], found["s", "", 0, 1]
    assert first.u_error == pytest.approx(0.04 / quantile, rel=1e-3)
    assert second.u_error == pytest.approx(first.u_error / 2)  # a designed kept set has no error
    assert first.q_error == 0.0


def test_a_row_without_an_interval_has_no_known_error():
    nan = float("nan")
    found = steps(table([(0.1, nan, nan)]), {"s": {("a", 0, 1): {1: 5.0}}}, Dynamics())
    assert (found["s", "", 0, 0].u, found["s", "", 0, 0].u_error) == (0.1, 0.0)
