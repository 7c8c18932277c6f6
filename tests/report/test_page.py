"""The report page: what it says, that it stands alone, and that it never invents a number."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import synthetic_sweep
from PIL import Image

from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.rows import COLUMNS
from ray_selfloop.report import behind, definitions, grids, notices, numbers, page, primary
from ray_selfloop.report.series import Table
from ray_selfloop.report.view import Failure, Samples

VOID = {"meta", "img", "br", "line", "circle"}


class Reader(HTMLParser):
    """Visible text, addresses, ids and the stack of open tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        named = dict(attrs)
        self.addresses += [named[key] for key in ("src", "href") if key in named]
        self.ids += [named["id"]] if "id" in named else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


@pytest.fixture(scope="module")
def view():
    return synthetic_sweep.view()


@pytest.fixture(scope="module")
def small(view):
    """The biased scenario alone: half the time to draw."""
    return replace(view, scenarios=view.scenarios[1:])


@pytest.fixture(scope="module")
def html(view):
    return page.html(view)


@pytest.fixture(scope="module")
def read(html):
    return Reader(html)


@pytest.fixture(scope="module")
def text(read):
    return re.sub(r"\s+", " ", " ".join(read.text))


def test_the_page_needs_nothing_but_itself(read):
    assert "script" not in read.tags
    assert "link" not in read.tags
    for address in read.addresses:
        assert address.startswith(("data:image/", "#"))
    inside = {address[1:] for address in read.addresses if address.startswith("#")}
    assert inside <= set(read.ids)
    assert len(read.ids) == len(set(read.ids))


def test_the_same_view_gives_the_same_page(view, html):
    assert page.html(view) == html


def test_it_opens_with_the_question_then_the_verdicts_then_the_warnings(view, text):
    places = [
        text.index(view.question),
        *(text.index(verdict.text) for verdict in view.verdicts[:1]),
        text.index("Before you believe it"),
        text.index("Overall performance"),
    ]
    assert places == sorted(places)
    for verdict in view.verdicts:
        assert verdict.text in text
        assert verdict.note in text
    assert "1.220 [1.050, 1.410]" in text
    assert "1.180 [1.040, 1.330]" in text
    assert "A alone is no answer, since the bias of a control" in text


def test_warnings_name_scenario_generation_classifier_and_seed(text):
    where = "biased, loop seed 0, generation {}, mobilenet_v3_small, seed 1"
    assert where.format(2) + ": RuntimeError: <no> memory" in text
    assert where.format(3) in text
    assert "1 of 32 trials do no better than chance" in text
    assert "biased: mobilenet_v3_small 1 of 8" in text
    assert "Generator stopped by its budget" in text
    assert "Training ended while still improving: unbiased: 1 of 3; biased: 1 of 3" in text
    assert "unbiased, generation 3, loop seed 0 (step 900 of 900)" in text
    assert "One chain only" in text
    assert "and the control arm (axes.loop.arm=[treatment,no_synthetic])" in text
    assert "They stay in every mean of accuracy" in text
    assert "431 of 479 samples" in text


def test_without_trouble_the_page_says_so(view):
    fine = synthetic_sweep.view(chains=3)
    rows = fine.results
    fine = replace(
        fine,
        results=rows[rows["metric"] != "collapsed"],
        failures=(),
        warnings=(),
        scenarios=tuple(replace(s, generators=()) for s in fine.scenarios[:1]),
    )
    assert "Nothing to warn of" in page.html(fine)


def test_what_comes_from_outside_is_escaped(small):
    bad = "<script>alert(1)</script>"
    attacked = page.html(
        replace(
            small,
            question=bad,
            config_yaml=bad,
            warnings=(bad,),
            scenarios=tuple(replace(s, title=bad) for s in small.scenarios),
        )
    )
    assert bad not in attacked
    assert "script" not in Reader(attacked).tags


def test_undefined_numbers_are_called_so_and_never_drawn_as_a_number(small, text):
    rows = small.results.copy()
    rows.loc[rows["metric"] == "di", ["value", "low", "high"]] = np.nan
    without = Reader(page.html(replace(small, results=rows)))
    assert " ".join(without.text).count("not defined") > text.count("not defined")
    for shown in (text, " ".join(without.text)):
        assert not re.search(r"\b(nan|inf|NaN|None)\b", shown)


