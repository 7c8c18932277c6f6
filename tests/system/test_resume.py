"""A sweep that is killed, run again, grown or moved ends with the numbers of an undisturbed one."""

import os
import random
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from ray_selfloop.__main__ import main
from ray_selfloop.planning import prepare
from sweeps import LIMIT, attempts, records, results, run, start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words of a micro-sweep that has run once, from end to end."""
    from conftest import MICRO

    words = [*MICRO, f"storage={tmp_path_factory.mktemp('undisturbed')}"]
    code, output = run(words)
    assert code == 0, output
    return words


def copied(words: list[str], to: Path) -> list[str]:
    """The same command line on a copy of its storage."""
    root = prepare(words).store.root
    shutil.copytree(root, to, dirs_exist_ok=True)
    return [*words, f"storage={to}"]


def test_running_again_computes_nothing(undisturbed: list[str]) -> None:
    root = prepare(undisturbed).store.root
    before, table = attempts(root), results(undisturbed)
    code, output = run(undisturbed)
    assert code == 0, output
    assert attempts(root) == before
    pd.testing.assert_frame_equal(results(undisturbed), table)


def test_another_storage_folder_and_other_resources_change_no_key(
    undisturbed: list[str], tmp_path: Path
) -> None:
    words = [*copied(undisturbed, tmp_path / "renamed"), "resources.num_cpus=1"]
    before = attempts(tmp_path / "renamed")
    code, output = run(words)
    assert code == 0, output
    assert attempts(tmp_path / "renamed") == before


@pytest.mark.parametrize(
    ("change", "computed"),
    [
        (
            "loop.classifier_seeds=[0, 1]",
            {"classifier": 3, "fairness": 1, "dynamics": 1, "claims": 1},
        ),
        (
            "loop.generations=3",
            {
                "generator": 1,
                "samples": 1,
                "kept": 1,
                "classifier": 1,
                "generator_metrics": 1,
                "fairness": 1,
                "dynamics": 1,
                "claims": 1,
            },
        ),
    ],
)
def test_growing_a_sweep_computes_the_new_stages_alone(
    undisturbed: list[str], tmp_path: Path, change: str, computed: dict[str, int]
) -> None:
    words = [*copied(undisturbed, tmp_path), change]
    before = attempts(tmp_path)
    code, output = run(words)
    assert code == 0, output
    new = [path for path in tmp_path.glob("stages/*/*/*") if path.is_dir()]
    kinds = [path.parents[1].name for path in new if path.name not in before]
    assert {kind: kinds.count(kind) for kind in kinds} == computed


@pytest.mark.parametrize("seed", [1])
def test_a_killed_driver_run_again_gives_the_same_table(
    undisturbed: list[str], tmp_path: Path, seed: int
) -> None:
    words = [*undisturbed, f"storage={tmp_path}"]
    chance = random.Random(seed)
    target = chance.randrange(1, 10)
    process = start(words)
    _wait_for(tmp_path, target, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(LIMIT)
    done_before = len(list(tmp_path.glob("stages/*/*/record.json")))
    code, output = run(words)
    assert code == 0, output
    assert target <= done_before < len(records(words))
    pd.testing.assert_frame_equal(results(words), results(undisturbed))


def _wait_for(root: Path, published: int, process: subprocess.Popen[str]) -> None:
    """Until that many records lie in the store."""
    tick = threading.Event()
    while len(list(root.glob("stages/*/*/record.json"))) < published:
        assert process.poll() is None, "the sweep ended too early"
        tick.wait(0.05)


@pytest.mark.parametrize("cpus", [1, 4])
def test_the_number_of_cpus_changes_no_value(
    undisturbed: list[str], tmp_path: Path, cpus: int
) -> None:
    words = [*undisturbed, f"storage={tmp_path}", f"resources.num_cpus={cpus}"]
    code, output = run(words)
    assert code == 0, output
    pd.testing.assert_frame_equal(results(words), results(undisturbed))


def test_threads_of_the_environment_change_no_value(
    undisturbed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    words = [*undisturbed, f"storage={tmp_path}"]
    code, output = run(words)
    assert code == 0, output
    mine, theirs = records(words), records(undisturbed)
    assert {key: r.files for key, r in mine.items()} == {key: r.files for key, r in theirs.items()}


def test_an_interrupted_sweep_says_how_to_resume_and_does(
    undisturbed: list[str], tmp_path: Path
) -> None:
    words = [*undisturbed, f"storage={tmp_path}"]
    for published, number in ((2, signal.SIGINT), (5, signal.SIGTERM)):
        process = start(words)
        _wait_for(tmp_path, published, process)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            os.kill(process.pid, number)
        output, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == 130
        assert "Traceback" not in output
        assert f"python -m ray_selfloop.sweep {words[0]}" in output
    kept = attempts(tmp_path)
    code, output = run(words)
    assert code == 0, output
    assert kept <= attempts(tmp_path)
    pd.testing.assert_frame_equal(results(words), results(undisturbed))


@pytest.mark.parametrize("harm", ["truncate", "flip", "garbage"])
def test_a_damaged_record_is_named_and_computed_again(
    undisturbed: list[str], tmp_path: Path, harm: str
) -> None:
    words = copied(undisturbed, tmp_path)
    record = next(tmp_path.glob("stages/generator/*/record.json"))
    weights = next(record.parent.glob("*/weights.safetensors"))
    content = weights.read_bytes()
    if harm == "truncate":
        weights.write_bytes(content[:-7])
    elif harm == "flip":
        weights.write_bytes(content[:-7] + bytes([content[-7] ^ 1]) + content[-6:])
    else:
        record.write_text(record.read_text()[:100])
    code, output = run(words)
    assert code == 0, output
    assert record.parent.name in output.replace("\n", "")
    pd.testing.assert_frame_equal(results(words), results(undisturbed))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB, too small for the sweep."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder]).returncode:
        pytest.skip("this user may not mount a disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_said_and_with_more_room_the_sweep_ends_as_ever(
    undisturbed: list[str], disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*undisturbed, f"storage={disk / 'store'}"]
    code, output = run(words)
    assert code in (1, 2), output
    assert "No space left on device" in " ".join(output.split())
    assert "Traceback" not in output
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    published = set(records(words))
    code, output = run(words)
    assert code == 0, output
    assert 0 < len(published) < len(records(words))
    pd.testing.assert_frame_equal(results(words), results(undisturbed))

    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    code, output = run(words)
    assert (code, output) == (
        2,
        f"error: storage: {disk / 'store'} cannot be written: Read-only file system\n",
    )
    assert main(["status", *words]) == 0
    assert "classifier lenet                    3 of 3 published" in capsys.readouterr().out
