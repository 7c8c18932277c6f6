"""Which stages can run, which cannot any more, and which are settled."""

import pytest

from ray_selfloop import seeding
from ray_selfloop.graph import Graph, Place, Stage
from ray_selfloop.progress import Progress
from ray_selfloop.stages.kinds import NAMED

HERE = Place("base", 0, 0)


def random_graph(seed: int, size: int = 40) -> Graph:
    """Stages that each need up to three earlier ones."""
    draw = seeding.rng(seed, "graph")
    graph = Graph()
    added: list[Stage] = []
    for i in range(size):
        needs = draw.choice(len(added), min(len(added), draw.integers(0, 4)), replace=False)
        inputs = {f"input.{j}": added[j] for j in needs}
        added.append(graph.add(NAMED["samples"], {"i": i}, inputs, HERE))
    return graph


def needed(graph: Graph, key: str) -> set[str]:
    """All that a stage depends on, directly or not."""
    direct = set(graph.nodes[key].stage.inputs.values())
    return direct.union(*(needed(graph, other) for other in direct))


def diamond() -> tuple[Graph, dict[str, str]]:
    """data -> left, right -> end, and a stage apart; with the key of each by name."""
    graph = Graph()
    data = graph.add(NAMED["dataset"], {}, {}, HERE)
    left = graph.add(NAMED["scorer"], {}, {"dataset": data}, HERE)
    right = graph.add(NAMED["generator"], {}, {"dataset": data}, HERE)
    end = graph.add(NAMED["samples"], {}, {"scorer": left, "generator": right}, HERE)
    apart = graph.add(NAMED["classifier"], {}, {}, HERE)
    stages = {"data": data, "left": left, "right": right, "end": end, "apart": apart}
    return graph, {name: stage.key for name, stage in stages.items()}


def test_a_stage_is_ready_when_all_its_inputs_are_published() -> None:
    graph, key = diamond()
    state = Progress(graph)

    def ready() -> list[str]:
        return [name for name in key if key[name] in {n.stage.key for n in state.ready()}]

    assert ready() == ["data", "apart"]
    state.cached.add(key["data"])
    assert ready() == ["left", "right", "apart"]
    state.running[key["left"]] = 1.0
    assert ready() == ["right", "apart"]
    state.done.add(key["right"])
    assert ready() == ["apart"]
    del state.running[key["left"]]
    state.done.add(key["left"])
    assert ready() == ["end", "apart"]
    assert state.published == {key["data"], key["left"], key["right"]}


def test_what_needs_a_failed_stage_is_blocked_and_never_ready() -> None:
    graph, key = diamond()
    state = Progress(graph, cached={key["data"]}, done={key["right"]})
    assert state.blocked() == []
    state.failed[key["left"]] = "out of memory"
    assert [node.stage.key for node in state.blocked()] == [key["end"]]
    assert [node.stage.key for node in state.ready()] == [key["apart"]]
    assert [node.stage.key for node in state.missing()] == [key["end"], key["apart"]]


@pytest.mark.parametrize("seed", range(10))
def test_working_off_what_is_ready_publishes_everything_in_order(seed: int) -> None:
    graph = random_graph(seed)
    state, draw = Progress(graph), seeding.rng(seed, "order")
    while state.missing():
        ready = state.ready()
        assert ready
        chosen = ready[draw.integers(len(ready))].stage
        assert set(chosen.inputs.values()) <= state.published
        state.done.add(chosen.key)
    assert state.published == set(graph.nodes)
    assert state.ready() == []


@pytest.mark.parametrize("seed", range(10))
def test_after_a_failure_exactly_what_depends_on_it_is_left(seed: int) -> None:
    graph = random_graph(seed)
    state = Progress(graph)
    lost = list(graph.nodes)[3 + seed]
    while state.ready():
        stage = state.ready()[0].stage
        if stage.key == lost:
            state.failed[lost] = "error"
        else:
            state.done.add(stage.key)
    depends = {key for key in graph.nodes if lost in needed(graph, key)}
    assert {node.stage.key for node in state.blocked()} == depends
    assert {node.stage.key for node in state.missing()} == depends
    assert state.done == set(graph.nodes) - depends - {lost}


def test_seconds_run_while_a_stage_runs_and_stand_afterwards() -> None:
    graph, key = diamond()
    state = Progress(graph, running={key["data"]: 10.0}, took={key["apart"]: 3.5})
    assert state.seconds(key["data"], now=12.5) == 2.5
    assert state.seconds(key["apart"], now=12.5) == 3.5
    assert state.seconds(key["end"], now=12.5) == 0.0
