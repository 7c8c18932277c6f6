"""The report of Hard ImageNet and Breeds: figures 7, 8, 9 and 12, and a page that stays small."""

import base64
import io
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import synthetic_arms
import synthetic_imagenet
from matplotlib.colors import to_hex
from PIL import Image
from rich.console import Console
from test_page import Reader

from ray_selfloop.report import (
    ablations,
    answer,
    comparisons,
    figures,
    grids,
    notices,
    numbers,
    page,
    slopes,
    style,
    terminal,
)
from ray_selfloop.report.groups import groups
from ray_selfloop.report.series import Table
from ray_selfloop.report.view import Samples

NETWORKS = tuple(synthetic_imagenet.CLEAN)
KINDS = tuple(synthetic_imagenet.DROP)


def _of(dataset: str, **changes):
    return synthetic_imagenet.scenario(dataset, chains=2, generations=3, side=64, **changes)


@pytest.fixture(scope="module")
def hard():
    return synthetic_imagenet.view(_of("hard_imagenet"))


@pytest.fixture(scope="module")
def breeds():
    return synthetic_imagenet.view(_of("breeds"))


@pytest.fixture(scope="module")
def hard_html(hard):
    return page.html(hard)


@pytest.fixture(scope="module")
def breeds_html(breeds):
    return page.html(breeds)


@pytest.fixture(scope="module")
def inks():
    return style.inks(NETWORKS)


def _text(html: str) -> str:
    return re.sub(r"\s+", " ", " ".join(Reader(html).text))


def _pictures(html: str, kind: str) -> list[bytes]:
    start = f"data:image/{kind};base64,"
    found = (a for a in Reader(html).addresses if a.startswith(start))
    return [base64.b64decode(address.removeprefix(start)) for address in found]


def _mean(view, classifier: str, metric: str, generation: int, subgroup: str = ""):
    rows = view.results
    at = (rows["metric"] == metric) & (rows["classifier"] == classifier) & rows["seed"].isna()
    at &= (rows["generation"] == generation) & (rows["subgroup"] == subgroup)
    (row,) = rows[at].itertuples()
    return row


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "title", "heading", "grid"),
    [
        ({"dataset": "hard_imagenet"}, "Hard ImageNet", "Figures 8 and 9", "12"),
        ({"initialization": "living17"}, "Breeds LIVING-17", "Figure 7", ""),
        ({"initialization": "nonliving26"}, "Breeds NONLIVING-26", "Figure 7", ""),
        ({"initialization": "", "pretrained": False}, "Breeds, from scratch", "Figure 7", ""),
        (
            {"initialization": "living17", "axes": {"dataset.benchmark": "living17", "a.b": "2"}},
            "Breeds LIVING-17, a.b 2",
            "Figure 7",
            "",
        ),
    ],
)
def test_a_group_is_called_and_numbered_as_in_the_paper(breeds, fields, title, heading, grid):
    (scenario,) = breeds.scenarios
    (group,) = groups([replace(scenario, **{"axes": {}} | fields)])
    assert (group.title, group.heading, group.grid) == (title, heading, grid)


def test_a_row_of_table_1_names_dataset_and_start(hard_html, breeds_html):
    assert "Hard ImageNet ImageNet weights 77.6 97.6" in _text(hard_html)
    assert "Breeds LIVING-17 ImageNet weights 77.6 97.6" in _text(breeds_html)


# --- Hard ImageNet -------------------------------------------------------------------------------


def test_without_subgroups_nothing_on_the_page_speaks_of_fairness(hard_html):
    text = _text(hard_html)
    for words in ("Figure 9: Classification", "Figure 8: What removing", "Figure 12: samples"):
        assert words in text
    assert "15 classes, no subgroups" in text
    assert not re.search(r"\b(MEO|DI|MD|noise floor|Subgroup)\b", text)
    assert "not in the registry" not in text
    for drawing in _pictures(hard_html, "svg+xml"):
        assert not re.search(r"not defined|MEO|noise floor", drawing.decode())


def test_the_same_view_gives_the_same_page_of_photographs(hard, hard_html):
    assert page.html(hard) == hard_html


