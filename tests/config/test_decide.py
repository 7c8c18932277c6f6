"""Settings of a sweep that goes on until it is decided: what is refused, and whose chains."""

from pathlib import Path

import pytest
from conftest import TWO_STARTS

from ray_selfloop.config import load
from ray_selfloop.config.decide import Decide, all_at_look, at_look, grown
from ray_selfloop.errors import ConfigError


def test_an_empty_group_as_a_word_has_the_defaults() -> None:
    sweep, _ = load.load(None, ["decide={}"])
    assert sweep.decide == Decide()
    assert sweep.decide.looks == (3, 5, 8, 12)
    assert load.load(None, [])[0].decide is None


def test_a_key_of_the_group_as_a_word_turns_it_on() -> None:
    sweep, _ = load.load(TWO_STARTS, ["decide.looks=[2, 4]"])
    assert sweep.decide == Decide(looks=(2, 4))


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("decide={looks: [3, 3]}", "must rise from look to look"),
        ("decide={looks: [5, 3]}", "must rise from look to look"),
        ("decide={looks: [1, 3]}", "the first look needs 2 chains"),
        ("decide={looks: [0, 3]}", "the first look needs 2 chains"),
        ("decide={looks: []}", "decide.looks"),
        ("decide={hours: 0}", "decide.hours"),
        ("decide={look: [3]}", "decide.look"),
    ],
)
def test_looks_that_cannot_be_made_are_refused_by_file_and_key(
    tmp_path: Path, word: str, named: str
) -> None:
    file = tmp_path / "asked.yaml"
    file.write_text(word.replace("=", ": ", 1))
    with pytest.raises(ConfigError) as refused:
        load.load(str(file), [])
    said = str(refused.value)
    assert "asked.yaml" in said
    assert "decide.loo" in said or "decide.hours" in said
    assert named in said
    assert "\n" not in said


def test_an_axis_over_chains_is_refused_beside_looks() -> None:
    axis = "axes={loop.loop_seeds: [[0, 1], [2, 3]]}"
    with pytest.raises(ConfigError, match=r"axes\.loop\.loop_seeds: with decide .* decide=null"):
        load.load(None, [axis, "decide={}"])
    with pytest.raises(ConfigError, match=r"axes\.loop\.loop_seeds"):
        load.load(None, ["axes={both: [{loop.loop_seeds: [0, 1]}]}", "decide={}"])
    assert load.load(None, [axis, "decide=null"])[1]


@pytest.mark.parametrize("axis", ["decide: [null, {}]", "decide.looks: [[2, 3], [3, 4]]"])
def test_looks_are_no_axis(axis: str) -> None:
    with pytest.raises(ConfigError, match=r"decide.*the sweep is decided as a whole"):
        load.load(None, [f"axes={{{axis}}}"])


@pytest.mark.parametrize(
    ("seeds", "chains", "found"),
    [
        ((0,), 3, (0, 1, 2)),
        ((7, 3), 4, (7, 3, 8, 9)),
        ((4, 5, 6), 2, (4, 5)),
        ((1, 2), 2, (1, 2)),
    ],
)
def test_chains_grow_from_those_given(
    seeds: tuple[int, ...], chains: int, found: tuple[int, ...]
) -> None:
    assert grown(seeds, chains) == found


def test_every_look_holds_the_chains_of_the_one_before() -> None:
    held: tuple[int, ...] = ()
    for chains in Decide().looks:
        now = grown((5, 2), chains)
        assert len(set(now)) == chains
        assert now[: len(held)] == held
        held = now


def test_a_look_sets_the_chains_of_the_sweep_and_of_every_scenario() -> None:
    words = ["loop.loop_seeds=[4]", "decide={}", "axes={loop.generations: [1, 2]}"]
    sweep, scenarios = load.load(None, words)
    whole, each = all_at_look(sweep, scenarios, 3)
    assert whole == at_look(sweep, 3)
    assert {s.sweep.loop.loop_seeds for s in each} == {whole.loop.loop_seeds} == {(4, 5, 6)}
    assert [s.sweep.loop.generations for s in each] == [1, 2]
    assert sweep.loop.loop_seeds == (4,)
