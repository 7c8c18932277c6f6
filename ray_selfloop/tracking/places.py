"""Where MLflow's SQLite database and its artifacts lie, and that one process at a time makes it."""

import contextlib
import fcntl
import os
import sqlite3
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

SQLITE = "sqlite:///"
LOCK_SECONDS = 15.0  # that another process may keep a database to itself
ARTIFACTS = "mlflow-artifacts"  # beside an SQLite database: a folder for each experiment


def default_uri(storage: Path) -> str:
    """The SQLite database of a storage folder; `%` and `?` are what an address gives a meaning."""
    path = str(storage.resolve() / "mlflow.db")
    return f"{SQLITE}{path.replace('%', '%25').replace('?', '%3F')}"


def database(uri: str) -> Path | None:
    """The file of an SQLite database's address; None of a server."""
    if not uri.startswith(SQLITE):
        return None
    return Path(urllib.parse.unquote(uri.removeprefix(SQLITE).partition("?")[0]))


def beside(file: Path, experiment: str) -> str:
    """MLflow's own choice for a database is the working folder, which a job leaves behind."""
    return (file.resolve().parent / ARTIFACTS / experiment).as_uri()


def follow(file: Path) -> None:
    """MLflow keeps whole paths; after a copy or a move they would lead to where it was before.

    Experiments whose artifacts the user keeps elsewhere are left alone.
    """
    with contextlib.closing(sqlite3.connect(file, timeout=LOCK_SECONDS)) as opened, opened:
        found = opened.execute("select experiment_id, name, artifact_location from experiments")
        for experiment, name, before in found.fetchall():
            now, place = beside(file, name), f"/{ARTIFACTS}/{urllib.parse.quote(name)}"
            if before.startswith("file:") and before.endswith(place) and before != now:
                _lead(opened, experiment, before, now)


def _lead(opened: sqlite3.Connection, experiment: int, before: str, now: str) -> None:
    """An experiment's artifacts, and those of its runs, lie below ``now``."""
    opened.execute(
        "update experiments set artifact_location = ? where experiment_id = ?", (now, experiment)
    )
    opened.execute(
        "update runs set artifact_uri = ? || substr(artifact_uri, ?)"
        " where experiment_id = ? and substr(artifact_uri, 1, ?) = ?",
        (now, len(before) + 1, experiment, len(before) + 1, f"{before}/"),
    )


@contextlib.contextmanager
def alone(file: Path | None) -> Iterator[None]:
    """One process at a time makes or migrates a database: two at once leave it half migrated."""
    if not file:
        yield
        return
    handle = os.open(file.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # no locks here: as MLflow does it
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def nothing_beside(uri: str) -> Iterator[None]:
    """MLflow makes the folder that an SQLite address names, before it decodes it."""
    named = Path(uri.removeprefix(SQLITE)).parent
    made = [folder for folder in (named, *named.parents) if database(uri) and not folder.exists()]
    yield
    for folder in made:
        with contextlib.suppress(OSError):
            folder.rmdir()
