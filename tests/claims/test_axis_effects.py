"""An axis as a question: changes at its values, and their differences by chain."""

from dataclasses import replace

import numpy as np
import pytest
from arm_worlds import World

from ray_selfloop.claims import axes
from ray_selfloop.claims.axes import Axis, AxisEffect, Point, effects
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.evaluation import metrics

FEW = Evaluation(resamples=60, permutations=60)
MD, ACCURACY, A = metrics.MD.name, metrics.ACCURACY.name, metrics.AMPLIFICATION.name
STEPS = {"treatment": (0.0, 0.0, -0.1), "other": (0.0, 0.0, -0.6), "no_synthetic": 0.0}
"""Logits that a subgroup loses per generation: the second value widens the gap faster."""


def axis(chains: int = 4, one_control: bool = True, **about: object) -> Axis:
    """Two values that share generation 0, and one control."""
    treatment, other, control = World(3, gap=0.4).arms(STEPS, chains=chains, **about)
    other = replace(other, arm="treatment")
    points = (Point("0.0", treatment, control), Point("0.3", other, control))
    return Axis("filter.drop", "", points, one_control)


@pytest.fixture(scope="module")
def found() -> list[AxisEffect]:
    return list(effects(axis(classifiers=("lenet", "resnet50"), seeds=(0, 1)), FEW))


def of(rows: list[AxisEffect], **wanted: str) -> list[AxisEffect]:
    return [row for row in rows if all(getattr(row, k) == v for k, v in wanted.items())]


def md(outcomes: list, test: object) -> float:
    """Of trials of one place, the mean by hand; pooled over classes."""
    right = [np.asarray(o.predictions) == test.labels for o in outcomes]
    rates = [[r[test.subgroups == g].mean() for g in range(test.groups)] for r in right]
    return float(np.mean([max(r) - min(r) for r in rates]))


def change(arm: object, chain: int, name: str) -> float:
    ends = [
        [o for o in arm.outcomes if (o.loop_seed, o.classifier, o.generation) == (chain, name, t)]
        for t in (arm.generations, 0)
    ]
    return md(ends[0], arm.test) - md(ends[1], arm.test)


def test_a_difference_is_that_of_the_chains_changes_by_loop_seed(found: list[AxisEffect]) -> None:
    first, second = axis(classifiers=("lenet", "resnet50"), seeds=(0, 1)).points
    (row,) = of(found, metric=MD, classifier="resnet50", against="0.0")
    for chain, value in row.each.items():
        changes = (change(p.treatment, int(chain), "resnet50") for p in (second, first))
        assert value == pytest.approx(next(changes) - next(changes))
    assert row.value == pytest.approx(np.mean(list(row.each.values())))
    assert (row.at, row.chains, row.interval) == ("0.3", 4, axes.IMAGES)
    assert 0 < row.low < row.value < row.high
    assert row.p < 0.05


def test_each_value_has_its_own_change_and_the_control_stands_once(
    found: list[AxisEffect],
) -> None:
    own = of(found, metric=MD, classifier="lenet", against="", arm="treatment")
    assert [row.at for row in own] == ["0.0", "0.3"]
    (control,) = of(found, metric=MD, classifier="lenet", arm="no_synthetic")
    assert control.note == axes.ONE_CONTROL
    assert not of(found, control="no_synthetic")


def test_controls_of_their_own_are_taken_off_before_values_are_compared() -> None:
    rows = list(effects(axis(one_control=False), FEW))
    assert len(of(rows, metric=MD, arm="no_synthetic")) == 2
    (plain,) = of(rows, metric=MD, against="0.0", control="")
    (less,) = of(rows, metric=MD, against="0.0", control="no_synthetic")
    assert less.value == pytest.approx(plain.value)  # here the controls are the same trials


