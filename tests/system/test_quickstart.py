"""The README's first command, end to end: what it promises about its own numbers."""

import time
from pathlib import Path

import pandas as pd
import pytest

from ray_selfloop.planning import prepare
from sweeps import attempts, records, results, run

pytestmark = pytest.mark.slow
SCENARIOS = {"initialization=unbiased", "initialization=biased"}


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words of a quickstart that has run."""
    words = [f"storage={tmp_path_factory.mktemp('quickstart')}"]
    started = time.monotonic()
    code, output = run(words)
    print(output, f"\nquickstart: {time.monotonic() - started:.0f} s")
    assert code == 0, output
    return words


@pytest.fixture(scope="module")
def table(quickstart: list[str]) -> pd.DataFrame:
    """Its results table."""
    return results(quickstart)


def of_generator(table: pd.DataFrame, metric: str, generation: int) -> pd.Series:
    """A metric before the filter, all classes together, by scenario."""
    rows = table[
        (table["metric"] == metric)
        & (table["split"] == "generated")
        & (table["generation"] == generation)
        & (table["class"] == "all")
        & (table["subgroup"] == "all")
    ]
    return rows.set_index("scenario")["value"]


def test_it_trains_32_classifiers_and_none_collapses(table: pd.DataFrame) -> None:
    trials = table[(table["metric"] == "collapsed") & table["seed"].notna()]
    assert len(trials) == 2 * 4 * 2 * 2
    assert (trials["value"] == 0).all()


def test_every_classifier_is_right_on_80_percent_at_generation_0(table: pd.DataFrame) -> None:
    rows = table[
        (table["metric"] == "accuracy")
        & (table["generation"] == 0)
        & table["seed"].notna()
        & (table["class"] == "all")
        & (table["subgroup"] == "all")
    ]
    assert len(rows) == 8
    assert rows["value"].min() >= 0.80


def test_the_generator_is_faithful_to_labels_and_colours(table: pd.DataFrame) -> None:
    fidelity = of_generator(table, "label_fidelity", 1)
    shift = of_generator(table, "u_total_variation", 1)
    assert set(fidelity.index) == set(shift.index) == SCENARIOS
    assert fidelity.min() >= 0.85
    assert shift.max() <= 0.15


def test_every_generator_of_the_default_budget_ends_sound(quickstart: list[str]) -> None:
    made = [record for record in records(quickstart).values() if record.kind == "generator"]
    assert len(made) == 2 * 3
    assert {record.summary["outcome"] for record in made} <= {"budget", "converged"}


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
