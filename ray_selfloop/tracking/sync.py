"""Writing to MLflow within a bounded time: only the driver does it.

Whatever the server does, it costs a bounded time and a warning, never a result; what a call that
failed has left half done is completed by the next ``sync``.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ray_selfloop.config.plain import masked, shown
from ray_selfloop.tracking import places
from ray_selfloop.tracking.layout import SWEEP_TAG, TrackedRun
from ray_selfloop.tracking.places import database
from ray_selfloop.tracking.writer import Writer

PREPARE_SECONDS = 15.0
SYNC_SECONDS, SYNC_SECONDS_EACH = 20.0, 0.5  # in all, and for each run and file
# What the user has set stays; some are read when mlflow is imported. Its own defaults would let
# one call to a dead server block for four minutes, and a "Retry-After" for as long as it says.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


def prepare(uri: str) -> list[str]:
    """Create the SQLite database, or see whether the server answers; warnings, never an error.

    Ends within ``PREPARE_SECONDS``. The driver opens it before anything else can.
    """
    return _within(PREPARE_SECONDS, uri, lambda _: _client(uri).search_experiments(max_results=1))


def sync(uri: str, experiment: str, runs: Sequence[TrackedRun]) -> list[str]:
    """Write what MLflow lacks of ``runs`` (as ``plan`` orders them); returns warnings.

    A number is written once per (run, metric, step). Where the store now says another number than
    MLflow has (a seed was added, so the mean moved; a stage was recomputed), MLflow cannot take
    the old one back: the old run is kept, tagged ``selfloop.superseded`` and renamed, and a new
    run takes its place.

    Ends at the first call that fails for good, or within ``budget(runs)`` seconds; the next one
    goes on where it stopped. Never raises for trouble with the server.
    """

    def write(late: threading.Event) -> None:
        writer, location = Writer(_client(uri), late, runs[0].tags[SWEEP_TAG]), None
        if file := database(uri):
            location = places.beside(file, experiment)
            places.follow(file)
        writer.open(experiment, location)
        writer.write(runs)

    return _within(budget(runs), uri, write)


def budget(runs: Sequence[TrackedRun]) -> float:
    """Seconds that ``sync`` may take: several times what a server that is well needs."""
    return SYNC_SECONDS + SYNC_SECONDS_EACH * sum(1 + len(run.artifacts) for run in runs)


def _within(seconds: float, uri: str, work: Callable[[threading.Event], object]) -> list[str]:
    """Do ``work`` in a thread; a warning where it fails, or is left behind after ``seconds``.

    A thread, because no timeout of a call is a limit: a server that sends byte by byte, the
    resolution of a name and a locked file last as long as they like. ``work`` is given an event
    that is set when nobody waits any more.
    """
    try:
        _load()
    except Exception as error:
        return [trouble(uri, error)]
    late = threading.Event()
    errors: list[Exception] = []

    def attempt() -> None:
        try:
            work(late)
        except Exception as error:  # whatever a tracker does wrong must not stop a sweep
            errors.append(error)

    thread = threading.Thread(target=attempt, name="mlflow", daemon=True)
    thread.start()
    thread.join(seconds)
    late.set()
    if thread.is_alive():
        return [_trouble(uri, f"not done after {seconds:.0f} s")]
    return [trouble(uri, error) for error in errors]


def trouble(uri: str, error: Exception) -> str:
    """The warning that an error is, with what to do."""
    return _trouble(uri, _cause(error))


def _cause(error: BaseException) -> str:
    """What lies at the bottom: mlflow, requests and urllib3 each wrap it once more.

    A failed look-up or conversion on the way is how a library decides, and says nothing.
    """
    while deeper := error.__cause__ or error.__context__:
        if isinstance(deeper, LookupError | AttributeError | TypeError | ValueError):
            break
        error = deeper
    return f"{type(error).__name__}: {shown(error, 300)}"


def _trouble(uri: str, cause: str) -> str:
    return (
        f"MLflow at {masked(uri)} lacks numbers of this sweep ({cause}). Training and results are "
        "not affected. When MLflow works again, write what it lacks with: "
        "python -m ray_selfloop sync-mlflow, followed by the sweep's own words"
    )


def _load() -> None:
    """Import mlflow with our defaults; outside the time that its server is given."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow.tracking  # noqa: F401

    for name in ("mlflow", "alembic"):  # a page of migration notes on a new database
        logging.getLogger(name).setLevel(logging.ERROR)


def _client(uri: str) -> Any:
    file = database(uri)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
    from mlflow import clear_active_model
    from mlflow.tracking import MlflowClient

    clear_active_model()  # MLFLOW_ACTIVE_MODEL_ID would tie our numbers to the user's model
    with places.nothing_beside(uri), places.alone(file):
        client = MlflowClient(uri)
        if file:
            client.search_experiments(max_results=1)
        return client
