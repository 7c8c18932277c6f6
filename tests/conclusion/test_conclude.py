"""What is written of a run: results of other settings stay beside, and MLflow costs a warning."""

import tempfile
from pathlib import Path

import pandas as pd
import pytest

from ray_selfloop import earlier
from ray_selfloop.conclusion.conclude import OWN, Conclusion
from ray_selfloop.planning import Plan, prepare
from ray_selfloop.running import Run
from ray_selfloop.store import failures


@pytest.fixture(autouse=True)
def as_if_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is computed here; what a table would hold is what is planned."""
    monkeypatch.setattr(earlier, "published", planned)


def planned(plan: Plan) -> set[str]:
    return {node.stage.key for kind in earlier.MEASURED for node in plan.graph.of_kind(kind)}


def concluded(words: list[str]) -> Conclusion:
    """The results and the report of a command line whose stages are still to be computed."""
    return Conclusion(Run(prepare(words)), 1.0)


def test_figures_that_cannot_be_written_cost_a_warning_and_no_result(
    micro: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conclusion = concluded(micro)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    (warning,) = conclusion.track()
    assert "FileNotFoundError" in warning
    assert "python -m ray_selfloop sync-mlflow" in warning


def kept(folder: Path) -> list[str]:
    """Names of the sweep's own files."""
    return sorted(path.name for path in folder.iterdir())


OTHER = (
    ["filter.drop=0.3"],
    ["evaluation.level=0.9"],
    ["training_of.lenet.batch_size=48"],
    ["dataset.initialization=spurious"],
)
GROWN = (
    ["loop.generations=3"],
    ["loop.loop_seeds=[0, 1]", "loop.classifier_seeds=[0, 7]"],
    ["classifiers=[lenet, mobilenet_v3_small]", "training_of.mobilenet_v3_small.max_steps=9"],
    ["axes.dataset.initialization=[unbiased, biased, spurious]"],
    ["resources.num_cpus=1", "tracking.uri=http://127.0.0.1:9", "dataset.root=/elsewhere"],
)


@pytest.mark.parametrize("change", OTHER)
def test_results_of_other_settings_under_the_same_name_are_kept_and_said(
    micro: list[str], capsys: pytest.CaptureFixture[str], change: list[str]
) -> None:
    first = concluded(micro)
    folder = first.plan.folder
    before = {name: (folder / name).read_bytes() for name in OWN}
    capsys.readouterr()
    concluded([*micro, *change])
    said = " ".join(capsys.readouterr().out.split())
    beside = [name for name in kept(folder) if name not in before]
    assert len(beside) == len(OWN)
    for name in beside:
        start, end = name.partition("-")[0], name.partition(".")[2]
        assert (folder / name).read_bytes() == before[f"{start}.{end}"]
        assert name in said.replace(" ", "")
    concluded([*micro, *change])
    assert capsys.readouterr().out == ""
    assert len(kept(folder)) == 2 * len(OWN)
    concluded(micro)
    assert {name: (folder / name).read_bytes() for name in beside} == {
        name: before[f"{name.partition('-')[0]}.{name.partition('.')[2]}"] for name in beside
    }


@pytest.mark.parametrize("change", GROWN)
def test_a_sweep_that_grows_is_silent_and_has_one_table(
    micro: list[str], capsys: pytest.CaptureFixture[str], change: list[str]
) -> None:
    concluded(micro)
    capsys.readouterr()
    folder = concluded([*micro, *change]).plan.folder
    assert capsys.readouterr().out == ""
    assert kept(folder) == sorted(OWN)


def test_a_sweep_that_shrinks_keeps_the_larger_table(micro: list[str]) -> None:
    concluded([*micro, "loop.classifier_seeds=[0, 1]"])
    assert len(kept(concluded(micro).plan.folder)) == 2 * len(OWN)


def test_less_that_is_published_keeps_what_was_more(
    micro: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer version, or stages that are gone: the settings are the same."""
    folder = concluded(micro).plan.folder
    monkeypatch.setattr(earlier, "published", lambda plan: sorted(planned(plan))[1:])
    concluded(micro)
    assert len(kept(folder)) == 2 * len(OWN)


def test_what_was_cut_off_while_it_was_kept_is_kept_by_the_next(
    micro: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = concluded(micro).plan.folder
    before = {name: (folder / name).read_bytes() for name in kept(folder)}
    with monkeypatch.context() as patched:
        patched.setattr(Plan, "move", lambda plan, name, other: moved_once(plan, name, other))
        with pytest.raises(KeyboardInterrupt):
            concluded([*micro, "filter.drop=0.3"])
    concluded([*micro, "filter.drop=0.3"])
    found = {(folder / name).read_bytes() for name in kept(folder)}
    assert found >= set(before.values())


def moved_once(plan: Plan, name: str, other: str) -> str:
    plan.store.blobs.move(f"{plan.sweep.name}/{name}", f"{plan.sweep.name}/{other}")
    raise KeyboardInterrupt


def test_looking_at_results_leaves_the_report_of_the_run(micro: list[str]) -> None:
    """It knows what failed and what the run took."""
    first = concluded(micro)
    (first.plan.folder / "report.html").write_text("of the run")
    concluded(micro)
    assert (first.plan.folder / "report.html").read_text() == "of the run"


def test_what_has_failed_is_in_the_results_that_are_looked_at(micro: list[str]) -> None:
    plan = prepare(micro)
    (stage,) = (
        node.stage for node in plan.graph.of_kind("generator") if node.places[0].generation == 1
    )
    failures.publish(plan.store.blobs, stage, "it broke", "")
    run = Run(plan)
    run.measure_here()
    assert run.progress.failed == {stage.key: "it broke"}


def test_a_table_is_not_slowed_by_what_it_says_of_itself(micro: list[str]) -> None:
    """pandas copies a table's attributes with every operation."""
    assert concluded(micro).results.attrs == {}


def test_a_table_without_a_word_on_its_settings_is_kept(
    micro: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = concluded(micro).plan.folder
    pd.DataFrame({"of": ["an older version"]}).to_parquet(folder / "results.parquet")
    (folder / "report.html").unlink()
    concluded(micro)
    (beside,) = [name for name in kept(folder) if name.startswith("results-")]
    assert pd.read_parquet(folder / beside)["of"].tolist() == ["an older version"]
    assert beside in capsys.readouterr().out.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no table at all" * 99])
def test_a_damaged_table_is_kept_too(micro: list[str], content: bytes) -> None:
    folder = concluded(micro).plan.folder
    (folder / "results.parquet").write_bytes(content)
    concluded(micro)
    assert content in [(folder / name).read_bytes() for name in kept(folder)]


def test_mlflow_holds_results_and_report_of_the_same_settings(micro: list[str]) -> None:
    folder = concluded(micro).plan.folder
    assert concluded([*micro, "filter.drop=0.3"]).track() == []
    logged = {p.name: p for p in (folder.parent / "mlflow-artifacts").rglob("*.*")}
    assert set(OWN) <= set(logged)
    for name in OWN:
        assert logged[name].read_bytes() == (folder / name).read_bytes()
    assert "drop: 0.3" in (folder / "report.html").read_text()