def test_figure_8_draws_every_number_of_the_table_with_its_interval(hard, inks):
    (scenario,) = hard.scenarios
    figure = ablations.figure(Table(hard.results), scenario, inks)
    assert len(figure.axes) == 9
    for axes in figure.axes:
        measure, kind = axes.get_title(loc="left").split(": ")
        key = {one.heading: one.name for one in ablations.MEASURES}[measure]
        key += "/" + {words: name for name, words in ablations.KINDS.items()}[kind]
        assert len(axes.lines) == len(axes.collections) == len(NETWORKS)
        for name, line, bars in zip(NETWORKS, axes.lines, axes.collections, strict=True):
            rows = [_mean(hard, name, key, n) for n in range(3)]
            np.testing.assert_allclose(line.get_ydata(), [row.value for row in rows])
            ends = [segment[:, 1] for segment in bars.get_segments()]
            np.testing.assert_allclose(ends, [(row.low, row.high) for row in rows])
            assert line.get_color() == inks[name][0]


def test_no_interval_hides_another_network(hard, inks):
    (scenario,) = hard.scenarios
    table = Table(hard.results)
    for axes in (
        *figures.overall(table, scenario, inks).axes,
        *ablations.figure(table, scenario, inks).axes,
    ):
        places = [
            segment[0, 0] for bars in axes.collections[-5:] for segment in bars.get_segments()
        ]
        assert len(set(np.round(places, 6))) == len(places)


def test_the_ablation_table_shows_first_last_and_change_of_every_column(hard, hard_html):
    text = _text(hard_html)
    for name, metric in ((n, m) for n in NETWORKS for m in ablations.MEASURES):
        for kind in KINDS:
            for n in (0, 2):
                row = _mean(hard, name, f"{metric.name}/{kind}", n)
                assert f"{numbers.number(row.value)} {numbers.interval(row.low, row.high)}" in text
            row = _mean(hard, name, f"{metric.name}_change/{kind}", 2)
            shown = f"{numbers.signed(row.value)} {numbers.small_interval(row.low, row.high)}"
            assert shown in text
    (first, *_) = ablations.rows(Table(hard.results), hard.scenarios[0])
    assert [line["label"] for line in first["lines"]] == ["generation 0", "generation 2", "change"]
    assert {len(line["cells"]) for line in first["lines"]} == {11}
    assert {cell.value for line in first["lines"] for cell in line["cells"]}.isdisjoint("–")


def test_the_captions_say_how_to_read_a_drop_and_what_is_left_out(hard_html):
    text = _text(hard_html)
    assert "A larger drop means more reliance on the object and less on spurious cues" in text
    assert "a lower clean accuracy alone shrinks the drop, hence the relative drop" in text
    assert "(box from neighbour 12)" in text


def test_accuracy_stands_beside_its_change_once_there_is_one(hard, inks):
    (scenario,) = hard.scenarios
    drawn = figures.overall(Table(hard.results), scenario, inks)
    titles = ["Accuracy", "Change of accuracy since generation 0"]
    assert [axes.get_title(loc="left") for axes in drawn.axes] == titles
    begun = hard.results[hard.results["generation"] == 0]
    drawn = figures.overall(Table(begun), scenario, inks)
    assert [axes.get_title(loc="left") for axes in drawn.axes] == titles[:1]


def test_without_subgroups_the_filters_audit_is_by_class(hard_html):
    text = _text(hard_html)
    assert "Keep rate by class and generation 1 2 all 0.40 0.40 dog sled 0.40 0.40" in text
    assert "Counts and keep rates, every chain and generation (4)" in text
    assert "by subgroup" not in text


def test_arms_without_subgroups_are_compared_by_accuracy_and_drops(inks):
    view = synthetic_imagenet.view(_of("hard_imagenet"), _of("hard_imagenet", arm="no_synthetic"))
    (group,) = groups(view.scenarios)
    assert (group.title, len(group.controls)) == ("Hard ImageNet", 1)
    figure = comparisons.arms(Table(view.results), group, inks)
    heads = [axes.get_title(loc="left").split(": ")[1] for axes in figure.axes[:3]]
    assert heads == ["Acc", "Drop, object gray", "Rel. drop, object gray"]
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "noise floor" not in named
    for axes in figure.axes:
        assert all(len(line.get_ydata()) for line in axes.lines)


# --- Breeds --------------------------------------------------------------------------------------


