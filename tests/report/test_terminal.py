"""The terminal: tables that fit in 80 columns, and plain lines where nobody looks."""

import io
from dataclasses import replace

import numpy as np
import pytest
import synthetic_arms
import synthetic_sweep
from rich.console import Console

from ray_selfloop.claims.positive import UNSEEN
from ray_selfloop.config.arms import MAJORITY_KEPT
from ray_selfloop.inference.verdicts import WORDS
from ray_selfloop.report import terminal
from ray_selfloop.report.terminal import Paths, Progress
from ray_selfloop.report.view import Positive

PATHS = Paths("/data/my results/results.parquet", "/data/report.html", "sqlite:////data/mlflow.db")


def shown(view, paths=PATHS) -> str:
    out = io.StringIO()
    terminal.summary(Console(file=out, width=80), view, paths)
    return out.getvalue()


@pytest.mark.parametrize("generations", [1, 4, 11])
def test_tables_fit_in_80_columns_and_show_every_generation(generations):
    names = ("lenet", "alexnet", "mobilenet_v3_large")
    text = shown(synthetic_sweep.view(generations=generations, classifiers=names))
    assert max(map(len, text.splitlines())) <= 80
    heads = [line.split()[1:] for line in text.splitlines() if line.startswith("generation")]
    of_one_scenario = [n for head in heads[: len(heads) // 2] for n in head]
    assert of_one_scenario == [str(n) for n in range(generations)]
    assert "…" not in text


def test_a_cell_is_the_mean_and_the_standard_deviation_over_trials():
    view = synthetic_sweep.view()
    rows = view.results
    at = (rows["scenario"] == "unbiased") & (rows["generation"] == 2) & (rows["metric"] == "md")
    at &= rows["classifier"] == "lenet"
    mean = rows.loc[at & rows["seed"].isna(), "value"].item()
    spread = np.std(rows.loc[at & rows["seed"].notna(), "value"], ddof=1)
    assert f"{mean:.3f} ±{spread:.3f}".replace("±0", "±") in shown(view)


def test_undefined_and_missing_numbers_are_told_apart():
    view = synthetic_sweep.view()
    rows = view.results.copy()
    mean = rows["seed"].isna() & (rows["classifier"] == "lenet") & (rows["scenario"] == "biased")
    rows.loc[mean & (rows["metric"] == "meo"), "value"] = np.nan
    rows = rows[~(mean & (rows["metric"] == "md") & (rows["generation"] == 3))]
    lines = shown(replace(view, results=rows)).split("Colorized digits, biased")[1].splitlines()
    meo, md = (next(i for i, line in enumerate(lines) if line.strip() == t) for t in ("MEO", "MD"))
    assert lines[meo + 1].count("not defined") == 4
    assert lines[md + 1].split()[-1] == "–"


def test_verdicts_paths_and_the_mlflow_command_are_whole_lines():
    text = shown(synthetic_sweep.view())
    words = " ".join(text.split())
    assert (
        "eq. 6 lenet A = 1.220 [1.050, 1.410] A/control = 1.180 [1.040, 1.330] A > control" in words
    )
    assert "eq. 6  mobilenet_v3_small  undecided: no measurable bias" in text
    assert "/data/my results/results.parquet\n" in text
    assert "mlflow ui --backend-store-uri sqlite:////data/mlflow.db\n" in text


def test_a_tracking_server_is_named_and_needs_no_command():
    text = shown(synthetic_sweep.view(), Paths("r", "h", "http://tracker:5000"))
    assert "http://tracker:5000" in text
    assert "mlflow ui" not in text


def test_text_in_brackets_is_no_markup():
    view = replace(synthetic_sweep.view(), warnings=("axes=[bold]x[/bold]",))
    assert "axes=[bold]x[/bold]" in shown(view)


ROWS = [Progress("generator", 3, 6, 0, 1, 0, 61.2), Progress("trial", 12, 32, 4, 2, 1, 134.2)]


def test_the_live_table_shows_every_count():
    out = io.StringIO()
    Console(file=out, width=100).print(terminal.progress(ROWS))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 100
    trial = text.splitlines()[2].split()
    assert trial[0] == "trial"
    assert trial[2:] == ["12/32", "2", "4", "1", "2", "min", "14", "s"]


def test_without_a_terminal_a_line_is_printed_when_a_count_changed_and_only_then():
    out = io.StringIO()
    with terminal.live(Console(file=out, force_terminal=False)) as show:
        show(ROWS, "about 4 min left, predicted by reference costs (22 of 22)")
        show([replace(row, elapsed=row.elapsed + 1) for row in ROWS], "about 3 min left, as ever")
        show([ROWS[0], replace(ROWS[1], done=13)], "about 4 min left, predicted by earlier stages")
    assert out.getvalue().splitlines() == [
        "generator 3/6 done, 1 running, 61.2 s",
        "trial 12/32 done, 4 cached, 2 running, 1 FAILED, 2 min 14 s",
        "about 4 min left, predicted by reference costs (22 of 22)",
        "trial 13/32 done, 4 cached, 2 running, 1 FAILED, 2 min 14 s",
    ]


def test_in_a_terminal_the_table_is_redrawn_in_place(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = io.StringIO()
    with terminal.live(Console(file=out, force_terminal=True, width=100)) as show:
        show(ROWS, terminal.left(230.0, "about", "reference costs (22 of 22)"))
    assert "12/32" in out.getvalue()
    assert "about 4 min left, predicted by reference costs (22 of 22)" in out.getvalue()
    assert "\x1b[" in out.getvalue()


@pytest.mark.parametrize(
    ("clock", "span"),
    [(0.0, "10 s"), (61.0, "70 s"), (111.0, "2 min"), (3_540.1, "1 h 00 min"), (7_300.0, "2 h 02")],
)
def test_the_time_left_is_told_no_finer_than_it_is_known(clock, span):
    assert terminal.left(clock, "about", "x").startswith(f"about {span}")


def test_md_stands_beside_its_floor_and_every_table_counts_its_trials():
    text = shown(synthetic_sweep.view())
    lines = text.split("Colorized digits, biased")[1].splitlines()
    md = lines.index(next(line for line in lines if line.strip() == "MD"))
    assert lines[md + 2].split() == ["noise", "floor", *["0.022"] * 4]
    at = lines.index(next(line for line in lines if line.strip() == "chains · trials"))
    assert lines[at + 2].split()[1:] == ["1", "·", "2"] * 3 + ["1", "·", "1,", "1", "lost"]


def test_a_sweep_with_arms_begins_with_the_answer_and_is_short():
    view = synthetic_arms.view(chains=2, generations=3)
    text = shown(view)
    lines = text.splitlines()
    assert len(lines) <= 65
    assert max(map(len, lines)) <= 80
    assert text.strip().startswith("In part")
    words = " ".join(text.split())
    for word in ("supported", "undecided"):
        assert f"{word}: {WORDS[word]}" in words
    assert "other statements: 2 contradicted, 2 ruled out, 2 explained by accuracy" in words
    assert "primary CIFAR-20/100, from scratch: MD +0.020 [0.0060, 0.034], margin 0.012" in words
    assert "CIFAR-20/100, ImageNet weights: label fidelity" in text
    (lenet, *_) = (line.split() for line in lines if line.startswith("  lenet"))
    assert lenet[-3:] == ["A", ">", "control"]
    for path in (PATHS.results, PATHS.report):
        assert path + "\n" in text


def test_a_late_declaration_is_told_in_the_terminal():
    words = " ".join(shown(synthetic_sweep.view()).split())
    assert "every statement of this page is exploratory" in words


def test_a_positive_control_is_a_line_and_what_was_not_asked_is_one():
    view = synthetic_arms.view(chains=2, generations=3)
    group = next(iter(synthetic_arms.GROUPS.values()))
    control = Positive(group, MAJORITY_KEPT.name, "md", 0.11, 0.08, 0.14, 2, UNSEEN)
    own = tuple(replace(s, of_the_paper=False) for s in view.scenarios)
    text = shown(replace(view, positive=(control,), scenarios=own))
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    assert "alone: MD +0.110 [0.080, 0.140]; 2 chains not seen" in words
    assert "claims the paper's own statements are about other data: see the end" in words
    assert "other statements: " not in words
    assert "cannot be tested" not in words
