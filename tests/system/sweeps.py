"""Sweeps as their users run them: the command line in a process of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pandas as pd

from ray_selfloop import declaration
from ray_selfloop.__main__ import main
from ray_selfloop.planning import prepare
from ray_selfloop.stages.run import run_here
from ray_selfloop.store.records import Record

LIMIT = 900  # s, far above what any of these sweeps takes
RECORDS = "stages/*/*/record.json"


def start(words: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start ``python -m ray_selfloop.sweep WORDS`` in a process group of its own.

    environment: this process's, without a cluster's address, where none is given.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "ray_selfloop.sweep", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=alone() if environment is None else environment,
        start_new_session=True,
    )


def alone() -> dict[str, str]:
    """The environment of a sweep that joins no cluster."""
    return {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}


def run(words: list[str], environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and all output of a sweep."""
    process = start(words, environment)
    output, _ = process.communicate(timeout=LIMIT)
    return process.returncode, output


def copied_while_running(words: list[str], copy: Path, published: int) -> float:
    """Seconds of a sweep to its end; ``copy`` is its storage when so many records lay in it."""
    storage, tick = prepare(words, writes=False).store.root, threading.Event()
    began, running = time.monotonic(), start(words)
    while len(list(storage.glob(RECORDS))) < published and running.poll() is None:
        tick.wait(0.05)
    assert running.poll() is None, "it was to be copied while it runs"
    subprocess.run(["cp", "-a", storage, copy], check=False)  # files may vanish
    output, _ = running.communicate(timeout=LIMIT)
    assert running.returncode == 0, output
    return time.monotonic() - began


def run_alone(words: list[str]) -> None:
    """All stages of a sweep, its table and its page, in this process: without Ray and MLflow."""
    plan = prepare(words)
    declared = declaration.declared(plan.sweep, plan.scenarios)
    declaration.freeze(declared, plan.sweep.name, plan.store.blobs)
    run_here(plan.graph, plan.store)
    assert main(["report", *words]) == 0


def results(words: list[str]) -> pd.DataFrame:
    """The results table that a command line's sweep has written."""
    with tempfile.TemporaryDirectory() as folder:
        (path,) = prepare(words, writes=False).copies(["results.parquet"], Path(folder))
        return pd.read_parquet(path)


def records(words: list[str]) -> dict[str, Record]:
    """What is published of a command line's sweep."""
    return prepare(words, writes=False).records


def copied(words: list[str], to: Path) -> list[str]:
    """The same command line on a copy of its storage."""
    shutil.copytree(prepare(words, writes=False).store.root, to, dirs_exist_ok=True)
    return [*words, f"storage={to}"]


def attempts(root: Path) -> set[str]:
    """Every attempt folder of a store: a stage that was computed again has a new one."""
    return {path.name for path in root.glob("stages/*/*/*") if path.is_dir()}
