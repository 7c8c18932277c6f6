"""What a dataset's settings are to a reader, from the words of a sweep to what is printed."""

import io
import re
from pathlib import Path

import pandas as pd
import pytest
from conftest import TWO_STARTS
from rich.console import Console

from ray_selfloop import declaration, loop, told
from ray_selfloop.conclusion.view import report_view
from ray_selfloop.config import load
from ray_selfloop.config.datasets.breeds import Breeds
from ray_selfloop.config.datasets.cifar import Cifar
from ray_selfloop.config.datasets.coloured import ColorizedMnist
from ray_selfloop.config.datasets.hard_imagenet import HardImageNet
from ray_selfloop.config.datasets.known import KINDS, PLACES
from ray_selfloop.evaluation.rows import COLUMNS
from ray_selfloop.graph import Graph
from ray_selfloop.planning import Plan
from ray_selfloop.report import page, terminal
from ray_selfloop.report.groups import groups
from ray_selfloop.report.view import ReportView
from ray_selfloop.running import Run
from ray_selfloop.stages import equation6
from ray_selfloop.stages.chain import chains
from ray_selfloop.store.records import Store

CIFAR = (
    "cifar20_100", "axes={loop.arm: [treatment, no_synthetic]}", "training.pretrained=false",
    "loop.generations=1",
)  # fmt: skip
MNIST = ("colorized_mnist", "axes={loop.arm: [treatment, no_synthetic]}", "loop.generations=1")
DIGITS = (TWO_STARTS, "axes={}", "loop.generations=1")
UNTOLD = {
    "name", "seed",
    "initialization", "benchmark", "variant",  # they are told as the start
    "damaged",  # what is left out is a warning of its own
}  # fmt: skip


def plan_of(words: tuple[str, ...], folder: Path) -> Plan:
    """As `planning.prepare` makes it, but for the data that are looked at."""
    config, *overrides = words
    sweep, scenarios = load.load(config, overrides)
    graph = Graph()
    for scenario in scenarios:
        for chain in chains(scenario):
            loop.add_chain(chain, "no data", graph)
    return Plan(sweep, scenarios, Store(folder), graph)


def view_of(words: tuple[str, ...], folder: Path) -> ReportView:
    return report_view(Run(plan_of(words, folder)), pd.DataFrame(columns=list(COLUMNS)), 1.0)


