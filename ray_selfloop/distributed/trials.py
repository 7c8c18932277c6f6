"""The one Tune experiment of a sweep: trials go in as their data are ready, results come out.

Decides nothing about what runs next: the driver puts trials on the board, never more than there
are free slots. What a trial computes stands in `stages/classifier.py`; its result is the store's
record.
"""

import os
import queue
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.execution import tune_controller
from ray.tune.search import Searcher
from ray.tune.utils.object_cache import _ObjectCache

from ray_selfloop.distributed.losses import Outcome, is_loss, machine_of
from ray_selfloop.distributed.worker import device, hold_memory
from ray_selfloop.graph import Stage
from ray_selfloop.stages.run import execute
from ray_selfloop.store.records import Store

OK = "ok"
REST = 10.0  # s without a trial, at least, after which an experiment is ended
RESET = "60"  # s that a worker has for getting ready; beyond them Tune forgets its next trial
AHEAD = "1000"  # trials that Tune may ask for at once; the driver hands out no more than may run


class Board:
    """Trials that may start now, and outcomes; the only meeting point of driver and Tune."""

    def __init__(self) -> None:
        self.waiting: queue.Queue[Stage | None] = queue.Queue()  # None: no more will come
        self.outcomes: queue.Queue[Outcome] = queue.Queue()
        self.closed = False
        self.live: set[str] = set()  # Tune's trial ids that have not ended
        self.moved = time.monotonic()  # when the last one began or ended
        self.spoilt = False  # whether the trial that has just ended was an error of the code
        self.handed_out: dict[str, Stage] = {}  # Tune's trial id -> its stage
        self.workers: dict[str, str] = {}  # Tune's trial id -> Ray's id of the worker

    def next(self) -> Stage | None:
        """The next trial; None where none waits while others run, or where the board is closed.

        While none runs it waits here for one: Tune itself would sleep for a second whenever it has
        asked in vain.
        """
        if self.closed:
            return None
        try:
            stage = self.waiting.get(block=not self.live)
        except queue.Empty:
            return None
        self.closed = stage is None
        return stage

    def close(self) -> None:
        """No more trials will come."""
        self.waiting.put(None)


_BOARDS: dict[str, Board] = {}
"""Boards by name: Tune pickles its searcher, and a pickled searcher must find its board again."""


class BoardSearcher(Searcher):
    """Hands Tune whatever is on the board."""

    def __init__(self, board: str, root: str) -> None:
        super().__init__(metric=OK, mode="max")
        self.board = board
        self.root = root

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial's config, FINISHED once the board is closed, None while none waits."""
        board = _BOARDS[self.board]
        stage = board.next()
        if stage is None:
            return Searcher.FINISHED if board.closed else None
        board.live.add(trial_id)
        board.moved = time.monotonic()
        board.handed_out[trial_id] = stage
        return {"stage": stage, "root": self.root}

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Pass the outcome of a trial that came to its end on to the driver."""
        board, said = _BOARDS[self.board], result or {}
        board.live.discard(trial_id)
        board.moved = time.monotonic()
        if not error:
            missing = "the trial ended without a report"
            reason, detail = str(said.get("error", missing)), str(said.get("detail", ""))
            lost = bool(said.get("lost"))
            board.spoilt = bool(reason)
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
        machine = self._machine(board, trial)
        said = (Path(trial.error_file).read_text().strip() if trial.error_file else "") or "lost"
        key = board.handed_out[trial.trial_id].key
        board.outcomes.put(Outcome(key, said.splitlines()[-1], said, True, machine))

    @staticmethod
    def _machine(board: Board, trial: Any) -> str | None:
        """Where the trial's worker was; one that died while it waited for the trial was nowhere."""
        worker = board.workers.get(trial.trial_id, "")
        if worker:
            return machine_of(worker)
        died = getattr(trial.get_pickled_error(), "actor_id", "")
        return "" if died in board.workers.values() else None