def test_the_tables_show_the_tables_numbers(view, text):
    rows = view.results
    means = rows[rows["seed"].isna() & (rows["generation"] == 3) & (rows["classifier"] == "lenet")]
    for metric in ("accuracy", "meo", "di", "md"):
        (row,) = means[(means["metric"] == metric) & (means["scenario"] == "biased")].itertuples()
        shown = f"{numbers.number(row.value)} {numbers.interval(row.low, row.high)}"
        assert shown in text
    for metric in ("frechet_distance/pixels8", "label_fidelity", "q", "u", "coverage"):
        assert metric in text


@pytest.mark.parametrize("generations", [1, 2])
def test_a_sweep_that_has_just_begun_has_a_page(generations):
    begun = synthetic_sweep.view(generations=generations, seeds=1)
    Reader(page.html(replace(begun, scenarios=begun.scenarios[:1])))


def test_a_sweep_where_everything_failed_has_a_page(view):
    scenarios = tuple(replace(s, samples=(), audits=(), generators=()) for s in view.scenarios)
    nothing = pd.DataFrame(columns=list(COLUMNS))
    empty = replace(view, results=nothing, scenarios=scenarios, verdicts=())
    shown = " ".join(Reader(page.html(empty)).text)
    assert "no fit was made" in shown
    assert "RuntimeError" in shown


def test_figures_are_drawings_with_a_label_for_each_classifier(read):
    drawings = [a for a in read.addresses if a.startswith("data:image/svg+xml;base64,")]
    assert len(drawings) == 4  # two figures for each of two scenarios
    for drawing in drawings:
        svg = base64.b64decode(drawing.split(",")[1]).decode()
        ElementTree.fromstring(svg)
        assert {"lenet", "mobilenet_v3_small"} <= set(re.findall(r">([^<>]+)</text>", svg))
        assert "generation (0 = real data only)" in svg


def test_artifacts_are_pictures(small, tmp_path):
    written = page.artifacts(small, tmp_path)
    assert set(written) == {"biased"}
    for path in written["biased"]:
        with Image.open(path) as image:
            assert min(image.size) > 100
    names_of = {path.name for path in written["biased"]}
    assert names_of == {"overall.png", "ranked_subgroups.png", "samples_loop_seed_0.png"}


