"""The report of a sweep with control arms: figures, claims, notices, what they must not hide."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import synthetic_arms
from matplotlib.colors import to_hex
from PIL import Image
from test_page import Reader

from ray_selfloop.inference.verdicts import WORDS
from ray_selfloop.report import (
    cells,
    comparisons,
    figures,
    grids,
    notices,
    numbers,
    page,
    primary,
    style,
)
from ray_selfloop.report.groups import groups, titles
from ray_selfloop.report.series import Table


@pytest.fixture(scope="module")
def view():
    return synthetic_arms.view(chains=2, generations=4)


@pytest.fixture(scope="module")
def table(view):
    return Table(view.results)


@pytest.fixture(scope="module")
def inks():
    return style.inks(synthetic_arms.CLASSIFIERS)


@pytest.fixture(scope="module")
def html(view):
    """Of two treatments and one control arm: half the time to draw."""
    return page.html(replace(view, scenarios=tuple(view.scenarios[i] for i in (0, 2, 3))))


@pytest.fixture(scope="module")
def bare(view):
    """Without figures: the answer, the claims and the notices."""
    rows = view.results
    return replace(view, scenarios=(), results=rows[rows["metric"] != "A"])


@pytest.fixture(scope="module")
def text(html):
    return re.sub(r"\s+", " ", " ".join(Reader(html).text))


@pytest.mark.parametrize(
    ("fields", "figure", "grid"),
    [
        ({"dataset": "colorized_mnist", "initialization": "unbiased"}, "3", "10"),
        ({"dataset": "colorized_mnist", "initialization": "biased"}, "4", "10"),
        ({"dataset": "colorized_mnist", "of_the_paper": False}, "", ""),
        ({"dataset": "cifar20_100", "pretrained": False}, "5", "11"),
        ({"dataset": "cifar20_100", "pretrained": True}, "6", "11"),
        ({"dataset": "cifar20_100", "of_the_paper": False}, "", ""),
        ({"dataset": "colorized_digits", "initialization": "unbiased"}, "", ""),
    ],
)
def test_a_group_is_named_after_the_papers_figure(view, fields, figure, grid):
    plain = {"initialization": "", "pretrained": False}
    (group,) = groups([replace(view.scenarios[0], **(plain | fields))])
    assert (group.paper, group.grid) == (figure, grid)


def test_the_treatment_leads_its_group_whatever_order_the_sweep_has(view):
    for order in (view.scenarios, view.scenarios[::-1]):
        found = groups(order)
        assert {g.main.arm for g in found} == {"treatment"}
        for group in found:
            assert {s.group for s in group.scenarios} == {group.name}
    assert len(set(titles(view.scenarios).values())) == len(view.scenarios)


def test_groups_of_different_points_have_different_titles(view):
    axes = ({"queue.tilt": "0.5"}, {"queue.tilt": "1.0"}, {"training.pretrained": "True"}, {})
    points = [
        replace(view.scenarios[0], name=str(i), group=str(i), dataset="colorized_mnist",
                axes={"loop.arm": "treatment", **of})
        for i, of in enumerate(axes)
    ]  # fmt: skip
    assert len({group.title for group in groups(points)}) == len(points)


def test_the_page_stands_alone_and_says_every_figure_and_verdict(view, html, text):
    read = Reader(html)
    assert not {"script", "link"} & set(read.tags)
    assert all(a.startswith(("data:image/", "#")) for a in read.addresses)
    inside = [a[1:] for a in read.addresses if a.startswith("#")]
    assert set(inside) <= set(read.ids)
    for words in ("Figure 5 (a)", "Figure 5 (b)", "Figure 6 (a)", "Figure 11: samples", "Table 1."):
        assert words in text
    for claim in view.claims:
        assert claim.text in text
        assert claim.reason in text
    assert "persistence" in text
    assert "unordered" in text
    assert not re.search(r"\b(nan|inf|NaN|None)\b", text)


@pytest.mark.slow
def test_the_same_numbers_give_the_same_figures(view, table, inks):
    names = ("arms", "decomposition", "amplification")
    twice = [
        [style.svg(figure) for name, figure in _drawn(view, table, inks) if name in names]
        for _ in range(2)
    ]
    assert twice[0] == twice[1]


@pytest.mark.slow
def test_a_whole_sweeps_page_stays_small():
    assert len(page.html(synthetic_arms.view())) < 6_000_000


def test_the_first_words_are_the_answer(html):
    shown = " ".join(Reader(html).text)
    assert shown.index("In part") < shown.index("supported") < shown.index("Eq. 6:")


def test_every_verdict_word_is_defined_before_its_second_badge(html):
    first = html.index("<main>")
    for word in WORDS:
        badges = [m.start() for m in re.finditer(rf">(?:<b>\d+</b>|\d+ )?{word}</span>", html)]
        meaning = WORDS[word].replace("'", "&#39;")
        if not badges:
            assert meaning not in html, word
            continue
        (at,) = (m.start() for m in re.finditer(re.escape(f"<dd>{meaning}</dd>"), html))
        beside = 1500 if at < first else 200  # in the header the counts come first
        assert at - badges[0] < beside, word


def test_the_page_words_nothing_undecided_as_absence(html, text):
    assert "No sign" not in text
    assert not re.search(r"shows? no (measurable )?bias", text)
    assert "9 of 9 changes look like no effect" in text  # where the true effect is 0
    before, of_a_a = html.split("<h3>What seeds alone do")
    assert "no effect" not in before + of_a_a.split("</details>", 1)[1]


def test_a_primary_statement_has_its_parts_its_losses_and_both_other_margins(html, text):
    asked = html.split('<section id="answer">')[1].split("<h3>")[0]
    shown = re.sub(r"\s+", " ", " ".join(Reader(asked).text))
    assert "supported under half the margin: supported; under twice: ruled out" in shown
    assert "+0.0010 [-0.0020, 0.0040] +0.0030 [-0.012, 0.018]" in shown
    assert "lost to collapse: treatment 1 of 18" in shown
    assert "the introduction's hypothesis" in shown
    assert "exploratory: intervals without a verdict" in shown
    assert shown.count("resnet50") == 2


def test_a_declaration_in_time_is_named_with_its_hash(view, text):
    frozen = view.declared
    assert f"Declared {frozen.at}, before the first classifier of generation 1" in text
    assert f"hash {frozen.hash}" in text
    assert "Not declared before the data" not in text


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"before": False}, "after the first classifier of generation 1 had begun to train"),
        ({"at": "", "before": False}, "never declared before the data"),
    ],
)
def test_a_late_declaration_is_loud_and_makes_everything_exploratory(bare, changes, why):
    view = bare
    late = replace(
        view,
        claims=tuple(
            replace(c, verdict="exploratory", reason="declared after the data", half="", twice="")
            for c in view.claims
        ),
        declared=replace(view.declared, **changes),
    )
    html = page.html(late)
    text = re.sub(r"\s+", " ", " ".join(Reader(html).text))
    assert why in text
    assert "every statement of this page is exploratory" in text
    assert 'class="declared late"' in html
    head = html.split("<main>")[0]
    assert WORDS["exploratory"] in head
    assert not re.search(r"badge supported", html)


def test_intervals_that_a_a_refutes_are_loud(bare):
    wrong = replace(bare, null=synthetic_arms.nulls(bad=2))
    html = page.html(wrong)
    assert 'class="loud"' in html
    assert "only 7 of 9 changes look like no effect" in html
    (first, *_) = notices.notices(wrong)
    assert (first.level, len(first.details)) == ("failed", 2)


def test_trials_that_one_arm_lost_stand_beside_the_statement(bare):
    lost = (
        "the arms lost different numbers of trials to collapse (treatment 3 of 18, no_synthetic 0)"
    )
    group = synthetic_arms.GROUPS["scratch"]
    why = f"{lost}: fairness among the survivors is no evidence"
    claim = synthetic_arms.hypothesis(group, "undecided", lost=lost, reason=why)
    text = " ".join(Reader(page.html(replace(bare, claims=(claim,)))).text)
    head, asked = text.split("Does bias grow from generation to generation?")
    assert lost in head
    assert asked.count(lost) == 2  # beside the trials, and as the reason


def test_without_the_arm_a_a_nothing_is_said_of_it(view):
    assert primary.nothing(replace(view, null=())) is None


def test_statements_that_cannot_be_tested_are_folded_at_the_end(view, html):
    claims = html.split('<section id="claims">')[1].split("</section>")[0]
    (n,) = re.findall(r'<details id="untested"><summary>(\d+) statements', claims)
    assert int(n) == sum(c.verdict == "not tested" for c in view.claims) > 0
    assert claims.rindex('<details class="claims"') < claims.index('id="untested"')
    others = len(view.claims) - 2 - int(n)
    assert f"of {others} statements; the {n} others that this sweep cannot test" in html


def test_holm_is_explained_to_who_does_not_know_it(text):
    assert "how often chance alone gives data this clear" in text
    assert "at most a 5 % chance of any false verdict" in text
    assert "6 statements judged together" in text


def test_fid_is_absent_with_its_reason_or_present_without_it(view, text):
    assert f"absent: {view.fid_absent}" in text
    rows = view.results
    fid = rows[rows["metric"] == "kernel_distance/pixels8"].assign(metric="fid", value=223.04)
    view = replace(view, results=pd.concat([rows, fid], ignore_index=True))
    quality = page._quality(Table(view.results), view, groups(view.scenarios))
    assert quality["fid_absent"] == ""
    assert quality["blocks"][0].metric == "fid"
    assert {c.value for row in quality["blocks"][0].rows for c in row["cells"]} == {"223.0"}


def test_table_1_has_a_row_for_each_treatment_and_a_column_for_each_generation(view, table):
    quality = page._quality(table, view, groups(view.scenarios))
    for block in quality["blocks"]:
        starts = [row["start"] for row in block.rows]
        assert starts == ["from scratch", "ImageNet weights"]
        assert {len(row["cells"]) for row in block.rows} == {3}
    controls = {row["start"] for block in quality["controls"] for row in block.rows}
    assert controls == {"from scratch, unfiltered", "ImageNet weights, unfiltered"}


# --- figures -------------------------------------------------------------------------------------


def _drawn(view, table, inks):
    group = groups(view.scenarios)[0]
    parts = [p for p in view.decomposition if p.scenario_group == group.name]
    yield "overall", figures.overall(table, group.main, inks)
    yield "ranked", figures.ranked(table, group.main)
    yield "arms", comparisons.arms(table, group, inks)
    yield "decomposition", comparisons.decomposition(parts, inks)
    yield "amplification", comparisons.amplification(table, [(group.title, group.main)], inks)


def test_no_legend_covers_a_panel_and_generations_are_whole_numbers(view, table, inks):
    for name, figure in _drawn(view, table, inks):
        figure.draw_without_rendering()
        renderer = figure._get_renderer()
        panels = [axes for axes in figure.axes if axes.get_visible()]
        for legend in figure.legends:
            box = legend.get_window_extent(renderer)
            assert not any(box.overlaps(axes.get_tightbbox(renderer)) for axes in panels), name
        for axes in panels:
            assert axes.get_ylabel() or name in ("decomposition", "ranked", "amplification")
            if name != "decomposition":
                assert all(float(tick).is_integer() for tick in axes.get_xticks()), name
                assert axes.get_xlabel() or name == "arms"


def _fills(axes):
    return [to_hex(c) for patch in axes.collections for c in np.atleast_2d(patch.get_facecolor())]


def test_every_fairness_panel_has_an_interval_and_a_floor(view, table, inks):
    group = groups(view.scenarios)[0]
    overall = figures.overall(table, group.main, inks)
    for axes in overall.axes[1:]:
        assert style.FLOOR in _fills(axes)
        assert {inks[c][0].lower() for c in group.main.classifiers} <= set(_fills(axes))
    arms = comparisons.arms(table, group, inks)
    for axes in arms.axes:
        assert (style.FLOOR in _fills(axes)) == ("Acc" not in axes.get_title(loc="left"))
        ends = sum(hasattr(c, "get_segments") for c in axes.collections)
        assert ends == len(group.scenarios)
    for axes in figures.ranked(table, group.main).axes:
        assert _fills(axes).count(style.FLOOR) == 5


def test_a_classifier_has_one_colour_on_the_whole_page(view):
    fewer = (replace(view.scenarios[0], classifiers=("vgg19",)), *view.scenarios[1:])
    inks = page._inks(replace(view, scenarios=fewer))
    assert len({colour for colour, _ in inks.values()}) == len(inks) == 3
    table = Table(view.results)
    for scenario in fewer[:2]:
        (line,) = (
            figures.overall(table, replace(scenario, classifiers=("vgg19",)), inks).axes[0].lines
        )
        assert line.get_color() == inks["vgg19"][0]


def test_artifacts_have_the_same_names_in_every_sweep(view, tmp_path):
    one = replace(view, scenarios=view.scenarios[:2])
    written = page.artifacts(one, tmp_path)
    of_each = {"overall.png", "ranked_subgroups.png"}
    of_group = {"arms.png", "decomposition.png", "amplification.png", "samples_loop_seed_0.png"}
    found = [{path.name for path in written[s.name]} for s in one.scenarios]
    assert found == [of_each | of_group, of_each]
    for path in (path for paths in written.values() for path in paths):
        with Image.open(path) as image:
            assert min(image.size) > 100


# --- tables --------------------------------------------------------------------------------------


def test_a_curve_is_the_mean_over_loop_seeds_of_the_table(view, table):
    rows = view.results
    name = view.scenarios[0].name
    own = rows[(rows["scenario"] == name) & (rows["metric"] == "kept_fraction")]
    own = own[(own["class"] == "fish") & (own["subgroup"] == "fine 2")]
    expected = own.groupby("generation")["value"].mean()
    curve = table.keep_rate(name, "", "fish", "fine 2")
    assert curve.generations.tolist() == expected.index.tolist()
    np.testing.assert_allclose(curve.value, expected)
    assert np.isnan(curve.low).all()


def test_a_heat_map_is_blue_above_the_overall_rate_and_orange_below(view):
    name = view.scenarios[0].name
    rows = view.results.copy()
    at = (rows["scenario"] == name) & (rows["metric"] == "kept_fraction") & (rows["class"] == "")
    for subgroup, rate in {"": 0.7, "fine 1": 0.5, "fine 2": 0.7, "fine 3": 0.9}.items():
        rows.loc[at & (rows["subgroup"] == subgroup), "value"] = rate
    table = Table(rows)
    overall = table.keep_rate(name, "")
    shown = [cells.heat(table.keep_rate(name, "", "", g), overall, 1) for g in ("fine 1", "fine 3")]
    assert [c.value for c in shown] == ["0.50", "0.90"]
    (less, more) = (tuple(bytes.fromhex(c.colour[1:])) for c in shown)
    assert less[0] > less[2]
    assert more[2] > more[0]
    assert cells.heat(table.keep_rate(name, "", "", "fine 2"), overall, 1).colour == ""
    assert cells.heat(overall, overall, 99).value == "–"


@pytest.mark.parametrize("size", [8, 28, 32, 45, 224])
@pytest.mark.parametrize("width", [45, 90])
def test_images_that_do_not_fit_into_a_cell_are_fewer_or_smaller(size, width):
    images = np.random.default_rng(0).integers(0, 256, (6, 3, size, size), np.uint8)
    shown = grids.fitting(images, width)
    columns = grids.cell(shown, width).shape[1]
    assert columns <= width + grids.GAP
    if size <= width:
        np.testing.assert_array_equal(shown, images[: len(shown)])


# --- notices -------------------------------------------------------------------------------------


def test_many_troubles_are_few_notices_that_name_every_place(view):
    found = notices.notices(view)
    assert len(found) == 3
    collapsed, generators, queue = found
    dead = view.results[(view.results["metric"] == "collapsed") & (view.results["value"] == 1.0)]
    assert len(collapsed.details) == len(dead) == 6
    assert "6 of 144 trials" in collapsed.text
    bad = [run for s in view.scenarios for run in s.generators if run.outcome == "budget"]
    assert len(generators.details) == len(bad) > 10
    assert generators.text.count(": ") - 1 == len({s.name for s in view.scenarios if s.generators})
    assert queue.text.startswith("all 6 scenarios: the queue grows")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.000"),
        (0.25, "0.250"),
        (-0.0123, "-0.012"),
        (0.00123, "0.0012"),
        (-0.000456, "-0.00046"),
        (0.0000123, "1.2e-05"),
        (12.5, "12.5"),
        (float("nan"), "not defined"),
    ],
)
def test_small_effects_keep_two_digits(value, shown):
    assert numbers.small(value) == shown
