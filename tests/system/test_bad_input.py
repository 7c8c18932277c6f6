"""Bad input on the command line: one line that says what is wrong, exit code 2, nothing written."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ray_selfloop import sweep
from ray_selfloop.planning import JOB_MARK

LIMIT = 120  # s
KEYS = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}


def command(module: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m module words``."""
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, **env},
    )


def refused(
    folder: Path, *words: str, module: str = "ray_selfloop.sweep", code: int = 2, **env: str
) -> str:
    """The one line with which a command is refused; nothing is written below ``folder``."""
    before = sorted(folder.rglob("*"))
    done = command(module, *words, **env)
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == code, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert len(done.stdout.splitlines()) <= 1  # what was about to be started
    assert sorted(folder.rglob("*")) == before
    return line.removeprefix("error: ")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("loop.generatons=3", "loop.generatons: unknown key; did you mean loop.generations?"),
        ("loop.generations=many", "loop.generations: must be a valid integer"),
        ("filter.drop=1.5", "filter.drop: must be less than or equal to 0.999 (found 1.5)"),
        ("dataset.name=colourized_digits", "dataset.name: must be one of 'colorized_digits', "),
        ("classifiers=[lenett]", "classifiers.0: must be 'lenet', 'alexnet', 'vgg19', "),
        ("axes.loop.regime=[stak]", "loop.regime: must be 'stack', 'replace', 'accumulate' or "),
        ("no-such-sweep", "no sweep file no-such-sweep; shipped sweeps: "),
        ("--verbose", "'--verbose' is not understood; usage: python -m ray_selfloop.sweep"),
    ],
)
def test_a_fault_in_the_settings(
    tmp_path: Path, word: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process; that a process ends so stands below."""
    assert sweep.main([word, f"storage={tmp_path / 'store'}"]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert (out, line[: len(said) + 7]) == ("", f"error: {said}")
    assert list(tmp_path.iterdir()) == []


def test_a_faulty_sweep_file(tmp_path: Path) -> None:
    config = tmp_path / "sweep.yaml"
    config.write_text("loop:\n  generations: [3\n")
    said = refused(tmp_path, str(config), f"storage={tmp_path / 'store'}")
    assert said.startswith(f"{config}:3:1 cannot be read: while parsing a flow sequence")


def test_a_missing_data_folder(tmp_path: Path) -> None:
    root = tmp_path / "nowhere"
    said = refused(
        tmp_path,
        "dataset.name=colorized_mnist",
        f"dataset.root={root}",
        f"storage={tmp_path / 'store'}",
    )
    assert said.startswith(f"MNIST is not complete: {root}/MNIST/raw/train-images-idx3-ubyte(.gz)")


def test_a_storage_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "store"
    said = refused(tmp_path, f"storage={path}")
    assert said == f"storage: {path} cannot be written: Not a directory"


def test_a_storage_that_is_no_folder_of_this_machine(tmp_path: Path) -> None:
    said = refused(tmp_path, f"storage=file://{tmp_path}")
    assert said.startswith(f"storage: file://{tmp_path}: give a folder, s3://BUCKET/PREFIX or gs:/")


def test_a_relative_storage_inside_a_ray_job(tmp_path: Path) -> None:
    said = refused(tmp_path, "storage=results", **{JOB_MARK: "{}"})
    assert said.startswith("storage: results is relative, and a Ray job's working folder is a temp")
    assert not Path("results").exists()


def test_a_reserve_that_is_too_small(tmp_path: Path) -> None:
    words = ("generator={name: held_out_real}", "axes={}", f"storage={tmp_path / 'store'}")
    said = refused(tmp_path, *words, "dataset.reserve=0.1")
    assert said.startswith("dataset.reserve: 2 generations of ")
    assert "Largest feasible: 0 generations" in said


def test_a_temporary_folder_that_ray_cannot_use(tmp_path: Path) -> None:
    with tempfile.NamedTemporaryFile(dir="/tmp") as file:  # a short name
        environment = {"RAY_ADDRESS": "", "RAY_TMPDIR": file.name}
        said = refused(tmp_path, f"storage={tmp_path / 'store'}", **environment)
    assert said == (
        f"Ray's temporary folder {file.name}/ray cannot be used: Not a directory; name another "
        "folder in RAY_TMPDIR (or TMPDIR)"
    )


@pytest.mark.slow
def test_more_gpus_than_there_are_beside_a_temporary_folder_whose_name_is_too_long(
    tmp_path: Path,
) -> None:
    """Ray starts, elsewhere: what is refused is what only a Ray that runs can tell."""
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    words = ("resources.gpus_per_trial=64", f"storage={tmp_path / 'store'}")
    done = command("ray_selfloop.sweep", *words, RAY_ADDRESS="", TMPDIR=str(folder))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("error: resources.gpus_per_trial: ")
    asked = "asks one machine for 64 GPU, 1 slot, and no machine of the cluster has that"
    assert asked in done.stderr
    assert " ".join(done.stdout.split()).endswith("without quotes or backslashes: /tmp is used")
    assert list(tmp_path.iterdir()) == [folder]


def test_a_dashboards_address_in_place_of_the_heads(tmp_path: Path) -> None:
    address = "http://127.0.0.1:8265"
    said = refused(tmp_path, f"storage={tmp_path / 'store'}", RAY_ADDRESS=address)
    assert said.startswith(f"RAY_ADDRESS={address}: must be HOST:PORT of a Ray head")


def test_an_unknown_verb(tmp_path: Path) -> None:
    said = refused(tmp_path, "valdate", module="ray_selfloop")
    assert said.startswith("'valdate' is not a verb; did you mean validate?")


@pytest.mark.parametrize("verb", ["validate", "status", "results"])
def test_verbs_refuse_what_the_sweep_refuses(tmp_path: Path, verb: str) -> None:
    words = ("loop.generatons=3", f"storage={tmp_path / 'store'}")
    said = refused(tmp_path, verb, *words, module="ray_selfloop")
    assert said == "loop.generatons: unknown key; did you mean loop.generations?"


@pytest.mark.parametrize("verb", ["results", "report", "sync-mlflow"])
def test_verbs_that_need_results_refuse_an_empty_storage(tmp_path: Path, verb: str) -> None:
    store = tmp_path / "store"
    said = refused(tmp_path, verb, f"storage={store}", module="ray_selfloop")
    assert said.startswith(f"storage: {store} holds nothing of sweep quickstart yet; run it first")


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("validate", "valid: sweep quickstart, 3 scenarios"),
        ("plan", "sweep quickstart: 3 scenarios, 152 stages"),
        ("status", "dataset                             0 of 1 published"),
        ("--help", "Usage: python -m ray_selfloop VERB [CONFIG] [a.b=value ...]"),
    ],
)
def test_good_input_is_answered_and_nothing_is_written(
    tmp_path: Path, verb: str, said: str
) -> None:
    done = command("ray_selfloop", verb, "quickstart", f"storage={tmp_path / 'store'}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(said)
    assert list(tmp_path.iterdir()) == []


def test_help_is_no_error(tmp_path: Path) -> None:
    done = command("ray_selfloop.sweep", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Exit codes: 0 done" in done.stdout