def _trial(config: dict[str, Any]) -> None:
    """One trial in a worker: an error of the code is a result, a lost worker the driver's."""
    os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", RESET)
    error, detail, lost = "", "", False
    try:
        hold_memory()
        execute(config["stage"], Store(config["root"]), device())
    except Exception as problem:
        error, detail = f"{type(problem).__name__}: {problem}", traceback.format_exc()
        lost = is_loss(problem)
    tune.report({OK: float(not error), "error": error, "detail": detail, "lost": lost})


class _Idle(_ObjectCache):
    """Workers that have done their trial and wait for another one.

    Tune itself keeps one where no trial waits, and ends the others: each of their next trials would
    begin with a new process that loads torch. Here they wait for a while, the last one that came
    goes first; where trials that ask for something else wait, it is Tune's to say. A worker whose
    trial was an error of the code goes: it may be the worker's.
    """

    def __init__(self, board: Board, patience: float, may_keep_one: bool = True) -> None:
        """patience: s that one waits at most."""
        super().__init__(may_keep_one)
        self._board = board
        self._patience = patience
        self._since: dict[int, float] = {}  # id of what waits -> since when

    def cache_object(self, key: Any, obj: Any) -> bool:
        """Keep one; whether it was."""
        spoilt, self._board.spoilt = self._board.spoilt, False
        if spoilt:
            return False
        kept = super().cache_object(key, obj)
        if not kept and self._patience > 0 and not self._others(key):
            self._cached_objects[key].append(obj)
            self._num_cached_objects += 1
            kept = True
        if kept:
            self._since[id(obj)] = time.monotonic()
        return kept

    def pop_cached_object(self, key: Any) -> Any:
        """The one that has waited least: machines whose workers are not wanted may go."""
        self._cached_objects[key].reverse()
        found = super().pop_cached_object(key)
        self._cached_objects[key].reverse()
        return found

    def flush_cached_objects(self, force_all: bool = False) -> Iterator[Any]:
        """Those that need not wait any longer."""
        keys = [key for key, kept in self._cached_objects.items() if kept]
        ours = len(keys) == 1 and self._patience > 0
        if force_all or not ours or self._others(keys[0]):
            yield from super().flush_cached_objects(force_all)
            return
        waiting = self._cached_objects[keys[0]]
        least, now = self._max_num_objects[keys[0]], time.monotonic()
        while len(waiting) > least and now - self._since[id(waiting[0])] >= self._patience:
            self._num_cached_objects -= 1
            yield waiting.pop(0)

    def _others(self, key: Any) -> bool:
        """Whether anything is wanted, or waits, that asks for something else."""
        wanted = any(most > 0 for other, most in self._max_num_objects.items() if other != key)
        return wanted or any(kept for other, kept in self._cached_objects.items() if other != key)


Request = Callable[[Stage], Mapping[str, float]]


class Experiment:
    """Tune's experiment in a thread of its own, alive from the first trial to ``close``."""

    def __init__(self, name: str, root: str, request: Request, patience: float = 0.0) -> None:
        """request: what a trial asks Ray for. patience: s that a worker waits for its next one."""
        self.board = Board()
        self.failure: BaseException | None = None
        self.patience = patience
        self._name = f"{name}-{id(self)}"
        _BOARDS[self._name] = self.board
        self._arguments = (root, request)
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = AHEAD
        self._thread = threading.Thread(target=self._run, name="tune", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        tune_controller._ObjectCache = partial(_Idle, self.board, self.patience)
        try:
            self._fit(*self._arguments)
        except BaseException as error:
            self.failure = error
        finally:
            tune_controller._ObjectCache = _ObjectCache

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

    @property
    def tired(self) -> bool:
        """Whether its workers have waited for long enough, and no trial runs."""
        board = self.board
        rests = not board.live and board.waiting.empty()
        return rests and time.monotonic() - board.moved > max(self.patience, REST)

    def close(self, timeout: float) -> bool:
        """End the experiment; running trials are waited for up to ``timeout`` s. Whether it did."""
        self.board.close()
        self._thread.join(timeout)
        if self.ended:
            del _BOARDS[self._name]
        return self.ended


def _tunes(request: Mapping[str, float]) -> tune.PlacementGroupFactory:
    """A trial's request as Tune takes it."""
    return tune.PlacementGroupFactory([{"CPU": 0.0, **request}])
