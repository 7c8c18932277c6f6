"""The busy share of a run's slots, and its critical path."""

import pytest

from ray_selfloop.distributed.usage import usage
from ray_selfloop.graph import Graph, Place, Stage
from ray_selfloop.progress import Progress
from ray_selfloop.stages.kinds import NAMED

HERE = Place("base", 0, 0)


def run() -> tuple[Progress, dict[str, Stage]]:
    """Two slots: data 10 to 20; left 20 to 30 and right 22 to 40; apart 30 to 35; end 41 to 50."""
    graph = Graph()
    data = graph.add(NAMED["dataset"], {}, {}, HERE)
    left = graph.add(NAMED["scorer"], {}, {"dataset": data}, HERE)
    right = graph.add(NAMED["generator"], {}, {"dataset": data}, HERE)
    end = graph.add(NAMED["samples"], {}, {"scorer": left, "generator": right}, HERE)
    apart = graph.add(NAMED["classifier"], {}, {}, HERE)
    stages = {"data": data, "left": left, "right": right, "end": end, "apart": apart}
    spans = {"data": (10, 20), "left": (20, 30), "right": (22, 40), "apart": (30, 35)}
    progress = Progress(graph)
    for name, (begun, ended) in {**spans, "end": (41, 50)}.items():
        progress.took[stages[name].key] = float(ended - begun)
        progress.ended[stages[name].key] = float(ended)
    return progress, stages


def test_the_path_leads_to_what_ended_last_through_what_it_waited_for() -> None:
    progress, stages = run()
    seconds = {stage.key: progress.took[stage.key] - 1 for stage in stages.values()}
    found = usage(progress, seconds, slots=2, begun=4.0, now=54.0)
    assert found is not None
    assert found.busy == 9 + 9 + 17 + 4 + 8
    assert found.share == pytest.approx(47 / 100)
    assert (found.stages, found.computed) == (3, 9 + 17 + 8)  # data, right, end
    assert (found.before, found.after) == (6, 4)
    assert found.between == 3 + 1 + 2  # a second of each stage, and between them 2 and 1
    assert str(found) == (
        "slots    2, busy 0.47 of 50 s; the longest path, 3 stages, computed 34 s: 6 s went before "
        "it, 6 s between its stages, 4 s after it"
    )


def test_what_was_published_before_the_run_is_no_part_of_it() -> None:
    progress, stages = run()
    seconds = {stage.key: 1.0 for stage in stages.values()}
    for name in ("data", "right"):
        del progress.ended[stages[name].key]
    found = usage(progress, seconds, slots=1, begun=0.0, now=50.0)
    assert found is not None
    assert (found.busy, found.stages) == (3, 2)  # left, end


def test_a_run_in_which_nothing_was_computed_has_none() -> None:
    progress, _ = run()
    assert usage(progress, {}, slots=2, begun=0.0, now=1.0) is None