def test_the_mean_over_networks_is_of_their_changes(found: list[AxisEffect]) -> None:
    rows = of(found, metric=ACCURACY, against="0.0", arm="treatment")
    by_name = {row.classifier: row.value for row in rows}
    assert set(by_name) == {"lenet", "resnet50", ""}
    assert by_name[""] == pytest.approx((by_name["lenet"] + by_name["resnet50"]) / 2)


def test_a_is_divided_by_that_of_the_first_value_where_both_share_generation_0(
    found: list[AxisEffect],
) -> None:
    first, second = of(found, metric=A, classifier="lenet", against="", arm="treatment")
    (ratio,) = of(found, metric=A, classifier="lenet", against="0.0")
    assert second.value > first.value
    assert ratio.value == pytest.approx(second.value / first.value, rel=0.15)
    assert ratio.low > 1
    assert set(ratio.each) == set(first.each) == {"0", "1", "2", "3"}


def test_values_that_differ_at_generation_0_have_no_ratio_of_a() -> None:
    first, _ = axis().points
    other, control = World(9, gap=0.4).arms({"treatment": 0.0, "no_synthetic": 0.0}, chains=4)
    both = Axis("training.lr", "", (first, Point("0.1", other, control)), False)
    (ratio,) = of(list(effects(both, FEW)), metric=A, against="0.0")
    assert np.isnan(ratio.value)
    assert ratio.note == axes.OTHER_START


def test_values_with_other_test_images_are_compared_by_the_chains_alone() -> None:
    first, _ = axis().points
    (other,) = World(9, images=200, gap=0.4).arms({"treatment": 0.0}, chains=4)
    both = Axis("dataset.ratios", "", (replace(first, control=None), Point("b", other)), False)
    (row,) = of(list(effects(both, FEW)), metric=MD, against="0.0")
    assert row.interval == axes.CHAINS
    assert row.note == f"{axes.UNCONTROLLED}; {axes.OTHER_IMAGES}"
    assert row.low < row.value < row.high


def test_without_measurable_bias_a_has_neither_a_ratio_nor_dots_nor_a_p() -> None:
    treatment, other = World(5, gap=0.0).arms({"treatment": 0.0, "other": 0.0}, chains=4)
    points = (Point("0.0", treatment), Point("0.3", replace(other, arm="treatment")))
    (ratio,) = of(
        list(effects(Axis("filter.drop", "", points, False), FEW)), metric=A, against="0.0"
    )
    assert np.isnan([ratio.value, ratio.p]).all()
    assert ratio.each == {}
    assert "no measurable bias" in ratio.note


@pytest.mark.parametrize("chains", [1, 2])
def test_with_fewer_than_three_chains_there_are_dots_and_no_interval(chains: int) -> None:
    for row in effects(axis(chains=chains), FEW):
        assert np.isnan([row.low, row.high, row.p]).all()
        assert row.interval == ""
        assert axes.FEW in row.note or np.isnan(row.value)
        assert len(row.each) in (chains, 0)
    assert sum(row.metric == MD for row in effects(axis(chains=chains), FEW)) == 4


def test_a_value_whose_last_generation_is_not_there_yet_says_nothing() -> None:
    whole = axis()
    first, second = whole.points
    early = [o for o in second.treatment.outcomes if o.generation < second.treatment.generations]
    cut = replace(second, treatment=replace(second.treatment, outcomes=early))
    rows = list(effects(replace(whole, points=(first, cut)), FEW))
    (row,) = of(rows, metric=MD, against="0.0")
    assert (row.chains, row.each) == (0, {})
    assert np.isnan(row.value)


def test_a_generator_that_is_too_poor_is_named_beside_a_gap_and_not_beside_accuracy() -> None:
    whole = axis()
    poor = replace(whole.points[1].treatment, not_converged="label fidelity 0.3")
    points = (whole.points[0], replace(whole.points[1], treatment=poor))
    rows = of(list(effects(replace(whole, points=points), FEW)), against="0.0")
    assert "too poor" in of(rows, metric=MD)[0].note
    assert "too poor" not in of(rows, metric=ACCURACY)[0].note