def test_figure_7_sets_the_worst_against_the_best_with_their_slopes(breeds):
    (scenario,) = breeds.scenarios
    figure = figures.ranked(Table(breeds.results), scenario)
    worst, best = style.ramp(4)[0], style.ramp(4)[-1]
    for axes in figure.axes:
        drawn = Counter(to_hex(line.get_color()) for line in axes.lines)
        assert drawn == {worst: 2, best: 2, figures.BETWEEN: 2}
        (words,) = (text.get_text() for text in axes.texts)
        assert words.splitlines() == [
            "slope per generation",
            "worst: -0.011 [-0.015, -0.0070]",
            "best: -0.0050 [-0.0090, -0.0010]",
        ]
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named[:3] == ["rank 1 (worst)", "ranks between", "rank 4 (best)"]


def test_the_words_over_a_panel_overlap_neither_its_title_nor_its_neighbours(breeds):
    figure = figures.ranked(Table(breeds.results), breeds.scenarios[0])
    figure.draw_without_rendering()
    renderer = figure._get_renderer()
    boxes = [axes.texts[0].get_window_extent(renderer) for axes in figure.axes]
    boxes += [axes._left_title.get_window_extent(renderer) for axes in figure.axes]
    boxes += [axes.get_window_extent(renderer) for axes in figure.axes]
    boxes += [legend.get_window_extent(renderer) for legend in figure.legends]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_the_slopes_stand_in_a_table_with_levels_and_changes(breeds, breeds_html):
    text = _text(breeds_html)
    assert "Figure 7: Subgroup performance." in text
    for name in NETWORKS:
        for rank, label in (("rank 1", "worst"), ("rank 4", "best")):
            row = _mean(breeds, name, "ranked_cross_fitted_change", 2, rank)
            shown = f"{numbers.signed(row.value)} {numbers.small_interval(row.low, row.high)}"
            assert re.search(rf"{rank} \({label}\) [^a-z]*{re.escape(shown)}", text)
    assert "best minus worst +0.0060 [0.0020, 0.010]" in text


def test_without_slopes_the_changes_remain_and_nothing_is_made_up(breeds):
    rows = breeds.results[breeds.results["metric"] != slopes.SLOPE]
    view = replace(breeds, results=rows)
    text = _text(page.html(view))
    assert "slope per generation" not in text
    assert "rank 1 (worst)" in text
    assert "best minus worst" not in text
    assert not any(axes.texts for axes in figures.ranked(Table(rows), view.scenarios[0]).axes)


def test_other_datasets_keep_all_their_ranks():
    view = synthetic_arms.view(chains=1, generations=2)
    figure = figures.ranked(Table(view.results), view.scenarios[0])
    drawn = {to_hex(line.get_color()) for line in figure.axes[0].lines}
    assert drawn == set(style.ramp(5))
    assert not figure.axes[0].texts


# --- sample grids --------------------------------------------------------------------------------


def _flat(colours: np.ndarray, side: int) -> Samples:
    """Images of one colour each; colours ``(classes, k, 3)``."""
    return Samples(0, 1, np.broadcast_to(colours[..., None, None], (*colours.shape, side, side)))


