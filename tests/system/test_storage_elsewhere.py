"""A storage folder that is copied while its sweep runs, moved, renamed and used by two users: the
copy goes on by itself, and nothing of the original changes.
"""

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import MICRO
from other_user import OTHER, needs_open_python, needs_root

from ray_selfloop.planning import prepare
from sweeps import LIMIT, attempts

pytestmark = pytest.mark.slow
WORDS = [*MICRO, "loop.generations=1", "resources.num_cpus=1"]
ODD = "a b?%20#;é"
NOBODY: Any = {"user": OTHER, "group": OTHER, "extra_groups": []}


@dataclass(frozen=True)
class Ended:
    code: int
    said: str
    errors: list[str]


def command(module: str, *words: object, other: Path | None = None) -> Ended:
    """Run ``python -m module words``, as another user whose home is ``other`` where it is given."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        **(NOBODY if other else {}),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, **({"HOME": str(other), "TMPDIR": str(other)} if other else {})},
        cwd=other,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return Ended(done.returncode, done.stdout, done.stderr.splitlines())


def digests(folder: Path) -> dict[str, str]:
    """Every file and folder below a folder, with the digest of its content and its time."""
    return {
        path.relative_to(folder).as_posix(): f"{path.stat().st_mtime_ns} "
        + (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in (folder, *folder.rglob("*"))
    }


def table(storage: Path) -> pd.DataFrame:
    return pd.read_parquet(storage / "micro" / "results.parquet")


def places(storage: Path) -> set[str]:
    """Every place that MLflow's database says an artifact of the sweep is at."""
    with sqlite3.connect(storage / "mlflow.db") as database:
        rows = database.execute(
            "select artifact_location from experiments where name = 'micro'"
            " union select artifact_uri from runs"
        )
        return {place for (place,) in rows}


def in_itself(storage: Path) -> bool:
    """Whether MLflow's artifacts lie in the storage, and are the files of the sweep's folder."""
    own = {(storage / "micro" / name).read_bytes() for name in ("report.html", "results.parquet")}
    logged = storage.rglob("mlflow-artifacts/micro/*/artifacts/re*.*")
    below = f"{storage.as_uri()}/mlflow-artifacts/micro"
    return all(place.startswith(below) for place in places(storage)) and own == {
        path.read_bytes() for path in logged
    }


@pytest.fixture(scope="module")
def original(undisturbed: list[str]) -> Iterator[Path]:
    """The storage of a sweep that was copied to `copied` beside it when three stages were there."""
    storage = Path(prepare(undisturbed, writes=False).store.root)
    before = digests(storage)
    yield storage
    assert digests(storage) == before, "the original has changed"


@pytest.fixture(scope="module")
def opened(original: Path) -> Iterator[Path]:
    """A copy of it that other users can reach; pytest's own folders are closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="selfloop-places-"))
    folder.chmod(0o755)
    subprocess.run(["cp", "-a", original, folder / "original"], check=True)
    yield folder / "original"
    shutil.rmtree(folder)


def test_a_copy_of_a_running_sweeps_storage_goes_on_by_itself(original: Path) -> None:
    copy, before = original.with_name("copied"), digests(original)
    taken = len(list(copy.glob("stages/*/*/record.json")))
    assert 3 <= taken < len(list(original.glob("stages/*/*/record.json")))
    ended = command("ray_selfloop.sweep", *WORDS, f"storage={copy}")
    assert ended.code == 0, ended
    pd.testing.assert_frame_equal(table(copy), table(original))
    assert in_itself(copy)
    assert digests(original) == before


def test_renamed_to_what_addresses_give_a_meaning_it_is_found_whole(
    original: Path, tmp_path: Path
) -> None:
    renamed = tmp_path / ODD
    subprocess.run(["cp", "-a", original, tmp_path / "second"], check=True)
    (tmp_path / "second").rename(renamed)
    beside = sorted(path.name for folder in (original, renamed) for path in folder.parent.iterdir())
    before = digests(original)
    for module, *words in (
        ("ray_selfloop.sweep",),
        ("ray_selfloop", "sync-mlflow"),
        ("ray_selfloop", "status"),
    ):
        ended = command(module, *words, *WORDS, f"storage={renamed}", "resources.num_cpus=2")
        assert (ended.code, ended.errors) == (0, []), ended
        assert "lacks numbers" not in ended.said
    assert in_itself(renamed)
    assert attempts(renamed) == attempts(original), "nothing was computed again"
    pd.testing.assert_frame_equal(table(renamed), table(original))
    assert beside == sorted(
        path.name for folder in (original, renamed) for path in folder.parent.iterdir()
    )
    assert digests(original) == before


@needs_root
@needs_open_python
def test_who_may_only_read_is_told_so_and_can_look(opened: Path, seen: Path) -> None:
    seen.chmod(0o777)
    before, where = digests(opened), f"storage={opened}"
    for verb in ("status", "plan"):
        ended = command("ray_selfloop", verb, *WORDS, where, other=seen)
        assert (ended.code, ended.errors) == (0, []), ended
    for module, *verb in (
        ("ray_selfloop.sweep",),
        ("ray_selfloop", "results"),
    ):
        ended = command(module, *verb, *WORDS, where, other=seen)
        assert ended.code == 2
        assert ended.errors == [f"error: storage: {opened} cannot be written: Permission denied"]
    assert digests(opened) == before


@needs_root
@needs_open_python
def test_another_users_copy_is_that_users_own(opened: Path, seen: Path) -> None:
    seen.chmod(0o777)
    before, copy = digests(opened), seen / ODD
    subprocess.run(["cp", "-r", opened, copy], check=True, **NOBODY)
    for module, *verb in (("ray_selfloop.sweep",), ("ray_selfloop", "sync-mlflow")):
        ended = command(module, *verb, *WORDS, f"storage={copy}", other=seen)
        assert (ended.code, ended.errors) == (0, []), ended
        assert "lacks numbers" not in ended.said
    assert in_itself(copy)
    pd.testing.assert_frame_equal(table(copy), table(opened))
    assert {path.stat().st_uid for path in copy.rglob("*")} == {OTHER}
    assert digests(opened) == before


@needs_root
@needs_open_python
def test_two_users_who_may_both_write_share_one_storage(opened: Path, seen: Path) -> None:
    seen.chmod(0o777)
    shared = seen / "shared"
    subprocess.run(["cp", "-r", opened, shared], check=True)
    subprocess.run(["chmod", "-R", "a+rwX", shared], check=True)
    for other in (seen, None):
        ended = command("ray_selfloop", "sync-mlflow", *WORDS, f"storage={shared}", other=other)
        assert (ended.code, ended.errors) == (0, []), ended
        assert "lacks numbers" not in ended.said
        assert in_itself(shared)
    pd.testing.assert_frame_equal(table(shared), table(opened))
