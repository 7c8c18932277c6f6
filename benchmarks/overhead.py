"""What the program costs beside its stages: wall clock of a sweep, samples, slots, empty trials.

    python benchmarks/overhead.py                          # the quickstart twice, 1,000 trials
    python benchmarks/overhead.py --tiny --trials 20 50    # to try the script itself
    python benchmarks/overhead.py loop.generations=1       # any words of a sweep's command line
    python benchmarks/overhead.py --burn axes={} loop.generations=1   # beside others' work instead

Each measurement is a process of its own, with a storage of its own:

sweep    `python -m ray_selfloop.sweep WORDS`, from its start to its end, with report and MLflow.
serial   the same stages one after another in one process, without Ray and report, torch with all
         cores (`--threads`; on a busy machine several wait for each other); its start counts too.
         What is measured of trials is in both.
samples  seconds of a samples stage in the two, as its record says: the first, and the median of
         the others.
busy     what the sweep itself says of its slots.
trials   trials that do nothing (their records are there) through driver, leases and Tune: seconds
         each, and the driver's resident memory when the first and when all of them have ended.

burn     instead of all these: the sweep alone, and again beside a process for each core that does
         nothing but compute, at the sweep's own nice level.

Ratios alone say something, and only where nothing else uses the machine: the load before each
measurement is in the table. `--json FILE` keeps all figures.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

from ray_selfloop.config.sweep import Resources
from ray_selfloop.distributed.limits import limits
from ray_selfloop.graph import Graph, Place
from ray_selfloop.planning import prepare
from ray_selfloop.progress import Progress
from ray_selfloop.stages.kinds import NAMED
from ray_selfloop.stages.run import run_here
from ray_selfloop.store.records import Record, Store

TINY = (
    "axes={}",
    "loop.generations=3",
    "loop.classifier_seeds=[0, 1]",
    "classifiers=[lenet]",
    "training.max_steps=60",
    "generator.max_steps=20",
    "generator.min_steps=0",
    "generator.check_every=10",
    "generator.check_samples=100",
    "filter.clip.steps=20",
    "evaluation.samples=200",
    "evaluation.resamples=50",
    "evaluation.permutations=50",
)
BUSY = re.compile(r"^slots .*busy (\S+) of", re.MULTILINE)
MB = 2**20
Figures = dict[str, Any]


def alone(function: Callable[..., Figures], *arguments: Any) -> Figures:
    """What a function gives in a new process, with its wall clock and the load before it."""
    load, started = os.getloadavg()[0], time.monotonic()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        found = process.submit(function, *arguments).result()
    return {**found, "wall": time.monotonic() - started, "load": load}


def swept(words: list[str]) -> Figures:
    """The sweep as its user runs it."""
    command = [sys.executable, "-m", "ray_selfloop.sweep", *words]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{ended.stdout}{ended.stderr}")
    busy = BUSY.search(ended.stdout)
    records = prepare(words).records
    return {
        **of_samples(records),
        "stages": len(records),
        "busy": float(busy[1] if busy else "nan"),
    }


def serial(words: list[str]) -> Figures:
    """All of its stages here, one after another."""
    from ray_selfloop.running import Run

    plan = prepare(words)
    run_here(plan.graph, plan.store)
    plan.look_up()
    Run(plan).measure_here()
    return {**of_samples(plan.records), "stages": len(plan.records)}


def of_samples(records: dict[str, Record]) -> Figures:
    """Seconds of the samples stages: of the first, and of the others."""
    found = sorted((r for r in records.values() if r.kind == "samples"), key=lambda r: r.published)
    first, *others = [record.seconds for record in found] or [float("nan")]
    return {"first_samples": first, "samples": statistics.median(others or [float("nan")])}


def empty_trials(folder: str, first: int, count: int) -> Figures:
    """``count`` trials whose records are there; what the driver has used after ``first``."""
    from ray_selfloop.distributed.cluster import connect, leave
    from ray_selfloop.distributed.driver import Scheduler

    class Blind(Scheduler):
        """Sees no record: every trial goes to Tune, and there it finds its own."""

        def _published(self, key: str) -> bool:
            return False

    store, graph = Store(folder), Graph()
    for number in range(count):
        stage = graph.add(NAMED["classifier"], {"number": number}, {}, Place("base", 0, number))
        with store.attempt(stage.key) as attempt:
            store.publish(stage, attempt, {}, 0.0)
    marks: list[tuple[int, float, float]] = []

    def watch(progress: Progress) -> None:
        if len(progress.done) >= (count if marks[1:] else first if marks else 1):
            used = psutil.Process().memory_info().rss / MB
            marks.append((len(progress.done), time.monotonic(), used))

    cluster = connect(Resources())
    scheduler = Blind(Progress(graph), folder, cluster, "empty")
    scheduler.run(watch, threading.Event())
    scheduler.close()
    leave()
    (one, start, _), (few, _, before), *_, (_, end, after) = marks
    return {
        "trials": count,
        "each": (end - start) / (count - one),
        "memory_first": before,
        "memory": after,
        "first": few,
    }


def machine() -> Figures:
    """What the figures belong to."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    versions = {name: _version(name) for name in ("ray", "torch")}
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    ).stdout.strip()
    cores = limits().whole_cores
    cpu = model[1] if model else platform.processor()
    return {"cores": cores, "cpu": cpu, "python": platform.python_version(), **versions} | {
        "commit": commit
    }