@pytest.mark.parametrize("side", [64, 112, 512])
def test_every_sample_stands_under_its_class(side):
    colours = np.random.default_rng(side).integers(0, 256, (4, 2, 3)).astype(np.uint8)
    (encoded,) = grids.rows_jpeg([_flat(colours, side)], slice(1, 4), 10**6)
    row = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    shown = min(side, 112)
    assert row.shape == (2 * shown + grids.GAP, 3 * (shown + 2 * grids.GAP), 3)
    for column, k in np.ndindex(3, 2):
        left, top = column * (shown + 2 * grids.GAP) + grids.GAP, k * (shown + grids.GAP)
        middle = row[top + shown // 4 : top + shown // 2, left + shown // 4 : left + shown // 2]
        expected = np.broadcast_to(colours[column + 1, k], middle.shape).astype(int)
        np.testing.assert_allclose(middle, expected, atol=4)


@pytest.mark.parametrize("most", [400_000, 100_000, 45_000])
def test_rows_of_photographs_fit_their_bytes_and_are_made_alike(most):
    rows = [Samples(0, n, synthetic_imagenet.photographs(15, n, 2, 128)) for n in range(3)]
    encoded = grids.rows_jpeg(rows, slice(0, 15), most)
    assert sum(map(len, encoded)) <= most
    assert len({Image.open(io.BytesIO(row)).size for row in encoded}) == 1


@pytest.mark.parametrize("classes", [1, 15, 17, 18, 26, 60])
def test_bands_hold_every_class_once_and_are_about_equally_wide(classes):
    found = [list(range(classes))[band] for band in grids.bands(classes)]
    assert [c for band in found for c in band] == list(range(classes))
    widths = [len(band) for band in found]
    assert max(widths) <= grids.MOST_COLUMNS
    assert len(set(widths[:-1])) <= 1


@pytest.mark.slow
def test_the_page_of_the_papers_sweep_stays_under_3_megabytes():
    view = synthetic_imagenet.view(synthetic_imagenet.scenario("hard_imagenet"))
    html = page.html(view)
    assert len(html) < 3_000_000
    rows = _pictures(html, "jpeg")
    assert len(rows) == 3 * 5
    assert not _pictures(html, "png")
    widths = {Image.open(io.BytesIO(row)).width for row in rows}
    assert min(widths) >= 15 * 64


def test_one_chain_of_photographs_is_unfolded(hard_html):
    shown = re.sub(r"<details.*?</details>", "", hard_html, flags=re.DOTALL)
    assert "Figure 12: samples, loop seed 0" in shown
    assert "loop seed 1" not in shown
    assert "<summary>Figure 12: samples, loop seed 1</summary>" in hard_html


def test_artifacts_of_photographs_are_jpeg(hard, breeds, tmp_path):
    of_chains = {"samples_loop_seed_0.jpg", "samples_loop_seed_1.jpg"}
    for view, own in ((hard, "ablations.png"), (breeds, "ranked_subgroups.png")):
        (paths,) = page.artifacts(view, tmp_path).values()
        assert {path.name for path in paths} == {"overall.png", own, *of_chains}
        for path in paths:
            with Image.open(path) as image:
                assert image.format == {"png": "PNG", "jpg": "JPEG"}[path.suffix[1:]]


# --- what the reader is told ---------------------------------------------------------------------


def _told(view) -> str:
    return " / ".join(f"{n.title}: {n.text}" for n in notices.notices(view))


def test_a_sweep_on_the_papers_weights_needs_no_notice(hard, breeds):
    assert _told(hard) == _told(breeds) == ""


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pretrained": False}, "classifiers start from scratch, the paper's from ImageNet"),
        ({"own_clip": True}, "domain_clip_score is of a small model"),
        ({"base": "/weights/tiny"}, "Stable Diffusion starts from /weights/tiny; whether"),
    ],
)
def test_other_weights_than_the_papers_are_told(hard, changes, told):
    view = replace(hard, scenarios=(replace(hard.scenarios[0], **changes),))
    shown = _told(view)
    assert shown.startswith("Not the paper's weights: hard_imagenet: ")
    assert told in shown


def test_a_control_without_generated_data_has_no_base_to_tell_of(hard):
    changes = {"base": "/weights/tiny", "own_clip": True}
    control = replace(hard.scenarios[0], generators=(), audits=(), **changes)
    assert _told(replace(hard, scenarios=(control,))) == ""


def test_missing_ablations_are_told(hard):
    rows = hard.results[~hard.results["metric"].str.startswith("ablation")]
    view = replace(hard, results=rows)
    assert _told(view) == (
        "No ablations: hard_imagenet: the table has no accuracy under ablation, for no predictions "
        "without the object are there; so nothing is said of spurious cues"
    )
    text = _text(page.html(view))
    assert "Figure 8" not in text.replace("Figures 8", "")
    assert "First and last generation" in text


def test_ablations_missing_because_every_classifier_collapsed_are_told_as_that(hard):
    rows = hard.results[~hard.results["metric"].str.startswith("ablation")].copy()
    flags = rows["metric"] == "collapsed"
    rows.loc[flags, "value"] = 1.0
    assert "under ablation, for every classifier is collapsed and" in _told(
        replace(hard, results=rows)
    )
    rows.loc[rows.index[flags][0], "value"] = 0.0  # one sound trial would have had a drop
    assert "under ablation, for no predictions without the object" in _told(
        replace(hard, results=rows)
    )


def test_where_the_table_does_not_say_who_collapsed_both_reasons_are_named(hard):
    metric = hard.results["metric"]
    rows = hard.results[~metric.str.startswith("ablation") & (metric != "collapsed")]
    assert (
        "under ablation, for every classifier is collapsed or no predictions without the object "
        "are there" in _told(replace(hard, results=rows))
    )


