"""The line that is said before Ray is loaded."""

import subprocess
import sys

import pytest

from ray_selfloop.config.sweep import Resources
from ray_selfloop.distributed import starting
from ray_selfloop.distributed.limits import limits


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_it_says_how_many_stages_run_at_once_here() -> None:
    said = starting.sentence(64, Resources(num_cpus=1))
    assert said == "64 stages to compute: starting Ray on this machine, 1 at once"
    assert starting.sentence(64, Resources()).endswith(f", {limits().workers} at once")


def test_it_says_which_cluster_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert starting.sentence(1, Resources()) == "1 stages to compute: joining Ray at head:6379"


def test_it_says_that_nothing_is_to_be_computed() -> None:
    assert starting.sentence(0, Resources()) == "every stage of the loop is published already"


def test_nothing_heavy_is_loaded_before_it() -> None:
    loaded = "import sys, ray_selfloop.verbs; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", loaded], capture_output=True, check=True)
    assert not {"ray", "torch", "scipy", "pandas"} & {*ended.stdout.decode().split()}
