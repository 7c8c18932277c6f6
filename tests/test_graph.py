"""A stage's key: what it depends on, and what it must not."""

import pytest

from ray_selfloop.graph import Graph, Place, Stage, digest
from ray_selfloop.stages.kinds import NAMED, VERSIONS

HERE, THERE = Place("base", 0, 1), Place("other", 1, 2, "lenet", 3)


def stage(**changes: object) -> Stage:
    """One stage with some of its fields changed."""
    values = {
        "kind": "generator",
        "version": 1,
        "config": {"steps": 10, "nested": {"a": [1, 2.5, None], "b": "text"}},
        "inputs": {"dataset": "dataset-0", "kept.1": "kept-1"},
        "hints": {"root": "/data"},
    }
    return Stage(**{**values, **changes})  # type: ignore[arg-type]


def test_equal_values_have_one_key_whatever_their_order() -> None:
    turned = stage(
        config={"nested": {"b": "text", "a": (1, 2.5, None)}, "steps": 10},
        inputs={"kept.1": "kept-1", "dataset": "dataset-0"},
    )
    assert turned.key == stage().key


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "samples"},
        {"version": 2},
        {"config": {"steps": 11, "nested": {"a": [1, 2.5, None], "b": "text"}}},
        {"config": {"steps": 10, "nested": {"a": [2.5, 1, None], "b": "text"}}},
        {"config": {"steps": 10}},
        {"inputs": {"dataset": "dataset-1", "kept.1": "kept-1"}},
        {"inputs": {"dataset": "dataset-0", "kept.2": "kept-1"}},
        {"inputs": {"dataset": "kept-1", "kept.1": "dataset-0"}},
        {"inputs": {}},
    ],
)
def test_every_part_of_a_stage_changes_its_key(change: dict[str, object]) -> None:
    assert stage(**change).key != stage().key


def test_where_files_lie_is_not_in_the_key() -> None:
    assert stage(hints={}).key == stage().key == stage(hints={"root": "/elsewhere"}).key


def test_a_key_names_its_kind_and_fits_a_folder_name() -> None:
    kind, dash, end = stage(kind="generator_metrics").key.rpartition("-")
    assert (kind, dash, len(end)) == ("generator_metrics", "-", 20)
    assert set(end) <= set("0123456789abcdef")


def test_a_stage_of_many_places_costs_as_much_as_many_stages() -> None:
    """The dataset has a place in every chain: no place is compared with all that came before."""
    compared = 0

    class Counted(Place):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return super().__eq__(other)

        __hash__ = Place.__hash__

    graph = Graph()
    for chain in (*range(300), *range(300)):
        graph.add(NAMED["dataset"], {}, {}, Counted("base", chain, 0))
    (node,) = graph
    assert [place.loop_seed for place in node.places] == list(range(300))
    assert compared <= 600


def test_the_digest_is_pinned() -> None:
    """A change here makes everything that was ever published be computed again."""
    assert digest({"b": [1, 2.5, None, True], "a": "ä"}) == "f11879da5f07e5304f3e"


def test_numbers_that_json_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest({"rate": float("nan")})


def test_the_same_stage_added_twice_stands_in_two_places() -> None:
    graph = Graph()
    first = graph.add(NAMED["dataset"], {"seed": 1}, {}, HERE, {"root": "/a"})
    again = graph.add(NAMED["dataset"], {"seed": 1}, {}, THERE, {"root": "/b"})
    graph.add(NAMED["dataset"], {"seed": 1}, {}, HERE)
    assert again is first
    assert len(graph) == 1
    assert graph.nodes[first.key].places == [HERE, THERE]
    assert not graph.nodes[first.key].awaited


def test_stages_stand_after_their_inputs_and_are_found_by_kind() -> None:
    graph = Graph()
    data = graph.add(NAMED["dataset"], {}, {}, HERE)
    trial = graph.add(NAMED["classifier"], {"seed": 1}, {"dataset": data}, HERE)
    other = graph.add(NAMED["classifier"], {"seed": 2}, {"dataset": data}, HERE)
    assert [node.stage for node in graph] == [data, trial, other]
    assert [node.stage for node in graph.of_kind("classifier")] == [trial, other]
    assert graph.of_kind("generator") == []
    assert trial.inputs == {"dataset": data.key}


def test_stages_of_a_scenario_are_found_without_a_look_at_those_of_others() -> None:
    looked = 0

    class Counted(Place):
        def __getattribute__(self, name: str) -> object:
            nonlocal looked
            looked += name == "scenario"
            return super().__getattribute__(name)

    graph = Graph()
    add, scorer = graph.add, NAMED["scorer"]
    (shared,) = {add(scorer, {}, {}, Counted(str(n), 0, 0)).key for n in range(300)}
    own = [
        graph.add(NAMED["scorer"], {"seed": n}, {}, Counted(str(n), 1, 0)).key for n in range(300)
    ]
    looked = 0
    for n in range(300):
        assert [node.stage.key for _, node in graph.placed("scorer", str(n))] == [shared, own[n]]
        assert [place.loop_seed for place, _ in graph.placed("scorer", str(n))] == [0, 1]
    assert looked <= 600
    assert not graph.placed("dataset", "7")
    assert not graph.placed("scorer", "unknown")


def test_an_input_that_was_not_added_is_a_mistake() -> None:
    with pytest.raises(AssertionError):
        Graph().add(NAMED["kept"], {}, {"dataset": stage(kind="dataset")}, HERE)


def test_a_raised_version_gives_another_key_to_its_kind_and_what_follows() -> None:
    def keys(versions: dict[str, int]) -> list[str]:
        graph = Graph(versions)
        data = graph.add(NAMED["dataset"], {}, {}, HERE)
        scorer = graph.add(NAMED["scorer"], {}, {"dataset": data}, HERE)
        generator = graph.add(NAMED["generator"], {}, {"dataset": data}, HERE)
        graph.add(NAMED["samples"], {}, {"generator": generator, "scorer": scorer}, HERE)
        return list(graph.nodes)

    old = keys(dict(VERSIONS))
    new = keys({**VERSIONS, "generator": VERSIONS["generator"] + 1})
    changed = [before != after for before, after in zip(old, new, strict=True)]
    assert changed == [False, False, True, True]


def test_a_place_reads_as_a_person_would_say_it() -> None:
    assert str(HERE) == "base, loop seed 0, generation 1"
    assert str(THERE) == "other, loop seed 1, generation 2, lenet seed 3"
    assert sorted([THERE, HERE]) == [HERE, THERE]
