"""The one Tune experiment of a sweep: trials go in as their data are ready, results come out.

Decides nothing about what runs next: the driver puts trials on the board, never more than there
are free slots. What a trial computes stands in `stages/classifier.py`; its result is the store's
record.
"""

import os
import queue
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from ray_selfloop.distributed.losses import Outcome, is_loss, machine_of
from ray_selfloop.distributed.worker import device, hold_memory
from ray_selfloop.graph import Stage
from ray_selfloop.stages.run import execute
from ray_selfloop.store.records import Store

OK = "ok"
AHEAD = "1000"  # trials that Tune may ask for at once; the driver hands out no more than may run


class Board:
    """Trials that may start now, and outcomes; the only meeting point of driver and Tune."""

    def __init__(self) -> None:
        self.waiting: queue.Queue[Stage] = queue.Queue()
        self.outcomes: queue.Queue[Outcome] = queue.Queue()
        self.closed = threading.Event()
        self.handed_out: dict[str, Stage] = {}  # Tune's trial id -> its stage
        self.workers: dict[str, str] = {}  # Tune's trial id -> Ray's id of the worker


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
        board.handed_out[trial_id] = stage
        return {"stage": stage, "root": self.root}

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Pass the outcome of a trial that came to its end on to the driver."""
        if not error:
            board, said = _BOARDS[self.board], result or {}
            missing = "the trial ended without a report"
            reason, detail = str(said.get("error", missing)), str(said.get("detail", ""))
            lost = bool(said.get("lost"))
            key = board.handed_out[trial_id].key
            board.outcomes.put(Outcome(key, reason, detail, lost))

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the store is the only resume mechanism."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class _Lost(tune.Callback):
    """Passes trials that lost their worker on to the driver, which decides what becomes of them.

    An error of the code is a result: what Tune calls an error is always a loss.
    """

    def __init__(self, board: str) -> None:
        self.board = board

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Called by Tune: the trial's worker is there."""
        worker = trial.temporary_state.ray_actor
        _BOARDS[self.board].workers[trial.trial_id] = worker._actor_id.hex() if worker else ""

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Called by Tune: the trial's worker is gone."""
        board = _BOARDS[self.board]
        machine = machine_of(board.workers.get(trial.trial_id, ""))
        said = (Path(trial.error_file).read_text().strip() if trial.error_file else "") or "lost"
        key = board.handed_out[trial.trial_id].key
        board.outcomes.put(Outcome(key, said.splitlines()[-1], said, True, machine))


def _trial(config: dict[str, Any]) -> None:
    """One trial in a worker: an error of the code is a result, a lost worker the driver's."""
    error, detail, lost = "", "", False
    try:
        hold_memory()
        execute(config["stage"], Store(config["root"]), device())
    except Exception as problem:
        error, detail = f"{type(problem).__name__}: {problem}", traceback.format_exc()
        lost = is_loss(problem)
    tune.report({OK: float(not error), "error": error, "detail": detail, "lost": lost})


Request = Callable[[Stage], Mapping[str, float]]


class Experiment:
    """Tune's experiment in a thread of its own, alive from the first trial to ``close``."""

    def __init__(self, name: str, root: str, request: Request) -> None:
        """request: what a trial asks Ray for."""
        self.board = Board()
        self.failure: BaseException | None = None
        self._name = f"{name}-{id(self)}"
        _BOARDS[self._name] = self.board
        self._arguments = (root, request)
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = AHEAD
        self._thread = threading.Thread(target=self._run, name="tune", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._fit(*self._arguments)
        except BaseException as error:
            self.failure = error

    def _fit(self, root: str, request: Request) -> None:
        os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
        with tempfile.TemporaryDirectory(prefix="selfloop-tune-") as scratch:
            tune.Tuner(
                tune.with_resources(_trial, lambda config: _tunes(request(config["stage"]))),
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
                    callbacks=[_Lost(self._name)],
                    failure_config=tune.FailureConfig(max_failures=0),
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


def _tunes(request: Mapping[str, float]) -> tune.PlacementGroupFactory:
    """A trial's request as Tune takes it."""
    return tune.PlacementGroupFactory([{"CPU": 0.0, **request}])
