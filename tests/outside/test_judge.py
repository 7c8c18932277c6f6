"""Verdicts on tables of others: on published counts, and on predictions of known loops."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ray_selfloop import api
from ray_selfloop.claims.paired import Arm
from ray_selfloop.config.evaluation import Evaluation
from ray_selfloop.equation6.bias import Labels, bias_series
from ray_selfloop.equation6.fit import fit
from ray_selfloop.evaluation import metrics
from ray_selfloop.evaluation.classifier_rows import fairness_rows
from ray_selfloop.evaluation.end_states import ONE_CLASS, SHORTCUT, WORKING
from ray_selfloop.evaluation.rows import KEY
from ray_selfloop.evaluation.states import held
from ray_selfloop.outside.judge import ALONE, Judged, judge
from ray_selfloop.outside.read import read
from ray_selfloop.simulator import Layout, Step, World

BOTH, LABELS = "SeqGenSeqClass", "SeqClass"
ACCURACY = {
    BOTH: {0: 0.9238, 1: 0.9180, 2: 0.9122, 3: 0.9006, 5: 0.8576, 10: 0.7318},
    LABELS: {0: 0.9225, 1: 0.9187, 2: 0.9155, 3: 0.9122, 5: 0.9047, 10: 0.8935},
}
ODDS = {
    BOTH: {0: 0.0509, 1: 0.0640, 2: 0.0761, 3: 0.1086, 5: 0.1780, 10: 0.2593, 39: 0.5883},
    LABELS: {0: 0.0529, 1: 0.0610, 2: 0.0706, 3: 0.0786, 5: 0.1007, 10: 0.1327, 39: 0.1954},
}
OTHER = {BOTH: (1.266, 1.331), LABELS: (1.085, 1.168)}
"""As published, and A over generations 0 to 5 by another estimator on the same counts."""


@cache
def _published(path: Path) -> Judged:
    return judge(read(path), Evaluation(), (0, 5))


@pytest.fixture
def cells(data_root: str) -> Path:
    path = Path(data_root) / "external" / "ffl_coloredmnist_cells.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there: the published counts are not at hand")
    return path


def test_bias_of_the_published_loops_grows_as_another_estimator_says(cells: Path) -> None:
    for verdict in _published(cells).verdicts:
        low, high = OTHER[verdict.scenario]
        assert low < verdict.a < high
        assert verdict.low < low + 0.02
        assert verdict.text == "A > 1"
        assert verdict.chains == 25
        assert ALONE in verdict.note


def test_three_of_the_chains_have_the_word_of_their_interval(cells: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(cells)
    few = tmp_path / "few.csv"
    rows[rows["chain"] < 3].to_csv(few, index=False)
    for verdict in judge(read(few), Evaluation(), (0, 5)).verdicts:
        assert verdict.chains == 3
        word = "A > 1" if verdict.low > 1 else "A < 1" if verdict.high < 1 else "undecided"
        assert verdict.text == word


def test_published_means_are_those_of_the_table(cells: Path) -> None:
    rows = _published(cells).results
    mean = rows[rows["loop_seed"].isna() & rows["seed"].isna()]
    accuracy = mean[mean["metric"] == metrics.ACCURACY.name].set_index(["scenario", "generation"])
    for arm, published in ACCURACY.items():
        for n, value in published.items():
            assert accuracy.at[(arm, n), "value"] == pytest.approx(value, abs=6e-5)
    odds = rows[(rows["metric"] == metrics.EQUALIZED_ODDS_DIFFERENCE.name) & rows["seed"].notna()]
    odds = odds[odds["class"] == ""].groupby(["scenario", "generation"])["value"].mean()
    for arm, published in ODDS.items():
        for n, value in published.items():
            assert odds[arm, n] == pytest.approx(value, abs=6e-5)


def test_published_chains_end_by_the_shortcut_or_with_one_class(cells: Path) -> None:
    found = _published(cells)
    states = held(found.states)
    assert states[BOTH, "classifier", 10] == {WORKING: 25}
    assert states[BOTH, "classifier", 39] == {WORKING: 2, SHORTCUT: 14, ONE_CLASS: 9}
    rows = found.results[found.results["loop_seed"].isna() & found.results["seed"].isna()]
    rows = rows[(rows["scenario"] == BOTH) & (rows["metric"] == metrics.MD.name)]
    assert {0, 10} <= set(rows["generation"])
    assert 39 not in set(rows["generation"])  # no mean over chains in different states


# --- predictions ---------------------------------------------------------------------------------

FEW = Evaluation(resamples=100, permutations=100)


def _table(arms: list[Arm]) -> pd.DataFrame:
    parts = []
    for arm in arms:
        test = arm.test
        assert test is not None
        about = {
            "image": test.units,
            "class": np.array(test.class_names)[test.labels],
            "group": np.array(test.subgroup_names)[test.subgroups],
        }
        for o in arm.outcomes:
            place = {"arm": arm.arm, "chain": o.loop_seed, "generation": o.generation,
                     "classifier": o.classifier, "seed": o.seed}  # fmt: skip
            given = np.array(test.class_names)[np.asarray(o.predictions)]
            parts.append(pd.DataFrame({**about, **place, "prediction": given}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def arms() -> list[Arm]:
    world = World(Layout.crossed_digits(20, classes=3), gap=(0.9, 0.0, -0.9))
    steps = {"treatment": Step(gap=0.3), "no_synthetic": Step()}
    return world.arms(steps, chains=3, generations=4, seeds=2, seed=3)


@pytest.fixture(scope="module")
def judged(arms: list[Arm], tmp_path_factory: pytest.TempPathFactory) -> Judged:
    path = tmp_path_factory.mktemp("judge") / "theirs.csv"
    _table(arms).to_csv(path, index=False)
    return judge(read(path), FEW)


def test_predictions_have_the_numbers_of_a_sweeps_own_path(arms: list[Arm], judged: Judged) -> None:
    for arm in arms:
        assert arm.test is not None
        own = fairness_rows(arm.arm, list(arm.outcomes), arm.test, FEW)
        theirs = judged.results[judged.results["scenario"] == arm.arm]
        both = own.merge(theirs, on=list(KEY), suffixes=("", "_theirs"))
        assert len(both) > 0.9 * len(own)
        for end in ("value", "low", "high"):
            np.testing.assert_array_equal(both[end], both[f"{end}_theirs"])


def test_a_control_arm_is_one_in_a_table_too(arms: list[Arm], judged: Judged) -> None:
    series = [
        one
        for arm in arms
        if arm.test is not None
        for one in bias_series(arm.arm, list(arm.outcomes), arm.test, FEW)
    ]
    labels = Labels(arms={arm.arm: arm.arm for arm in arms}, groups={a.arm: "" for a in arms})
    own = {v.scenario: v.row for v in fit(series, {}, FEW, labels).verdicts}
    for verdict in judged.verdicts:
        same = own[verdict.scenario]
        assert verdict.text == same.text
        for name in ("a", "low", "high", "ratio", "ratio_low", "ratio_high", "p_holm"):
            np.testing.assert_array_equal(getattr(verdict, name), getattr(same, name))


def test_an_arm_with_another_start_is_no_control(tmp_path: Path) -> None:
    rows = [
        (arm, k, t, c, g, 200, 180 - 20 * (g == "y") - 4 * t * (g == "y") - k - (arm == "other"))
        for arm in ("loop", "other") for k in range(3) for t in range(3) for c in "ab" for g in "xy"
    ]  # fmt: skip
    columns = ["arm", "chain", "generation", "class", "group", "n", "correct"]
    path = tmp_path / "theirs.csv"
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    verdicts = {v.scenario: v for v in judge(read(path), FEW, control="other").verdicts}
    assert np.isnan(verdicts["loop"].ratio)
    assert "arm other is none here" in verdicts["loop"].note


# --- commands ------------------------------------------------------------------------------------


def test_a_table_is_judged_without_ray_and_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    rng = np.random.default_rng(0)
    rows = [
        (f"run {k}", t, c, g, 100, int(rng.binomial(100, 0.8 - 0.05 * t * (g == "y"))))
        for k in range(3) for t in range(4) for c in "ab" for g in "xy"
    ]  # fmt: skip
    columns = ["run", "epoch", "class", "group", "n", "correct"]
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    program = (
        "import sys\nfrom ray_selfloop.cli import obey\n"
        f"obey(['judge', {str(path)!r}, '--columns', 'run=chain', 'epoch=generation'])\n"
        "assert not {'ray', 'torch', 'mlflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "No control: " in done.stdout
    folder = tmp_path / "theirs-judged"
    names = {"report.html", "results.parquet", "effects.parquet", "end_states.parquet"}
    assert {one.name for one in folder.iterdir()} == names
    page = (folder / "report.html").read_text()
    assert "noise floors over images" in page
    assert "What each stage took" not in page
    results, effects, states = api.judge(path, "run=chain", "epoch=generation")
    pd.testing.assert_frame_equal(
        results, pd.read_parquet(folder / "results.parquet"), check_dtype=False
    )
    assert set(effects["metric"]) >= {"A", metrics.MD.name}
    rests = effects[effects["metric"] == metrics.REST_POINT.name]
    assert rests["verdict"].isna().all()
    assert rests["note"].str.startswith("where B moves: ").all()
    assert len(rests) > 0
    assert len(states) == 12


def test_a_is_of_the_generations_in_which_all_chains_are_in_one_state(cells: Path) -> None:
    """What the table is asked for without `--generations`: a mean over other states is none."""
    found = judge(read(cells), Evaluation())
    first, last = found.spans["SeqGenSeqClass"]
    states = found.states[found.states["scenario"] == "SeqGenSeqClass"]
    mixed = states[states["state"] != "working"]["generation"].min()
    assert (first, last) == (0, mixed - 1)
    assert 10 < last < 39
    (verdict,) = (v for v in found.verdicts if v.scenario == "SeqGenSeqClass")
    assert verdict.low > 1
    assert f"from generation {mixed} on" in verdict.note