def _version(name: str) -> str:
    from importlib.metadata import version

    return version(name)


def measured(words: list[str], trials: list[int], threads: int) -> Figures:
    """All measurements."""
    with tempfile.TemporaryDirectory(prefix="selfloop-overhead-") as folder:
        sweep = alone(swept, [*words, f"storage={folder}/sweep"])
        in_turn = [*words, f"compute.threads={threads}", f"storage={folder}/serial"]
        return {
            "machine": machine(),
            "words": words,
            "sweep": sweep,
            "serial": alone(serial, in_turn),
            "trials": alone(empty_trials, f"{folder}/trials", *trials),
        }


def burnt(words: list[str]) -> Figures:
    """A sweep alone, and beside processes that keep all cores."""
    with tempfile.TemporaryDirectory(prefix="selfloop-burn-") as folder:
        apart = alone(swept, [*words, f"storage={folder}/alone"])
        busy = [sys.executable, "-c", "while True: pass"]
        burners = [subprocess.Popen(busy) for _ in range(limits().whole_cores)]
        try:
            beside = alone(swept, [*words, f"storage={folder}/beside"])
        finally:
            for burner in burners:
                burner.kill()
    return {"machine": machine(), "words": words, "alone": apart, "beside": beside}


def burn_table(found: Figures) -> str:
    """The figures for people."""
    apart, beside = found["alone"], found["beside"]
    return "\n".join(
        (
            "; ".join(f"{name} {value}" for name, value in found["machine"].items()),
            f"load before: {apart['load']:.1f}; {apart['stages']} stages",
            f"alone {apart['wall']:.1f} s, beside others {beside['wall']:.1f} s: "
            f"{beside['wall'] / apart['wall']:.2f} times (target 2.3)",
        )
    )


def table(found: Figures) -> str:
    """The figures for people."""
    sweep, serial, trials = found["sweep"], found["serial"], found["trials"]
    growth = trials["memory"] - trials["memory_first"]
    after = f"{trials['first']} and {trials['trials']}"
    rows = (
        ("sweep, s", f"{sweep['wall']:.1f}", f"{sweep['stages']} stages"),
        ("the same in one process, s", f"{serial['wall']:.1f}", f"{serial['stages']} stages"),
        ("so much faster", f"{serial['wall'] / sweep['wall']:.2f}", "target 1.75 on 2 cores"),
        (
            "first samples stage, s",
            f"{sweep['first_samples']:.2f}",
            _beside(serial, "first_samples"),
        ),
        ("later samples stage, s", f"{sweep['samples']:.2f}", _beside(serial, "samples")),
        ("busy share of the slots", f"{sweep['busy']:.2f}", "target 0.90"),
        ("an empty trial, s", f"{trials['each']:.3f}", "target 0.1"),
        (f"driver's memory after {after}, MB", f"{trials['memory']:.0f}", f"{growth:+.1f}"),
    )
    load = ", ".join(f"{found[name]['load']:.1f}" for name in ("sweep", "serial", "trials"))
    of = "; ".join(f"{name} {value}" for name, value in found["machine"].items())
    lines = (f"{what:44}{figure:>9}  {beside}" for what, figure, beside in rows)
    return "\n".join([of, f"load before sweep, serial, trials: {load}", *lines])


def _beside(serial: Figures, name: str) -> str:
    return f"in one process {serial[name]:.2f}"


def main(arguments: list[str]) -> None:
    """Measure, print the table, keep the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", help="of the sweep; none: the quickstart")
    parser.add_argument("--tiny", action="store_true", help="a sweep of seconds, not of minutes")
    parser.add_argument("--burn", action="store_true", help="beside a process on each core")
    parser.add_argument("--trials", nargs=2, type=int, default=[100, 1000], metavar=("FEW", "ALL"))
    cores = limits().whole_cores
    parser.add_argument("--threads", type=int, default=cores, help="of torch, in one process")
    parser.add_argument("--json", type=Path, help="file that is written")
    given = parser.parse_intermixed_args(arguments)
    if given.burn:
        found = burnt([*(TINY if given.tiny else ()), *given.words])
    else:
        found = measured([*(TINY if given.tiny else ()), *given.words], given.trials, given.threads)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))
    print(burn_table(found) if given.burn else table(found))


if __name__ == "__main__":
    main(sys.argv[1:])
