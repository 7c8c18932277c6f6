"""The one Tune experiment of a sweep: trials go in as their data are ready, results come out.

Decides nothing about what runs next: the driver puts trials on the board, never more than there
are free slots. What a trial computes is in `stages.py`; its result is the store's record.
"""

import os
import queue
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from ray_selfloop.distributed.cluster import device
from ray_selfloop.graph import Stage
from ray_selfloop.stages.run import execute
from ray_selfloop.store import Store

RETRIES = 3
OK = "ok"


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: ``error`` is empty when its record is published."""

    key: str
    error: str


class Board:
    """Trials that may start now, and outcomes; the only meeting point of driver and Tune."""

    def __init__(self) -> None:
        self.waiting: queue.Queue[Stage] = queue.Queue()
        self.outcomes: queue.Queue[Outcome] = queue.Queue()
        self.closed = threading.Event()
        self.handed_out: dict[str, str] = {}  # Tune's trial id -> stage key


_BOARDS: dict[str, Board] = {}
"""Boards by name: Tune pickles its searcher, and a pickled searcher must find its board again."""


class BoardSearcher(Searcher):
    """Hands Tune whatever is on the board; None while nothing is ready."""

    def __init__(self, board: str, root: str) -> None:
        super().__init__(metric=OK, mode="max")
        self.board = board
        self.root = root

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's config, FINISHED once the board is closed, None while it is empty."""
        board = _BOARDS[self.board]
        if board.closed.is_set():
            return Searcher.FINISHED
        try:
            stage = board.waiting.get_nowait()
        except queue.Empty:
            return None
        board.handed_out[trial_id] = stage.key
        return {"stage": stage, "root": self.root}

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Pass the outcome on to the driver."""
        board = _BOARDS[self.board]
        lost = f"its worker died {RETRIES + 1} times" if error or not result else ""
        message = lost or str((result or {}).get("error", ""))
        board.outcomes.put(Outcome(board.handed_out[trial_id], message))

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the store is the only resume mechanism."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


def _trial(config: dict[str, Any]) -> None:
    """One trial in a worker: an error of the code is a result, a lost worker is Tune's to retry."""
    stage: Stage = config["stage"]
    error = ""
    try:
        execute(stage, Store(config["root"]), device())
    except Exception as problem:
        error = f"{type(problem).__name__}: {problem}"
    tune.report({OK: float(not error), "error": error})


class Experiment:
    """Tune's experiment in a thread of its own, alive from the first trial to ``close``."""

    def __init__(self, name: str, root: str, request: Mapping[str, float], slots: int) -> None:
        self.board = Board()
        self.failure: BaseException | None = None
        self._name = f"{name}-{id(self)}"
        _BOARDS[self._name] = self.board
        self._arguments = (root, dict(request))
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots)
        self._thread = threading.Thread(target=self._run, name="tune", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._fit(*self._arguments)
        except BaseException as error:
            self.failure = error

    def _fit(self, root: str, request: dict[str, float]) -> None:
        os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
        with tempfile.TemporaryDirectory(prefix="selfloop-tune-") as scratch:
            tune.Tuner(
                tune.with_resources(_trial, request),
                tune_config=tune.TuneConfig(
                    search_alg=BoardSearcher(self._name, root),
                    num_samples=-1,
                    reuse_actors=True,
                    metric=OK,
                    mode="max",
                ),
                run_config=tune.RunConfig(
                    name="trials",
                    storage_path=scratch,
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=RETRIES),
                ),
            ).fit()

    @property
    def ended(self) -> bool:
        """Whether it no longer takes trials."""
        return not self._thread.is_alive()

    def close(self, timeout: float) -> None:
        """End the experiment; running trials are waited for up to ``timeout`` seconds."""
        self.board.closed.set()
        self._thread.join(timeout)
        if not self._thread.is_alive():
            del _BOARDS[self._name]
