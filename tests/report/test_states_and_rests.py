"""End states and rest points as a reader meets them, on the page and in the terminal."""

import io
import re
from dataclasses import replace

import pytest
import synthetic_sweep
from rich.console import Console

from ray_selfloop.equation6.rest_point import FALLS, UNDECIDED, UNSURE, RestPoint
from ray_selfloop.evaluation.end_states import SHORTCUT, WORKING
from ray_selfloop.report import page, terminal
from ray_selfloop.report.terminal import Paths
from ray_selfloop.report.view import StateCount

NAN = float("nan")
RESTS = (
    RestPoint("biased", "lenet", 0.1234, 0.1, 0.15, 0.6, 0.4, 0.81, 0.31, FALLS, 3),
    RestPoint("biased", "mobilenet_v3_small", NAN, NAN, NAN, 1.01, 0.9, 1.2, 0.05, UNDECIDED, 3,
              UNSURE),
    RestPoint("unbiased", "lenet", NAN, NAN, NAN, NAN, NAN, NAN, NAN, UNDECIDED, 0, "why not"),
)  # fmt: skip


@pytest.fixture(scope="module")
def view():
    return synthetic_sweep.view(chains=3)


def text(view) -> str:
    html = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page.html(view), flags=re.DOTALL)
    return re.sub(r"\s+", " ", html)


def in_terminal(view) -> str:
    out = io.StringIO()
    terminal.summary(Console(file=out, width=80), view, Paths("r", "p", ""))
    return " ".join(out.getvalue().split())


def test_a_rest_point_has_its_interval_and_the_side_that_bias_comes_from(view):
    shown = text(replace(view, rests=RESTS))
    assert "0.310 0.123 [0.100, 0.150] 0.600 [0.400, 0.810] towards, from above 3" in shown
    assert f"undecided {UNSURE} 3" in shown
    assert "No rest point is sought in 1 of 3 cases: why not." in shown
    assert "Where bias would come to rest" not in text(view)


def test_the_terminal_has_the_rest_points_that_are_known(view):
    said = in_terminal(replace(view, rests=RESTS))
    assert "lenet B* = 0.123 [0.100, 0.150] B moves: towards, from above" in said
    assert said.count("B* =") == 1


def test_where_all_trials_work_one_sentence_says_so(view):
    counts = tuple(StateCount("biased", "lenet", n, {WORKING: 6}) for n in range(3))
    shown = text(replace(view, states=counts))
    assert "All 18 trials are working, in every scenario and generation." in shown
    assert "Chains in different end states" not in shown
    assert "End states" not in text(view)


def test_chains_that_came_to_different_ends_are_counted_in_the_place_of_a_mean(view):
    rows = view.results
    mean = rows["seed"].isna() & (rows["scenario"] == "biased") & (rows["classifier"] == "lenet")
    rows = rows[~(mean & (rows["generation"] == 2) & (rows["metric"] == "md"))]
    counts = (
        *(StateCount("biased", "lenet", n, {WORKING: 6}) for n in range(2)),
        StateCount("biased", "lenet", 2, {WORKING: 4, SHORTCUT: 2}),
        StateCount("unbiased", "lenet", 2, {WORKING: 6}),
    )
    ended = replace(view, results=rows, states=counts)
    shown = text(ended)
    assert "biased, lenet: trials by state" in shown
    assert "unbiased, lenet: trials by state" not in shown
    assert "2 4 2 – – 4 working, 2 by the shortcut" in shown
    assert "biased, lenet, generation 2: 4 working, 2 by the shortcut" in shown
    assert "Chains in different end states" in in_terminal(ended)
