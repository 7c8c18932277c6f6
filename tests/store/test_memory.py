"""The peak of a process's memory: of one stage, not of those before it; in its record."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import MICRO

from ray_selfloop.planning import prepare
from ray_selfloop.stages.run import execute
from ray_selfloop.store import memory

MB = 2**20


def test_a_peak_can_be_forgotten() -> None:
    memory.forget_peak()
    before = memory.peak()
    assert before is not None
    large = np.ones(200 * MB // 8)
    high = memory.peak()
    assert high is not None
    assert high - before > 150 * MB
    del large
    memory.forget_peak()
    after = memory.peak()
    assert after is not None
    assert after < high - 150 * MB


def test_where_the_system_does_not_tell_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "SELF", tmp_path / "none")
    memory.forget_peak()
    assert memory.peak() is None


def test_a_record_tells_what_its_stage_needed(tmp_path: Path) -> None:
    plan = prepare([*MICRO, f"storage={tmp_path}"])
    record = execute(next(iter(plan.graph)).stage, plan.store)
    assert 20 * MB < record.memory < 20_000 * MB
    assert math.isnan(replace(record, environment={}).memory)
