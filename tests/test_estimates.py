"""What stages take and how long a sweep takes: by earlier records, else by reference."""

import json
from pathlib import Path

import pytest

from ray_selfloop import estimates
from ray_selfloop.__main__ import main
from ray_selfloop.config.generators import known
from ray_selfloop.config.networks import NETWORKS
from ray_selfloop.estimates import Effort
from ray_selfloop.graph import Node, Stage
from ray_selfloop.planning import Plan, learned, prepare
from ray_selfloop.progress import Progress
from ray_selfloop.stages.kinds import NAMED


def nodes(**inputs: str) -> dict[str, Node]:
    """Stages by a letter; inputs: letter -> letters of those that it needs."""
    made: dict[str, Node] = {}
    for name, needed in inputs.items():
        keys = {one: made[one].stage.key for one in needed}
        made[name] = Node(Stage("x", 1, {"name": name}, keys))
    return made


@pytest.mark.parametrize(
    ("inputs", "slots", "seconds"),
    [
        ({"a": "", "b": "", "c": ""}, 1, 30),
        ({"a": "", "b": "", "c": ""}, 2, 20),
        ({"a": "", "b": "a", "c": "b"}, 2, 30),
        ({"x": "", "y": "", "z": "", "a": "", "b": "a", "c": "b"}, 2, 30),  # the chain goes first
    ],
)
def test_the_clock_counts_slots_and_what_waits_for_what(
    inputs: dict[str, str], slots: int, seconds: float
) -> None:
    made = nodes(**inputs).values()
    assert estimates.wall(made, lambda node: 10.0, slots) == pytest.approx(seconds)


def test_what_runs_already_is_counted_down() -> None:
    made = nodes(a="", b="a")
    running = {made["a"].stage.key: 7.0}
    assert estimates.wall(made.values(), lambda node: 10.0, 2, running) == pytest.approx(13.0)
    assert estimates.wall(
        made.values(), lambda node: 10.0, 2, {made["a"].stage.key: 99.0}
    ) == pytest.approx(10.0, abs=0.2)  # late, and about to end


def publish(plan: Plan, kind: str, seconds: float) -> None:
    for node in plan.graph.of_kind(kind):
        with plan.store.attempt(node.stage.key) as folder:
            summary = {"training_set": {"original": 1_293}}
            plan.store.publish(node.stage, folder, summary, seconds)


def of_kind(words: list[str], kind: str) -> tuple[float, str]:
    """Core-seconds of a stage of a kind, and whence."""
    found = prepare(words, writes=False)
    node = found.graph.of_kind(kind)[0]
    costs = learned(found)
    return costs.core_seconds(node), costs.source(node)


def test_a_stage_takes_what_its_like_has_taken_in_this_storage_by_the_work_in_it(
    micro: list[str],
) -> None:
    assert of_kind(micro, "generator")[1] == estimates.REFERENCE
    publish(prepare(micro), "dataset", 0.1)
    publish(prepare(micro), "generator", 30.0)
    assert of_kind(micro, "generator") == (pytest.approx(30.0), estimates.HERE)
    steps = prepare(micro).sweep.generator.seen // 64
    more = [*micro, f"generator.max_steps={3 * steps}"]
    assert of_kind(more, "generator") == (pytest.approx(90.0), estimates.HERE)


def test_a_training_of_epochs_is_counted_by_its_images(micro: list[str]) -> None:
    short = [*micro, "training.max_steps=null", "training.max_epochs=2"]
    publish(prepare(short), "classifier", 8.0)
    twice = prepare([*micro, "training.max_steps=null", "training.max_epochs=4"], writes=False)
    trials = twice.graph.of_kind("classifier")
    costs = learned(twice)
    taken = [costs.core_seconds(node) for node in trials]
    assert sum(taken) == pytest.approx(16.0 * len(trials), rel=0.05)
    assert taken[-1] > 1.2 * taken[0], "the queue is among the images of a later generation"


def test_on_a_fresh_storage_a_plan_predicts_by_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--calibrate", f"storage={tmp_path}"]) == 0
    said = capsys.readouterr().out
    table = said.partition("declared:")[0]
    assert "not known" not in table
    assert "predicted by reference costs (152 of 152)" in table
    assert "reference costs are another machine's; times " in table
    found = prepare([f"storage={tmp_path}"], writes=False)
    spent = sum(map(learned(found).core_seconds, found.graph))
    assert 100 < spent < 2_000  # the quickstart's core-seconds
    assert "CPU cores of this machine" in table