@pytest.mark.parametrize("size", [8, 28, 32, 64])
@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_a_cell_holds_every_pixel_of_every_image_enlarged_by_one_factor(size, k):
    images = np.random.default_rng(0).integers(0, 256, (k, 3, size, size), np.uint8)
    cell = grids.cell(images, 100)
    columns = {1: 1, 2: 1, 4: 2, 5: 2}[k]
    scale = (cell.shape[1] + grids.GAP) // columns // size
    for i, image in enumerate(images):
        top = (i // columns) * (size * scale + grids.GAP)
        left = (i % columns) * (size * scale + grids.GAP)
        part = cell[top : top + size * scale, left : left + size * scale]
        for shift in (0, scale - 1):
            np.testing.assert_array_equal(
                part[shift::scale, shift::scale], image.transpose(1, 2, 0)
            )


def test_gray_images_are_shown_gray():
    cell = grids.cell(np.full((1, 1, 8, 8), 77, np.uint8), 50)
    assert (cell == 77).all()


def test_a_sheet_has_a_row_for_each_generation():
    samples = [Samples(0, n, synthetic_sweep.images(n)) for n in range(3)]
    heights = [
        Image.open(io.BytesIO(grids.sheet(samples[:rows], synthetic_sweep.CLASSES))).height
        for rows in (1, 2, 3)
    ]
    assert heights[2] - heights[1] == heights[1] - heights[0] > 0


def test_every_registered_metric_has_a_definition_on_the_page():
    defined = definitions.used([*metrics.METRICS, "meo_pooled_change_floor", "meo_floor"])
    assert defined == list(metrics.METRICS.values())


def test_a_definition_says_unit_ideal_and_range(text):
    assert "largest minus smallest subgroup TPR (eq. 4) fraction 0 0 to 1" in text
    assert "Frechet distance on named features distance 0 0 to ∞" in text


def test_curves_leave_collapsed_trials_out_of_all_but_accuracy():
    table = Table(synthetic_sweep.results())
    trials = table.trials("biased", "mobilenet_v3_small", "md")
    assert len(trials) == 4 * 2 - 1
    assert not ((trials["generation"] == 3) & (trials["seed"] == 1)).any()
    assert len(table.trials("biased", "mobilenet_v3_small", "accuracy")) == 4 * 2


def test_what_stands_behind_a_mean_stands_beside_it(view, text):
    table, (even, lossy) = Table(view.results), view.scenarios
    assert behind.sentence(table, even) == (
        "Behind each mean: 1 chain, 2 trials, none lost to collapse."
    )
    said = (
        "Behind each mean of accuracy: 2 trials; behind any other mean: 1 chain, 1 to 2 trials, "
        "since 1 of 16 trials are lost to collapse."
    )
    assert behind.sentence(table, lossy) == said
    assert text.count(said) == 2  # both figures
    assert "1 · 1, 1 lost" in text
    assert behind.cell(table, "biased", "lenet", 3) == "1 · 2"
    assert behind.cell(table, "biased", "nobody", 3) == "–"


def test_meo_and_md_are_called_one_number_once(view, text):
    assert text.count("1 − MEO is 2/3 of MD") == 1
    two = tuple(replace(s, subgroup_names=("red", "blue")) for s in view.scenarios)
    assert "2 subgroups of" in primary.one_number(replace(view, scenarios=two))
    five = tuple(replace(s, subgroup_names=tuple("abcde")) for s in view.scenarios)
    assert primary.one_number(replace(view, scenarios=five)) == ""


def test_what_the_intervals_are_about_is_said_once(text):
    assert text.count("All chains share the original data") == 1


def test_a_floor_covers_the_floors_of_all_classifiers():
    rows = synthetic_sweep.results()
    own = (rows["metric"] == "md_floor") & (rows["classifier"] == "lenet")
    rows.loc[own, ["low", "high"]] = [0.0, 0.01]
    floor = Table(rows).floor("biased", ("lenet", "mobilenet_v3_small"), "md")
    assert floor.at(2)[1:] == pytest.approx((0.0, 0.031))


def test_generator_numbers_of_several_chains_are_averaged_without_an_interval():
    one, three = (Table(synthetic_sweep.results(chains=n)) for n in (1, 3))
    asked = ("biased", "", "q", "generated")
    assert np.isfinite(one.generator(*asked).low).all()
    assert np.isnan(three.generator(*asked).low).all()
    rows = synthetic_sweep.results(chains=3)
    rows = rows[(rows["scenario"] == "biased") & (rows["metric"] == "q")]
    for n in (1, 2, 3):
        mean = rows.loc[rows["generation"] == n, "value"].mean()
        assert three.generator(*asked).at(n)[0] == pytest.approx(mean)


def test_chains_of_single_classifiers_are_shown_apart(small):
    rows = small.results.copy()
    generated = rows[rows["split"] != "test"]
    parts = [generated.assign(classifier=name) for name in ("lenet", "mobilenet_v3_small")]
    parts[1]["value"] = parts[1]["value"] / 2
    rows = pd.concat([rows[rows["split"] == "test"], *parts], ignore_index=True)
    (scenario,) = small.scenarios
    audits = tuple(replace(audit, classifier="lenet") for audit in scenario.audits)
    apart = replace(small, results=rows, scenarios=(replace(scenario, audits=audits),))
    table = Table(rows)
    of_each = [
        table.generator("biased", chain, "q", "generated").at(1)[0]
        for chain in table.chains("biased")
    ]
    assert of_each[0] == pytest.approx(2 * of_each[1])
    shown = " ".join(Reader(page.html(apart)).text)
    for chain in ("lenet", "mobilenet_v3_small"):
        assert f"Colorized digits, biased · chain of {chain}" in shown
    assert "loop seed 0 · chain of lenet" in shown
    assert "0.870 [0.855, 0.885]" in re.sub(r"\s+", " ", shown)


def test_stages_that_share_an_error_are_one_notice():
    blocked = "not run: a stage that it needs has failed"
    failures = [Failure("biased", 0, n, "generator", "", None, blocked) for n in range(1, 16)]
    failures.append(Failure("biased", 0, 1, "generator", "lenet", None, "OOM"))
    (first, second) = notices.notices(
        replace(
            synthetic_sweep.view(chains=3),
            results=synthetic_sweep.results().iloc[:0],
            failures=tuple(failures),
            warnings=(),
            scenarios=(),
        )
    )
    assert first.text.startswith("biased, loop seed 0, generation 1, generator; biased")
    assert first.text.endswith(f"; and 3 more: {blocked}")
    assert second.text == "biased, loop seed 0, generation 1, generator, chain of lenet: OOM"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.12345, "0.123"), (-0.5, "-0.500"), (1234.56, "1,234.6"), (float("nan"), "not defined")],
)
def test_numbers_are_written_with_three_decimals_or_called_undefined(value, shown):
    assert numbers.number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(8.31, "8.3 s"), (312.2, "5 min 12 s"), (7500, "2 h 05 min")]
)
def test_durations_are_written_for_people(value, shown):
    assert numbers.seconds(value) == shown
