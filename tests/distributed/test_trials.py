"""What Tune is told, and which of its workers wait between two trials."""

import threading
import time
from types import SimpleNamespace

import pytest
from ray.tune.execution import tune_controller

from ray_selfloop.distributed import trials
from ray_selfloop.distributed.trials import Board, _Idle
from ray_selfloop.graph import Graph, Place, Stage
from ray_selfloop.stages.kinds import NAMED


def _stage(number: int = 0) -> Stage:
    return Graph().add(NAMED["classifier"], {"number": number}, {}, Place("base", 0, 0))


def _idle(patience: float, wanted: int = 0, key: str = "slot") -> _Idle:
    cache = _Idle(Board(), patience, may_keep_one=True)
    cache.increase_max(key, wanted)
    return cache


def _kept(cache: _Idle, *keys: str) -> list[bool]:
    return [cache.cache_object(key, object()) for key in keys]


def test_while_a_trial_runs_an_empty_board_says_so_at_once() -> None:
    board = Board()
    board.live.add("trial")
    assert board.next() is None
    assert not board.closed


def test_while_none_runs_the_board_waits_for_the_next_trial() -> None:
    board, stage = Board(), _stage()
    threading.Timer(0.2, board.waiting.put, [stage]).start()
    begun = time.monotonic()
    assert board.next() is stage
    assert 0.1 < time.monotonic() - begun < 0.9  # Tune would have slept for a second


def test_a_closed_board_wakes_whoever_waits() -> None:
    board = Board()
    threading.Timer(0.1, board.close).start()
    assert board.next() is None
    assert board.closed
    assert board.next() is None  # again, without waiting


def test_what_lay_on_the_board_before_it_was_closed_is_handed_out() -> None:
    board, stage = Board(), _stage()
    board.waiting.put(stage)
    board.close()
    assert board.next() is stage
    assert board.next() is None
    assert board.closed


def test_all_workers_wait_for_their_next_trial() -> None:
    cache = _idle(patience=60)
    assert _kept(cache, *["slot"] * 4) == [True] * 4
    assert list(cache.flush_cached_objects()) == []
    assert cache.num_cached_objects == 4


def test_those_that_have_waited_for_long_go() -> None:
    cache = _idle(patience=0.05)
    _kept(cache, *["slot"] * 3)
    assert list(cache.flush_cached_objects()) == []
    time.sleep(0.06)
    assert len(list(cache.flush_cached_objects())) == 3
    assert cache.num_cached_objects == 0


def test_a_worker_whose_trial_failed_does_not_wait() -> None:
    cache = _idle(patience=60)
    cache._board.spoilt = True
    assert _kept(cache, "slot", "slot") == [False, True]
    assert cache._since.keys() == {id(cache.pop_cached_object("slot"))}


def test_those_that_trials_are_about_to_take_stay() -> None:
    cache = _idle(patience=0.05, wanted=2)
    _kept(cache, *["slot"] * 3)
    time.sleep(0.06)
    assert len(list(cache.flush_cached_objects())) == 1


def test_the_one_that_has_waited_least_is_taken_first() -> None:
    cache, workers = _idle(patience=60), [object(), object()]
    for worker in workers:
        cache.cache_object("slot", worker)
    assert cache.pop_cached_object("slot") is workers[1]
    assert cache.pop_cached_object("slot") is workers[0]
    assert cache.pop_cached_object("slot") is None
    assert cache.num_cached_objects == 0


def test_without_patience_one_waits_as_tune_has_it() -> None:
    cache = _idle(patience=0)
    assert _kept(cache, "slot", "slot") == [True, False]
    assert list(cache.flush_cached_objects()) == []


def test_workers_go_where_trials_wait_that_ask_for_something_else() -> None:
    cache = _idle(patience=60)
    _kept(cache, "slot", "slot")
    cache.increase_max("GPU")
    assert _kept(cache, "slot") == [False]
    assert len(list(cache.flush_cached_objects())) == 2


def test_workers_of_two_kinds_do_not_wait_together() -> None:
    assert _kept(_idle(patience=60), "slot", "GPU") == [True, False]


def test_at_the_end_all_go() -> None:
    cache = _idle(patience=60)
    _kept(cache, "slot", "slot")
    assert len(list(cache.flush_cached_objects(force_all=True))) == 2


def test_an_experiment_is_tired_when_no_trial_has_come_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trials, "REST", 0.05)
    monkeypatch.setattr(trials.Experiment, "_run", lambda self: None)
    experiment = trials.Experiment("rests", "", lambda stage: {}, patience=0.0)
    assert not experiment.tired
    time.sleep(0.06)
    assert experiment.tired
    experiment.board.live.add("trial")
    assert not experiment.tired
    experiment.patience, experiment.board.live = 60.0, set()
    assert not experiment.tired


def test_a_worker_that_died_while_it_waited_is_no_crash_of_the_next_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trials, "machine_of", lambda actor: f"machine of {actor}")
    board = Board()
    board.workers = {"earlier": "aa", "running": "bb"}

    def trial(number: str, died: str) -> SimpleNamespace:
        error = SimpleNamespace(actor_id=died)
        return SimpleNamespace(trial_id=number, get_pickled_error=lambda: error)

    where = trials._Lost._machine
    assert where(board, trial("running", "bb")) == "machine of bb"
    assert where(board, trial("next", "aa")) == ""  # such a loss costs nothing
    assert where(board, trial("next", "cc")) is None  # it never served: its start failed


@pytest.mark.parametrize("name", ["_num_cached_objects", "_cached_objects", "_max_num_objects"])
def test_tunes_own_cache_still_has_what_ours_is_made_from(name: str) -> None:
    controller = tune_controller.TuneController
    assert "_ObjectCache(may_keep_one=True)" in _source(controller.__init__)
    assert hasattr(_idle(1.0), name)


def _source(function: object) -> str:
    import inspect

    return inspect.getsource(function)  # type: ignore[arg-type]