def test_what_nobody_has_measured_is_not_known_and_the_sum_a_lower_bound(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "costs.json"
    few.write_text(json.dumps({"calibration": 2.0, "cores": {"samples colorized_digits": 1.0}}))
    monkeypatch.setattr(estimates, "COSTS", few)
    assert main(["plan", f"storage={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "not known" in said
    assert "missing stages take at least 15 core-seconds" in said
    assert "by nothing yet (137 of 152), reference costs (15 of 152)" in said


def test_reference_costs_are_of_works_that_there_are() -> None:
    cores = json.loads(estimates.COSTS.read_text())["cores"]
    assert {name.partition(" ")[0] for name in cores} <= {*NETWORKS, *known.KINDS, *NAMED}
    assert {*NETWORKS} <= cores.keys()
    assert all(cost > 0 for cost in cores.values())


def test_the_chains_that_an_arm_takes_its_shares_from_cost_too(tmp_path: Path) -> None:
    words = ["regimes_small", "axes={}", "loop.arm=real_skewed"]
    plan = prepare([*words, f"storage={tmp_path / 'store'}"])
    costs = learned(plan)
    unknown = {n.stage.kind for n in plan.graph if costs.source(n) == estimates.UNKNOWN}
    lent = [node for node in plan.graph if "(its shares)" in node.places[0].scenario]
    assert lent
    assert not unknown & {node.stage.kind for node in lent}


def test_a_storage_with_digits_does_not_say_what_mnist_takes() -> None:
    """The GAN of 28 pixels takes 7 times what that of 8 takes."""
    costs = estimates.Costs({}, lambda scenario: 0)
    works = [Effort("conditional_gan", f"colorized_{data}", 1.0, 1) for data in ("digits", "mnist")]
    elsewhere = Effort("conditional_gan", "cifar20_100", 1.0, 1)
    assert costs._unit(elsewhere)[1] == estimates.OTHER
    costs._add(works[0], 5.0)
    assert [costs._unit(work)[1] for work in works] == [estimates.HERE, estimates.REFERENCE]
    assert costs._unit(elsewhere) == (5.0, estimates.OTHER_HERE)


def test_before_anything_runs_the_time_left_is_what_a_plan_says(micro: list[str]) -> None:
    plan = prepare(micro)
    left = estimates.Left(learned(plan), 2).at(Progress(plan.graph), 0.0)
    assert left == estimates.predicted(list(plan.graph), learned(plan), 2)
    assert left.clock > estimates.START


def test_the_time_left_counts_what_runs_and_learns_from_what_has_ended(micro: list[str]) -> None:
    plan = prepare(micro)
    trials = plan.graph.of_kind("classifier")
    state = Progress(plan.graph, cached=plan.graph.nodes.keys() - {n.stage.key for n in trials})
    first, second, *_ = (node.stage.key for node in trials)
    left = estimates.Left(learned(plan), 1)

    state.running = {first: 0.0}
    begun = left._at(state, 0.0)
    state.running, state.took, state.ended = {second: 100.0}, {first: 100.0}, {first: 100.0}
    state.done.add(first)
    ended, later = left._at(state, 100.0), left._at(state, 130.0)

    assert begun
    assert ended
    assert later
    assert begun.told == f"reference costs ({len(trials)} of {len(trials)})"
    assert ended.sources[estimates.HERE] >= 1
    assert ended.clock > begun.clock, "a trial took far longer than the reference"
    assert ended.clock - later.clock == pytest.approx(30.0), "what runs is counted down"


def test_what_needs_a_failed_stage_takes_no_time_any_more(micro: list[str]) -> None:
    plan = prepare(micro)
    data = plan.graph.of_kind("dataset")[0].stage.key
    state = Progress(plan.graph, failed={data: "no such folder"}, took={data: 1.0})
    assert estimates.Left(learned(plan), 2).at(state, 1.0) is None


def test_what_a_cpu_has_taken_is_not_what_a_gpu_takes() -> None:
    costs = estimates.Costs({}, lambda scenario: 0)
    on_cpu = Effort("lenet", "", 10.0, 1)
    on_gpu = on_cpu._replace(device="gpu")
    costs._add(on_cpu, 50.0)
    assert costs._unit(on_gpu) == (5.0, estimates.ON_CPU)  # until one has run
    costs._add(on_gpu, 2.0)
    assert costs._unit(on_gpu) == (0.2, estimates.HERE)
    assert costs._unit(on_cpu) == (5.0, estimates.HERE)
    unheard = Effort("vit_of_tomorrow", "", 1.0, 1, "gpu")
    assert costs._unit(unheard) == (0.0, estimates.UNKNOWN)
