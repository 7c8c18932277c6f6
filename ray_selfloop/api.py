"""Sweeps from Python, as in a notebook: what one has found as data frames, its plan, and a run.

    from ray_selfloop import api

    folder = "selfloop-results/quickstart"
    rows = api.results(folder)
    means = (rows["level"] == "mean") & (rows["class"] == "all")
    md = rows[means & (rows["metric"] == "md")]
    print(md.pivot_table("value", "generation", ["scenario", "classifier"]))

    judged = api.effects(folder)
    print(judged[["scenario_group", "metric", "network", "value", "low", "high", "verdict"]])
    print(api.settings(folder)["dataset.initialization"])
    print(api.plan(folder))

A sweep is named as on the command line (the path of a sweep file or the name of a shipped one, then
`a.b=value` words), or by the folder of its results. Loads neither ray nor torch until a sweep is
planned or run; raises `errors.SelfLoopError` where a command would end with its message.
"""

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd

from ray_selfloop.conclusion.asrun import EFFECTS, SETTINGS
from ray_selfloop.config.load import load
from ray_selfloop.errors import ConfigError, StageError, StorageError
from ray_selfloop.store import blobs

RESULTS = "results.parquet"
REMEDY = "run the sweep, or `ray-selfloop report` where an older version has run it"
Named = str | os.PathLike[str] | None
"""A sweep's file, its shipped name, the folder of its results, or None for the quickstart."""


def results(sweep: Named = None, *words: str) -> pd.DataFrame:
    """Every number of a sweep, one a row; docs/results.md says what the columns mean."""
    from ray_selfloop.conclusion import tables

    found = _table(sweep, words, RESULTS)
    return found if "level" in found else tables.results(found)  # of an older version


def effects(sweep: Named = None, *words: str) -> pd.DataFrame:
    """What was judged or compared, with its effect, interval, p and verdict; docs/results.md says
    what the columns mean. Column `kind` tells statements from what lies behind them."""
    from ray_selfloop.conclusion import tables

    return tables.of_all(_table(sweep, words, EFFECTS))


def settings(sweep: Named = None, *words: str) -> pd.DataFrame:
    """A row for each scenario, by its name: a column for every setting, those of the axes first."""
    if _is_folder(sweep):
        found = load(str(_own(sweep, words, SETTINGS)), ())[1]
    else:
        found = load(_text(sweep), words)[1]
    axes = dict.fromkeys(key for scenario in found for key in scenario.values)
    rows = [
        {**axes, **_flat(scenario.sweep.model_dump(mode="json")), **scenario.values}
        for scenario in found
    ]
    return pd.DataFrame(rows, index=pd.Index([s.name for s in found], name="scenario"))


def plan(sweep: Named = None, *words: str) -> pd.DataFrame:
    """The sweep's stages by kind: all, published, missing, and core-seconds of the missing ones.

    Writes nothing. Of the text of `ray-selfloop plan` the table alone.
    """
    from ray_selfloop import verbs
    from ray_selfloop.planning import learned, prepare

    found = prepare(_line(sweep, words), writes=False)
    rows = verbs.table(found, learned(found))
    return pd.DataFrame(rows, columns=["stage", "all", "published", "missing", "core_seconds"])


def judge(
    table: str | os.PathLike[str], *columns: str, **asked: Any
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Verdicts on a table that others made, as `ray-selfloop judge` has them: results, effects and
    end states. columns: ``theirs=ours``; asked: ``span``, ``control``. Writes nothing."""
    from ray_selfloop.conclusion import judged

    return judged.frames(judged.judged(Path(table), columns, **asked))


def run(sweep: Named = None, *words: str) -> pd.DataFrame:
    """Run what is missing of a sweep, write report and MLflow, and return its results.

    Raises StageError where stages have failed; the others are published. An interrupt stops it at
    once; what is published stays, and the same call goes on.
    """
    started = time.monotonic()
    from ray_selfloop.conclusion.conclude import conclude
    from ray_selfloop.planning import prepare
    from ray_selfloop.running import Run

    found = prepare(_line(sweep, words))
    with Run(found) as running:
        running.execute(threading.Event())
        conclude(running, time.monotonic() - started)
        if running.progress.failed:
            raise StageError("; ".join(dict.fromkeys(running.progress.failed.values())))
    return _read(found.store.blobs, found.sweep.name, RESULTS)


def _line(sweep: Named, words: tuple[str, ...]) -> list[str]:
    """The words of a command line; those of a folder are its settings, in the storage around it."""
    if not _is_folder(sweep):
        return [*([] if sweep is None else [str(sweep)]), *words]
    config = _own(sweep, (), SETTINGS)
    return [str(config), f"storage={config.parent.parent}", *words]


def _table(sweep: Named, words: tuple[str, ...], name: str) -> pd.DataFrame:
    """One of the sweep's own tables."""
    if _is_folder(sweep):
        return pd.read_parquet(_own(sweep, words, name))
    found = load(_text(sweep), words)[0]
    storage = found.storage if blobs.remote(found.storage) else Path(found.storage).expanduser()
    return _read(blobs.at(storage), found.name, name)


def _read(store: blobs.Blobs, sweep: str, name: str) -> pd.DataFrame:
    with tempfile.TemporaryDirectory(prefix="selfloop-") as scratch:
        path = Path(scratch) / name
        if not store.download(f"{sweep}/{name}", path):
            raise StorageError(f"{store.place(f'{sweep}/{name}')} is not there; {REMEDY}")
        return pd.read_parquet(path)


def _is_folder(sweep: Named) -> bool:
    return sweep is not None and Path(sweep).is_dir()


def _own(folder: Named, words: tuple[str, ...], name: str) -> Path:
    """A file in the folder of a sweep's results."""
    path = Path(str(folder)).resolve() / name
    if words:
        raise ConfigError(f"{words[0]!r}: the results in {path.parent} are as they were run")
    if not path.is_file():
        no_results = not path.with_name(RESULTS).is_file()
        remedy = "give the folder with a sweep's results.parquet" if no_results else REMEDY
        raise StorageError(f"{path} is not there; {remedy}")
    return path


def _text(sweep: Named) -> str | None:
    return None if sweep is None else str(sweep)


def _flat(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Dotted key -> value."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        nested = isinstance(value, dict) and value
        found |= _flat(value, f"{above}{name}.") if nested else {f"{above}{name}": value}
    return found