def test_a_generator_that_made_its_fixed_number_of_steps_ended_well(hard):
    (scenario,) = hard.scenarios

    def ended(outcome: str):
        runs = tuple(replace(run, outcome=outcome) for run in scenario.generators)
        return replace(hard, scenarios=(replace(scenario, generators=runs),))

    assert _told(ended("completed")) == ""
    assert "Nothing to warn of" in _text(page.html(ended("completed")))
    assert _told(ended("budget")).startswith("Generator stopped by its budget: Training ended")


def test_a_relative_drop_without_meaning_is_told_and_called_so(hard):
    rows = hard.results.copy()
    at = rows["metric"].str.startswith("ablation_drop_relative/") & (rows["generation"] == 2)
    at &= rows["classifier"] == "alexnet"
    rows.loc[at, ["value", "low", "high"]] = np.nan
    view = replace(hard, results=rows)
    (notice,) = notices.notices(view)
    assert notice.details == ("hard_imagenet, generation 2, alexnet",)
    assert not re.search(r"\b(nan|inf|NaN|None)\b", _text(page.html(view)))


@pytest.mark.parametrize("dataset", ["hard_imagenet", "breeds"])
def test_a_sweep_of_pictures_that_has_just_begun_has_a_page(dataset):
    found = synthetic_imagenet.scenario(dataset, chains=1, generations=1, side=64)
    Reader(page.html(synthetic_imagenet.view(found)))


def _asked(hard, verdict: str):
    """Hard ImageNet's primary statement: reliance on spurious cues grows."""
    (scenario,) = hard.scenarios
    value = -0.02 if verdict == "supported" else 0.004
    claim = synthetic_arms.hypothesis(
        scenario.group, verdict, metric="ablation_drop/object_gray", direction="decreases",
        text="Bias is amplified: reliance on spurious cues grows", value=value,
    )  # fmt: skip
    return replace(hard, claims=(claim,))


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("supported", "Yes: bias grew (drop without the object -0.020"),
        ("undecided", "Undecided: whether bias grew is not decided"),
    ],
)
def test_without_subgroups_the_answer_is_about_reliance_on_cues(hard, verdict, said):
    assert answer.answer(_asked(hard, verdict)).text.startswith(said)


def test_the_primary_table_has_a_row_for_a_setting_without_subgroups(hard):
    asked = page.html(_asked(hard, "undecided")).split('<section id="answer">')[1]
    text = _text(asked.split("<h3>")[0])
    assert "Hard ImageNet primary · Bias is amplified: reliance on spurious cues grows" in text
    assert "ablation_drop/object_gray: last minus first generation" in text
    assert not re.search(r"\b(MEO|MD)\b", text)


def test_the_terminal_answers_for_cues_too(hard):
    text = " ".join(_shown(_asked(hard, "undecided")).split())
    assert "primary Hard ImageNet: drop without the object +0.0040" in text


# --- the terminal --------------------------------------------------------------------------------


def _shown(view) -> str:
    out = io.StringIO()
    terminal.summary(Console(file=out, width=80), view, terminal.Paths("r", "h", ""))
    return out.getvalue()


def test_the_terminal_shows_accuracy_and_drops_where_there_are_no_subgroups(hard):
    text = _shown(hard)
    lines = text.splitlines()
    heads = ["accuracy", "drop, gray object", "drop, gray box", "drop, neighbour"]
    assert [line.strip() for line in lines if line.strip() in heads] == heads
    assert not re.search(r"\b(MEO|MD|not defined)\b", text)
    at = lines.index(next(line for line in lines if line.startswith("drop, gray box")))
    row = _mean(hard, "alexnet", "ablation_drop/box_gray", 0)
    assert lines[at + 1].split()[:2] == ["alexnet", numbers.number(row.value)]


def test_the_overview_sets_datasets_with_and_without_subgroups_apart():
    view = synthetic_imagenet.view(
        _of("hard_imagenet"), _of("hard_imagenet", arm="no_synthetic"), _of("breeds")
    )
    text = _shown(view)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    lines = text.splitlines()
    drops, fairness = (i for i, line in enumerate(lines) if "chains·trials" in line)
    assert "drop, gray object" in lines[drops]
    assert "MD floor" in lines[fairness]
    assert lines[drops - 1].strip() == "Hard ImageNet"
    assert lines[fairness - 1].strip() == "Breeds LIVING-17"