def printed(view: ReportView) -> str:
    console = Console(file=io.StringIO(), width=200)
    terminal.summary(console, view, terminal.Paths("results", "report", "tracking"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return re.sub(r"\s+", " ", text)


IMBALANCED = "dataset.variant=imbalanced"
FEW = "dataset.superclasses=[fish, people]"
SPURIOUS = "dataset.initialization=spurious"


@pytest.mark.parametrize(
    ("words", "title", "figures", "line"),
    [
        (CIFAR, "CIFAR-20/100, from scratch", ("5", "11"), "cifar20_100"),
        ((*CIFAR, IMBALANCED), "CIFAR-20/100, from scratch, imbalanced", ("", ""),
         "cifar20_100, imbalanced"),
        ((*CIFAR, IMBALANCED, "dataset.minority_kept=0.1"),
         "CIFAR-20/100 (10 % of the minority kept), from scratch, imbalanced", ("", ""),
         "cifar20_100, imbalanced, 10 % of the minority kept"),
        ((*CIFAR, FEW), "CIFAR-20/100 (2 of 20 superclasses), from scratch", ("", ""),
         "cifar20_100, 2 of 20 superclasses"),
        ((*CIFAR, "dataset.limit_train=5000"),
         "CIFAR-20/100 (at most 5,000 training images), from scratch", ("5", "11"),
         "cifar20_100, at most 5,000 training images"),
        (MNIST, "Colorized MNIST, unbiased", ("3", "10"), "colorized_mnist, unbiased"),
        ((*MNIST, SPURIOUS), "Colorized MNIST, spurious", ("", ""), "colorized_mnist, spurious"),
        ((*MNIST, "dataset.initialization=biased", "dataset.ratios=[0.5,0.3,0.2]"),
         "Colorized MNIST (colour shares 0.5, 0.3, 0.2), biased", ("", ""),
         "colorized_mnist, biased, colour shares 0.5, 0.3, 0.2"),
        ((*DIGITS, "dataset.reserve=0.5"),
         "colorized_digits, unbiased, 50 % of the training images set apart, base", ("", ""),
         "colorized_digits, unbiased, 50 % of the training images set apart"),
    ],
)  # fmt: skip
def test_a_page_says_of_what_data_it_is(words, title, figures, line, tmp_path) -> None:
    view = view_of(words, tmp_path)
    (group,) = groups(view.scenarios)
    assert (group.title, group.paper, group.grid) == (title, *figures)
    text = re.sub(r"\s+", " ", page.html(view))
    assert title in text
    assert ("Figure 5" in text) == (figures[0] == "5")
    assert f"{line}, {view.scenarios[0].name}" in printed(view)


def test_axes_of_the_data_are_told_once(tmp_path) -> None:
    axes = "axes={dataset.variant: [full, imbalanced], loop.arm: [treatment, no_synthetic]}"
    view = view_of((*CIFAR, axes), tmp_path)
    titles = [group.title for group in groups(view.scenarios)]
    assert titles == ["CIFAR-20/100, from scratch", "CIFAR-20/100, from scratch, imbalanced"]


def statements(words: tuple[str, ...]) -> set[str]:
    """Ids of what a sweep declares, without the hypothesis and what is said of any data."""
    config, *overrides = words
    content = declaration.declared(*load.load(config, overrides)).content
    return {s["id"] for of in content["families"].values() for s in of}


@pytest.mark.parametrize(
    ("words", "changes", "of_the_paper"),
    [
        (CIFAR, (), True), (CIFAR, (IMBALANCED,), False), (CIFAR, (FEW,), False),
        (CIFAR, ("dataset.limit_train=5000", "dataset.limit_test=1000"), True),
        (MNIST, (), True), (MNIST, ("dataset.limit_train=5000",), True),
        (MNIST, (SPURIOUS,), False), (MNIST, ("dataset.ratios=[0.5,0.3,0.2]",), True),
    ],
)  # fmt: skip
def test_other_data_are_no_evidence_on_what_the_paper_says_of_its_own(
    words, changes, of_the_paper
) -> None:
    """``ratios`` of unbiased colours have no meaning."""
    own = {s for s in statements((*words, *changes)) if s.startswith(("cifar", "mnist"))}
    assert bool(own) == of_the_paper
    assert any(s.startswith("amplifies") for s in statements((*words, *changes)))


def test_bias_of_other_data_has_a_name_of_its_own(tmp_path) -> None:
    """Eq. 6's d_D is a number of a dataset."""
    labels = [
        equation6._dataset_label(load.load("cifar20_100", ["axes={}", *changes])[1][0])
        for changes in ((), (IMBALANCED,), (FEW,))
    ]
    assert labels == [
        "cifar20_100", "cifar20_100, imbalanced", "cifar20_100, 2 of 20 superclasses",
    ]  # fmt: skip


@pytest.mark.parametrize("dataset", KINDS.values())
def test_every_setting_of_a_dataset_is_told_or_known_not_to_matter(dataset) -> None:
    assert set(dataset.model_fields) <= PLACES | UNTOLD | {
        *dataset.traits.other,
        *dataset.traits.fewer,
    }


@pytest.mark.parametrize(
    ("dataset", "differences"),
    [
        (HardImageNet(classes=("ski", "patio"), subset="balanced", side=64, fit="crop"),
         ("2 of 15 classes", "balanced subset", "64 pixels", "cropped")),
        (HardImageNet(limit_test=90, frame=300),
         ("at most 90 test images", "framed at 300 pixels")),
        (Breeds(benchmark="nonliving26", superclasses=("bag", "car"), fit="stretch"),
         ("2 of 26 superclasses", "stretched")),
        (Cifar(variant="imbalanced", superclasses=("fish", "people"), reserve=0.2,
               minority={"fish": ("ray", "shark"), "people": ("boy", "girl")}),
         ("2 of 20 superclasses", "minority chosen by name",
          "20 % of the training images set apart")),
        (ColorizedMnist(initialization="biased", test_colours="random"), ("random test colours",)),
        (Breeds(), ()),
    ],
)  # fmt: skip
def test_differences_in_words(dataset, differences) -> None:
    assert told.differences(dataset) == differences
