"""The panel of an axis, its sentences and its line in the terminal."""

import io
from dataclasses import replace

import pytest
import synthetic_sweep
from rich.console import Console

from ray_selfloop.claims.axes import FACTOR, IMAGES, RATIO, AxisEffect
from ray_selfloop.report import axes, page, style, terminal
from ray_selfloop.report.view import ReportView

NAN = float("nan")
NETWORKS = tuple(synthetic_sweep.LEVEL)
VALUES = ("0.0", "0.1", "0.5")
PATHS = terminal.Paths("results", "report", "")


def row(at: str, against: str, metric: str, value: float, **about: object) -> AxisEffect:
    estimand = "last_minus_first" if metric != "A" else RATIO if against else FACTOR
    fields = {
        "axis": "filter.drop", "setting": "", "scenario": "biased", "arm": "treatment",
        "control": "", "classifier": NETWORKS[0], "estimand": estimand, "margin": 0.02,
        "low": value - 0.01, "high": value + 0.01, "p": 0.2, "chains": 3, "interval": IMAGES,
        "each": {"0": value - 0.005, "1": value, "2": value + 0.005}, **about,
    }  # fmt: skip
    return AxisEffect(at=at, against=against, metric=metric, value=value, **fields)


def rows(**about: object) -> tuple[AxisEffect, ...]:
    found = []
    for metric in ("md", "accuracy", "A"):
        base = 1.0 if metric == "A" else 0.0
        for name in NETWORKS:
            for i, at in enumerate(VALUES):
                found.append(row(at, "", metric, base + 0.02 * i, classifier=name, **about))
                if i:
                    found.append(
                        row(at, VALUES[0], metric, base + 0.02 * i, classifier=name, **about)
                    )
    return tuple(found)


def view(found: tuple[AxisEffect, ...]) -> ReportView:
    return replace(synthetic_sweep.view(), axes=found)


def printed(of: ReportView) -> list[str]:
    out = io.StringIO()
    terminal.summary(Console(file=out, width=240, color_system=None), of, PATHS)
    return [line for line in out.getvalue().splitlines() if line.startswith("axis")]


def test_a_panel_has_every_metric_with_the_values_in_their_places() -> None:
    (panel,) = axes.panels(view(rows()))
    figure = axes.figure(panel, style.inks(NETWORKS))
    shown = figure.get_axes()
    assert [one.get_title(loc="left") for one in shown] == ["MD", "Acc", "A"]
    for one in shown:
        assert list(one.get_xticks()) == [0.0, 0.1, 0.5]
        assert [label.get_text() for label in one.get_xticklabels()] == list(VALUES)
        dots = sum(len(c.get_offsets()) for c in one.collections if len(c.get_offsets()) == 3)
        assert dots == 3 * len(VALUES) * len(NETWORKS)


def test_words_stand_one_beside_the_other() -> None:
    assert axes._places(["unbiased", "biased"]) == [0, 1]
    assert axes._places(["0.5", "1e-3"]) == [0.5, 0.001]
    assert axes._places(["nan", "1"]) == [0, 1]


def test_a_sentence_says_where_the_interval_lies_and_no_verdict_word() -> None:
    (panel,) = axes.panels(view(rows()))
    md, _, a = panel.sentences
    assert md.startswith("the change of MD at 0.5 against 0.0: lenet +0.040 [0.030, 0.050] (3 ch")
    assert "the interval lies above 0" in md
    assert a.startswith("A at 0.5 against 0.0: lenet × 1.040 [1.030, 1.050]")
    (held,) = axes.panels(view(tuple(replace(r, low=-1.0, high=2.0) for r in rows())))
    assert "the interval holds 0)" in held.sentences[0]
    assert "the interval holds 1)" in held.sentences[2]
    (small,) = axes.panels(view(tuple(replace(r, low=-0.01, high=0.015) for r in rows())))
    assert "the interval holds 0)" in small.sentences[0]
    assert small.sentences[1].startswith("the change of accuracy at 0.5 against 0.0: ")


def test_with_too_few_chains_dots_and_a_sentence_stand_in_place_of_an_interval() -> None:
    none = {"low": NAN, "high": NAN, "p": NAN, "interval": "", "chains": 1, "each": {"0": 0.01}}
    text = page.html(view(rows(**none)))
    section = text.partition('<section id="axes">')[2].partition("</section>")[0]
    assert "Fewer than 3 chains: no interval; the dots are the chains" in section
    assert printed(view(rows(**none))) == []


def test_values_with_controls_of_their_own_are_compared_less_these() -> None:
    plain = row("0.5", "0.0", "md", 0.04)
    less = row("0.5", "0.0", "md", 0.01, control="no_synthetic")
    own = tuple(row(at, "", "md", 0.0) for at in ("0.0", "0.5"))
    (panel,) = axes.panels(view((*own, plain, less)))
    assert panel.compared == [less]


def test_a_control_that_all_values_share_is_drawn_and_listed_once() -> None:
    control = row("0.0", "", "md", 0.005, arm="no_synthetic")
    (panel,) = axes.panels(view((*rows(), control)))
    drawn = axes.figure(panel, style.inks(NETWORKS)).get_axes()[0]
    assert sum(line.get_linestyle() == "--" and line.get_ydata()[0] == 0.005
               for line in drawn.get_lines()) == 1  # fmt: skip
    assert panel.values == list(VALUES)
    text = page.html(view((*rows(), control)))
    section = text.partition('<section id="axes">')[2].partition("</section>")[0]
    assert section.count("<td>no_synthetic</td>") == 1


def test_the_terminal_has_at_most_one_line_for_an_axis_and_metric() -> None:
    found = printed(view(rows()))
    assert len(found) == 2
    assert found[0].startswith("axis     filter.drop: MD, 0.5 against 0.0: lenet +0.040 [")
    assert found[0].endswith("; 1 more on the page")


def test_a_sweep_without_an_axis_has_no_such_section() -> None:
    assert 'id="axes"' not in page.html(synthetic_sweep.view())
    assert printed(synthetic_sweep.view()) == []


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "a" * 300])
def test_hostile_values_are_text(hostile: str) -> None:
    found = tuple(replace(r, at=hostile) if r.at == "0.5" else r for r in rows())
    text = page.html(view(found))
    assert "<script>alert" not in text
