"""A sweep that is killed, run again, grown or moved ends with the numbers of an undisturbed one."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from ray_selfloop.__main__ import main
from ray_selfloop.store.records import Record
from sweeps import (
    LIMIT,
    RECORDS,
    alone,
    attempts,
    copied,
    records,
    results,
    run,
    run_alone,
    start,
)

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


@dataclass(frozen=True)
class Story:
    """A sweep on one CPU that got three signals, was damaged then, and was run to its end.

    stopped: exit code and output after the signals that can be answered. kept: the attempts that
    there were after each. killed: what was published when it was killed. damaged: stage -> record.
    """

    words: list[str]
    stopped: list[tuple[int, str]]
    kept: list[set[str]]
    killed: dict[str, Record]
    damaged: dict[str, Path]
    ended: tuple[int, str]


@pytest.fixture(scope="module")
def story(undisturbed: list[str], tmp_path_factory: pytest.TempPathFactory) -> Story:
    storage = tmp_path_factory.mktemp("story")
    words = [*undisturbed, f"storage={storage}", "resources.num_cpus=1"]
    stopped, kept = [], []
    for published, number in ((2, signal.SIGINT), (4, signal.SIGTERM)):
        process = begun(words, storage, published)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            os.kill(process.pid, number)
        output, _ = process.communicate(timeout=LIMIT)
        stopped.append((process.returncode, output))
        kept.append(attempts(storage))
    process = begun(words, storage, 6, HARMED)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(LIMIT)
    kept.append(attempts(storage))
    killed = records(words)
    damaged = damage(storage, killed)
    return Story(words, stopped, kept, killed, damaged, run(words, threads()))


def threads() -> dict[str, str]:
    """An environment that asks for two threads a process."""
    return {**alone(), "OMP_NUM_THREADS": "2"}


def begun(
    words: list[str], storage: Path, published: int, kinds: Sequence[str] = ()
) -> "subprocess.Popen[str]":
    """A sweep that runs, when so many records lie in its store.

    kinds: of stages of which one is published, too.
    """
    process, tick = start(words, threads()), threading.Event()

    def there() -> bool:
        known = list(storage.glob(RECORDS))
        return len(known) >= published and {path.parents[1].name for path in known} >= {*kinds}

    while not there():
        assert process.poll() is None, "the sweep ended too early"
        tick.wait(0.05)
    return process


HARMED = ("generator", "dataset", "classifier")


def damage(storage: Path, published: dict[str, Record]) -> dict[str, Path]:
    """A file cut short, one with a bit flipped, and half a record; kind -> the stage's record."""
    of = {record.kind: key for key, record in published.items()}
    short, flipped, half = (storage / "stages" / k / of[k] / "record.json" for k in HARMED)
    weights = next(short.parent.glob("*/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-7])
    images = next(flipped.parent.glob("*/train_images.npy"))
    content = images.read_bytes()
    images.write_bytes(content[:-7] + bytes([content[-7] ^ 1]) + content[-6:])
    half.write_text(half.read_text()[:100])
    return dict(zip(HARMED, (short, flipped, half), strict=True))


def test_interrupted_and_ended_a_sweep_says_how_to_resume(story: Story) -> None:
    for code, output in story.stopped:
        assert code == 130
        assert "Traceback" not in output
        assert f"python -m ray_selfloop.sweep {story.words[0]}" in output


def test_nothing_that_was_published_is_computed_again(story: Story, undisturbed: list[str]) -> None:
    assert 6 <= len(story.killed) < len(records(undisturbed))
    assert story.kept[0] <= story.kept[1] <= story.kept[2]
    harmed, after = {path.parent.name for path in story.damaged.values()}, records(story.words)
    whole = {key: record.attempt for key, record in story.killed.items() if key not in harmed}
    assert len(whole) == len(story.killed) - len(harmed)
    assert {key: after[key].attempt for key in whole} == whole


def test_damaged_records_are_named_and_computed_again(story: Story) -> None:
    code, output = story.ended
    assert code == 0, output
    after = records(story.words)
    for record in story.damaged.values():
        assert record.parent.name in output.replace("\n", "")
        key = record.parent.name
        assert after[key].attempt != story.killed[key].attempt
        assert after[key].files == story.killed[key].files


def test_one_cpu_and_threads_of_the_environment_end_it_as_four_cpus(
    story: Story, undisturbed: list[str]
) -> None:
    mine, theirs = records(story.words), records(undisturbed)
    assert {key: r.files for key, r in mine.items()} == {key: r.files for key, r in theirs.items()}
    pd.testing.assert_frame_equal(results(story.words), results(undisturbed))


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
