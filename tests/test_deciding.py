"""A sweep with `decide` in this process: looks, budget, growth, and what is said of them."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import MICRO

from ray_selfloop import declaration, measurements
from ray_selfloop.conclusion.results import write_results
from ray_selfloop.deciding import further
from ray_selfloop.planning import Plan, prepare
from ray_selfloop.running import Run
from ray_selfloop.stages.run import run_here

pytestmark = pytest.mark.slow
WORDS = [
    *MICRO,
    "name=deciding",
    "axes={loop.arm: [treatment, no_synthetic]}",
    "loop.generations=1",
    "dataset.initialization=biased",
    "evaluation.dynamics.least_fidelity=0",
    "decide={looks: [2, 3]}",
]


def whole(plan: Plan) -> Run:
    """Everything of a plan, computed and measured here."""
    declared = declaration.declared(plan.sweep, plan.scenarios)
    declaration.freeze(declared, plan.sweep.name, plan.store.blobs)
    run_here(plan.graph, plan.store)
    plan.look_up()
    run = Run(plan)
    run.measure_here()
    return run


def table(run: Run) -> pd.DataFrame:
    columns = ["scenario", "metric", "class", "subgroup", "generation", "classifier", "loop_seed",
               "seed"]  # fmt: skip
    found = write_results(run.plan)
    return found.sort_values(columns, kind="stable").reset_index(drop=True)


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[Run], list[str]]:
    """Both looks of a sweep, one after the other; what was said between them."""
    words = [*WORDS, f"storage={tmp_path_factory.mktemp('looks')}"]
    said: list[str] = []
    poor = [*words, "decide.hours=0.000001"]
    runs = [whole(prepare(words, look=0))]
    out_of_budget = Run(prepare(poor, look=0))
    out_of_budget.measure_here()
    assert out_of_budget.declaration.hash == runs[0].declaration.hash  # it is not declared
    assert further(out_of_budget, poor, said.append) is None
    anew = Run(prepare(words, look=0))  # the process of the first look is gone
    assert not [node for node in anew.plan.graph if node.stage.key not in anew.plan.records]
    anew.measure_here()
    grown = further(anew, words, said.append)
    assert grown is not None
    runs.append(whole(grown))
    assert further(runs[1], words, said.append) is None
    return words, runs, said


def test_it_grows_chain_by_chain_and_ends_at_the_last_look(
    looks: tuple[list[str], list[Run], list[str]],
) -> None:
    _, runs, said = looks
    assert [run.plan.sweep.loop.loop_seeds for run in runs] == [(0, 1), (0, 1, 2)]
    assert said[1].startswith("look at 2 chains: undecided: base: md ")
    assert said[1].endswith("going on")
    assert said[2].endswith("it was the last look")


def test_every_look_is_declared_before_the_first_result(
    looks: tuple[list[str], list[Run], list[str]],
) -> None:
    _, runs, _ = looks
    assert runs[0].declaration.hash == runs[1].declaration.hash
    assert all(run.declared_before for run in runs)


def test_a_verb_sees_the_last_look_that_has_begun(
    looks: tuple[list[str], list[Run], list[str]],
) -> None:
    words, runs, _ = looks
    assert prepare(words, writes=False).graph.nodes.keys() < runs[1].plan.graph.nodes.keys()
    assert len(prepare(words, writes=False).sweep.loop.loop_seeds) == 3
    fresh = [*words, f"storage={runs[0].plan.store.root}-none"]
    assert len(prepare(fresh, writes=False).sweep.loop.loop_seeds) == 2


def test_a_look_that_does_not_fit_the_budget_is_not_begun_and_a_larger_one_goes_on(
    looks: tuple[list[str], list[Run], list[str]],
) -> None:
    _, _, said = looks
    assert "decide.hours=1e-06 are spent" in said[0]
    assert said[0].endswith("goes on")
    assert "undecided: base: md " in said[0]


def test_stages_of_a_look_have_the_keys_of_a_sweep_of_so_many_chains(
    looks: tuple[list[str], list[Run], list[str]],
) -> None:
    words, runs, _ = looks
    fixed = prepare([*words, "decide=null", "loop.loop_seeds=[0,1,2]"], writes=False)
    own = {
        key
        for key, node in runs[1].plan.graph.nodes.items()
        if node.stage.kind not in measurements.KINDS
    }
    assert fixed.graph.nodes.keys() == own


def test_grown_or_from_the_start_the_numbers_are_the_same(
    looks: tuple[list[str], list[Run], list[str]], tmp_path: Path
) -> None:
    _, runs, _ = looks
    at_once = whole(prepare([*WORDS, f"storage={tmp_path}"], look=1))
    pd.testing.assert_frame_equal(table(at_once), table(runs[1]), check_exact=True)
    (ours,), (theirs,) = (r.plan.graph.of_kind("claims") for r in (at_once, runs[1]))
    summary = [r.plan.records[n.stage.key].summary for r, n in ((at_once, ours), (runs[1], theirs))]
    assert summary[0] == summary[1]


def test_grown_by_a_classifier_or_with_it_from_the_start_the_numbers_are_the_same(
    looks: tuple[list[str], list[Run], list[str]], tmp_path: Path
) -> None:
    words, *_ = looks
    more = "classifiers=[lenet, resnet8]"
    grown = whole(prepare([*words, more], look=1))
    at_once = whole(prepare([*WORDS, more, f"storage={tmp_path}"], look=1))
    pd.testing.assert_frame_equal(table(at_once), table(grown), check_exact=True)
    assert at_once.declared_before
    assert not grown.declared_before  # which the page says: nothing of it is judged
