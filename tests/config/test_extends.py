"""Sweep files that build on others, and axes whose values set several keys."""

from pathlib import Path

import pytest

from ray_selfloop.config import load
from ray_selfloop.config.load import sweep_file
from ray_selfloop.errors import ConfigError


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_groups_are_merged_key_by_key_and_lists_and_axes_are_replaced(tmp_path: Path) -> None:
    written(
        tmp_path,
        below="filter: {score: none}\nloop: {generations: 7, loop_seeds: [1, 2]}\n"
        "axes: {filter.drop: [0.1, 0.2]}",
        own="extends: below\nloop: {loop_seeds: [5]}\naxes: {queue.capacity: [1, 2, 3]}",
    )
    sweep, scenarios = load.load(str(tmp_path / "own.yaml"), ())
    assert (sweep.loop.generations, sweep.loop.loop_seeds) == (7, (5,))
    assert [scenario.name for scenario in scenarios] == [f"capacity={n}" for n in (1, 2, 3)]


def test_a_shipped_sweep_can_be_extended_from_anywhere(tmp_path: Path) -> None:
    written(tmp_path, own="extends: quickstart\nname: own")
    sweep, _ = load.load(str(tmp_path / "own.yaml"), ())
    plain, _ = load.load(None, ())
    assert sweep == plain.model_copy(update={"name": "own"})


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ("extends: nowhere", "no sweep file nowhere; shipped sweeps: "),
        ("extends: 3", "extends: must be the name of a sweep file (found 3)"),
        ("extends: own", "extends: own extends this file in turn"),
        ("extends: other", "extends: own extends this file in turn"),
    ],
)
def test_a_base_that_cannot_be_read_is_named(tmp_path: Path, own: str, message: str) -> None:
    written(tmp_path, own=own, other="extends: own")
    with pytest.raises(ConfigError) as error:
        load.load(str(tmp_path / "own.yaml"), ())
    assert message in str(error.value)


def test_an_axis_value_of_dotted_keys_sets_them_together() -> None:
    axes = "axes={what: [{loop.regime: stack}, {loop.regime: replace, queue.volume: D0}]}"
    _, (one, other) = load.load(None, [axes])
    assert (one.name, other.name) == ("regime=stack", "regime=replace,volume=D0")
    assert (other.sweep.loop.regime, other.sweep.queue.volume) == ("replace", "D0")
    assert other.values == {"loop.regime": "replace", "queue.volume": "D0"}


def test_such_an_axis_is_checked_like_any_other() -> None:
    with pytest.raises(ConfigError, match=r"storage\.x cannot differ between scenarios"):
        load.load(None, ["axes={what: [{storage.x: a}]}"])
    with pytest.raises(ConfigError, match=r"loop.regim: unknown key; did you mean loop.regime\?"):
        load.load(None, ["axes={what: [{loop.regim: stack}]}"])


@pytest.mark.parametrize("path", sorted(sweep_file("quickstart").parent.glob("*.yaml")), ids=str)
def test_every_shipped_sweep_is_valid_and_says_what_it_asks(path: Path) -> None:
    load.load(str(path), ())
    header = path.read_text().split("name:")[0]
    for word in ("# Question: ", "# Size: ", "# Cost: ", "# Command: python -m ray_selfloop.sweep"):
        assert word in header, f"{path.name} lacks {word!r}"
