"""The README's first command, end to end: what it promises about its answer and its own numbers."""

import re
import time
from pathlib import Path

import pandas as pd
import pytest

from ray_selfloop.planning import prepare
from sweeps import attempts, records, results, run

pytestmark = pytest.mark.slow
SCENARIOS = {"arm=treatment", "arm=no_synthetic", "arm=majority_kept"}
SCREEN = 50  # lines


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], str]:
    """The words of a quickstart that has run, and what it printed."""
    words = [f"storage={tmp_path_factory.mktemp('quickstart')}"]
    started = time.monotonic()
    code, output = run(words)
    print(output, f"\nquickstart: {time.monotonic() - started:.0f} s")
    assert code == 0, output
    return words, output


@pytest.fixture(scope="module")
def quickstart(ran: tuple[list[str], str]) -> list[str]:
    return ran[0]


@pytest.fixture(scope="module")
def table(quickstart: list[str]) -> pd.DataFrame:
    """Its results table."""
    return results(quickstart)


def of_generator(table: pd.DataFrame, metric: str, generation: int) -> pd.Series:
    """A metric before the filter, all classes together, by scenario: the mean over chains."""
    rows = table[
        (table["metric"] == metric)
        & (table["split"] == "generated")
        & (table["generation"] == generation)
        & (table["class"] == "all")
        & (table["subgroup"] == "all")
    ]
    return rows.groupby("scenario")["value"].mean()


def test_its_first_line_answers_and_says_that_the_positive_control_was_seen(
    ran: tuple[list[str], str],
) -> None:
    words, output = ran
    said = " ".join(output.split())
    found = re.search(
        r"the positive control was seen \(kept sets of each class's majority alone: "
        r"MD (\+[0-9.]+) \[([0-9.]+), [0-9.]+\]\); a change of 0\.\d+ would have been found",
        said,
    )
    assert found, output
    assert float(found[1]) > float(found[2]) > 0
    page = (prepare(words).folder / "report.html").read_text()
    head = page.partition("<nav>")[0]
    assert "the positive control was seen" in head
    assert "Not declared before the data" not in head


def test_what_nobody_asked_is_on_no_first_screen(ran: tuple[list[str], str]) -> None:
    _, output = ran
    lines = output.splitlines()
    start = next(i for i, line in enumerate(lines) if re.match(r"(Yes|No|Un|As).*: ", line))
    screen = lines[start:]
    assert len(screen) <= SCREEN
    assert "statements are about other data" in " ".join(screen)
    assert "cannot be tested" not in output


def test_it_trains_70_classifiers_and_none_collapses(
    quickstart: list[str], table: pd.DataFrame
) -> None:
    made = [record for record in records(quickstart).values() if record.kind == "classifier"]
    assert len(made) == 5 * (1 + 3 * 2) * 2
    trials = table[(table["metric"] == "collapsed") & table["seed"].notna()]
    assert len(trials) == 3 * 5 * 3 * 2  # arms share generation 0
    assert (trials["value"] == 0).all()


def test_every_classifier_is_right_on_70_percent_at_generation_0(table: pd.DataFrame) -> None:
    """Half of the test images bear a colour that is another digit's."""
    rows = table[
        (table["metric"] == "accuracy")
        & (table["generation"] == 0)
        & table["seed"].notna()
        & (table["class"] == "all")
        & (table["subgroup"] == "all")
    ]
    assert len(rows) == 3 * 5 * 2
    assert rows["value"].min() >= 0.70


def test_the_generator_is_faithful_to_labels_and_colours(table: pd.DataFrame) -> None:
    fidelity = of_generator(table, "label_fidelity", 1)
    shift = of_generator(table, "u_total_variation", 1)
    assert set(fidelity.index) == set(shift.index) == SCENARIOS - {"arm=no_synthetic"}
    assert fidelity.min() >= 0.85
    assert shift.max() <= 0.15


def test_every_generator_but_those_that_learn_one_colour_ends_sound(quickstart: list[str]) -> None:
    made = [record for record in records(quickstart).values() if record.kind == "generator"]
    assert len(made) == 5 * 3
    ends = [record.summary["outcome"] for record in made]
    assert {*ends} <= {"budget", "converged", "collapsed"}
    assert ends.count("collapsed") <= 5  # of the positive control, which learns one colour a class


def test_rows_are_unique_and_numbers_finite_or_missing(table: pd.DataFrame) -> None:
    keys = list(table.columns[: list(table.columns).index("value")])
    assert not table.duplicated(keys).any()
    assert not table[["value", "low", "high"]].isin([float("inf"), float("-inf")]).any().any()


def test_the_report_and_mlflow_are_there(quickstart: list[str]) -> None:
    plan = prepare(quickstart)
    page = (plan.folder / "report.html").read_text()
    assert all(scenario in page for scenario in SCENARIOS)
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert (plan.store.root / "mlflow.db").is_file()
    assert len(list(plan.store.root.rglob("overall.png"))) == len(SCENARIOS)


def test_running_it_again_trains_nothing_and_ends_within_20_seconds(
    quickstart: list[str],
) -> None:
    root = Path(prepare(quickstart).store.root)
    before, published = attempts(root), records(quickstart)
    started = time.monotonic()
    code, output = run(quickstart)
    assert time.monotonic() - started < 20
    assert code == 0, output
    assert attempts(root) == before
    assert records(quickstart) == published
