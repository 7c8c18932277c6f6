"""The list of benchmarks, and the tables of those that need no long run to be made."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(FOLDER))

from overhead import table  # noqa: E402


def test_every_script_is_listed_with_one_line() -> None:
    command = [sys.executable, "-m", "benchmarks"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=FOLDER.parent)
    lines = dict(line.split(maxsplit=1) for line in ended.stdout.splitlines()[1:])
    assert lines.keys() == {path.stem for path in FOLDER.glob("[!_]*.py")}
    assert all(lines.values())


def test_what_the_program_costs_is_told_as_ratios() -> None:
    of = {"wall": 100.0, "load": 0.1, "stages": 66, "first_samples": 5.0, "samples": 0.5}
    trials = {"trials": 1000, "first": 100, "each": 0.08, "memory_first": 300.0, "memory": 301.0}
    told = table(
        {
            "machine": {"cores": 2},
            "sweep": {**of, "busy": 0.91},
            "serial": {**of, "wall": 180.0, "samples": 0.15},
            "trials": {**trials, "load": 0.2},
        }
    )
    figures = {line[:44].strip(): line[44:].split()[0] for line in told.splitlines()[2:]}
    assert figures["so much faster"] == "1.80"
    assert figures["later samples stage, s"] == "0.50"
    assert figures["busy share of the slots"] == "0.91"
    assert "+1.0" in told
