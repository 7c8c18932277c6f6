"""The split of a change into level and distribution: benchmarks/level_split.py, in short."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from ray_selfloop.evaluation.difficulty import Link, estimated, mixed
from ray_selfloop.evaluation.tallies import resampled
from ray_selfloop.simulator import Layout, Step, World

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "level_split.py"
SPEC = importlib.util.spec_from_file_location("level_split", SCRIPT)
split = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(split)


@pytest.mark.parametrize("sd", [0.0, 1.5, 4.0])
def test_the_link_is_the_mean_over_difficulties_and_has_its_inverse(sd):
    link, z = Link.of(sd), np.linspace(-6, 6, 41)
    rng = np.random.default_rng(0)
    drawn = 1 / (1 + np.exp(-(z + sd * rng.standard_normal((200_000, 1)))))
    np.testing.assert_allclose(link.rate(z), drawn.mean(axis=0), atol=4e-3)
    np.testing.assert_allclose(link.rate(z), mixed(z, sd), atol=1e-5)
    np.testing.assert_allclose(link.logit(link.rate(z)), z, atol=1e-6)


@pytest.mark.parametrize("sd", [0.0, 2.0])
def test_a_move_shifts_all_of_a_class_alike_and_reaches_its_accuracy(sd):
    rng, link = np.random.default_rng(1), Link.of(sd)
    support = rng.integers(5, 60, (40, 3)).astype(float)
    support[0, 2] = 0
    rates, target = rng.uniform(0.05, 0.95, (7, 40, 3)), rng.uniform(0.05, 0.95, (7, 40))
    moved = link.moved(rates, target, support)
    assert np.isnan(moved[:, 0, 2]).all()
    weight = support / support.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.nansum(weight * moved, axis=-1), target, atol=1e-9)
    shift = (link.logit(moved) - link.logit(rates))[:, 1:]
    np.testing.assert_allclose(shift, np.broadcast_to(shift[..., :1], shift.shape), atol=1e-5)


@pytest.mark.parametrize("layout", [Layout.crossed_digits(300), Layout.cifar(6, 5, 100)])
@pytest.mark.parametrize("sd", [0.0, 1.5, 3.0])
def test_difficulty_is_read_from_generation_0(layout, sd):
    world = World(layout, level=1.5, difficulty=sd, chain=0.1, seed=0.1)
    (arm,) = world.arms({"treatment": Step()}, chains=3, generations=0, seed=4)
    correct = np.stack([o.predictions == arm.test.labels for o in arm.outcomes])
    tally = resampled(correct, arm.test, 0, 0)
    assert estimated(tally, np.arange(3)) == pytest.approx(sd, abs=0.35)
    alone = resampled(correct[:1], arm.test, 0, 0)
    assert np.isnan(estimated(alone, np.zeros(1, int))) == (not arm.test.crossed)


@pytest.mark.parametrize("name", ["digits 36", "CIFAR 4 x 5 x 100"])
@pytest.mark.parametrize("gap", [pytest.param(0.0, marks=pytest.mark.slow), 0.6])
def test_a_mechanical_change_is_all_level(name, gap):
    """The split before this one called 20 to 65 % of such a change distribution."""
    cell = split.Cell(name, difficulty=1.5, gap=gap, falling=True)
    found = split.measured(cell, 25, seed=0)
    for metric in ("md_pooled", "md_per_class", "gap_variance_per_class"):
        rest, level = found[metric, "distribution"], found[metric, "level"]
        assert abs(rest.mean) < 3.5 * rest.error + 0.08 * abs(level.mean), metric


def test_a_change_of_one_subgroup_is_not_called_level():
    cell = split.Cell("digits 36", difficulty=1.5, gap=0.6, falling=True)
    found = split.measured(cell, 12, seed=1, harm=-1.5)
    rest = found["md_per_class", "distribution"]
    assert rest.mean > 3 * rest.error
    assert rest.mean > 0.5 * found["md_per_class", "level"].mean
