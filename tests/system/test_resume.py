"""A sweep that is killed, run again, grown or moved ends with the numbers of an undisturbed one."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from ray_selfloop.__main__ import main
from sweeps import LIMIT, attempts, copied, records, results, run, run_alone, start

pytestmark = pytest.mark.slow


def test_growing_a_sweep_computes_the_new_stages_alone(
    undisturbed: list[str], tmp_path: Path
) -> None:
    """By a generation, and by a seed of the classifiers."""
    words = [*copied(undisturbed, tmp_path), "loop.generations=2", "loop.classifier_seeds=[0, 1]"]
    before = attempts(tmp_path)
    run_alone(words)
    new = [path for path in tmp_path.glob("stages/*/*/*") if path.is_dir()]
    kinds = [path.parents[1].name for path in new if path.name not in before]
    once = ("generator", "samples", "kept", "generator_metrics", "fairness", "dynamics", "claims")
    expected = {**dict.fromkeys(once, 1), "classifier": 2 + 2}  # of the new seed; of generation 2
    assert {kind: kinds.count(kind) for kind in kinds} == expected


def _wait_for(root: Path, published: int, process: subprocess.Popen[str]) -> None:
    """Until that many records lie in the store."""
    tick = threading.Event()
    while len(list(root.glob("stages/*/*/record.json"))) < published:
        assert process.poll() is None, "the sweep ended too early"
        tick.wait(0.05)


def test_interrupted_ended_and_killed_a_sweep_says_how_to_resume_and_one_cpu_ends_it_as_two(
    undisturbed: list[str], tmp_path: Path
) -> None:
    words = [*undisturbed, f"storage={tmp_path}", "resources.num_cpus=1"]
    kept: set[str] = set()
    for published, number in ((2, signal.SIGINT), (4, signal.SIGTERM), (6, signal.SIGKILL)):
        process = start(words)
        _wait_for(tmp_path, published, process)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            os.kill(process.pid, number)
        if number == signal.SIGKILL:
            process.wait(LIMIT)
            continue
        output, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == 130
        assert "Traceback" not in output
        assert f"python -m ray_selfloop.sweep {words[0]}" in output
        assert kept <= attempts(tmp_path)
        kept = attempts(tmp_path)
    done_before = records(words)
    assert 6 <= len(done_before) < len(records(undisturbed))
    code, output = run(words)
    assert code == 0, output
    assert kept <= attempts(tmp_path)
    after = records(words)
    assert {key: after[key].attempt for key in done_before} == {
        key: record.attempt for key, record in done_before.items()
    }
    pd.testing.assert_frame_equal(results(words), results(undisturbed))


def test_four_cpus_and_threads_of_the_environment_change_no_value(
    undisturbed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    words = [*undisturbed, f"storage={tmp_path}", "resources.num_cpus=4"]
    code, output = run(words)
    assert code == 0, output
    mine, theirs = records(words), records(undisturbed)
    assert {key: r.files for key, r in mine.items()} == {key: r.files for key, r in theirs.items()}
    pd.testing.assert_frame_equal(results(words), results(undisturbed))


def test_damaged_records_are_named_and_computed_again(
    undisturbed: list[str], tmp_path: Path
) -> None:
    """A file cut short, one with a bit flipped, and half a record."""
    words = copied(undisturbed, tmp_path)
    short, flipped, half = (
        next(tmp_path.glob(f"stages/{kind}/*/record.json"))
        for kind in ("generator", "dataset", "classifier")
    )
    weights = next(short.parent.glob("*/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-7])
    images = next(flipped.parent.glob("*/train_images.npy"))
    content = images.read_bytes()
    images.write_bytes(content[:-7] + bytes([content[-7] ^ 1]) + content[-6:])
    half.write_text(half.read_text()[:100])
    code, output = run(words)
    assert code == 0, output
    for record in (short, flipped, half):
        assert record.parent.name in output.replace("\n", "")
    mine, theirs = records(words), records(undisturbed)
    assert {key: r.files for key, r in mine.items()} == {key: r.files for key, r in theirs.items()}
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
    assert "classifier lenet                    2 of 2 published" in capsys.readouterr().out
