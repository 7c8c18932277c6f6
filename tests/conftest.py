"""Shared by all tests: a micro-sweep, whose stages are the real ones at the smallest sizes."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

MICRO = (
    "name=micro",
    "axes={}",
    "loop.generations=2",
    "loop.classifier_seeds=[0]",
    "classifiers=[lenet]",
    "training.max_steps=60",
    "generator.max_steps=20",
    "generator.min_steps=0",
    "generator.check_every=10",
    "generator.check_samples=100",
    "filter.clip.steps=20",
    "evaluation.samples=200",
    "evaluation.resamples=50",
    "evaluation.permutations=50",
)
"""Overrides of the quickstart: 1 scenario, 2 generations, seconds instead of minutes."""


@pytest.fixture
def micro(tmp_path: Path) -> list[str]:
    """The words of a micro-sweep's command line, with a storage of its own."""
    return [*MICRO, f"storage={tmp_path / 'store'}"]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words of a small sweep of which everything is published, its measurements too."""
    from ray_selfloop.__main__ import main
    from ray_selfloop.planning import prepare
    from ray_selfloop.stages.run import run_here

    folder = tmp_path_factory.mktemp("published")
    words = [*MICRO, "loop.generations=1", "generator.max_steps=10", f"storage={folder / 'store'}"]
    plan = prepare(words)
    run_here(plan.graph, plan.store)
    assert main(["results", *words]) == 0
    return words


@pytest.fixture
def seen() -> Iterator[Path]:
    """A folder that every user can read; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="selfloop-seen-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def data_root() -> str:
    """The folder of the full real data sets; tests that need it are skipped without it."""
    root = os.environ.get("SELFLOOP_DATA")
    if not root:
        pytest.skip("SELFLOOP_DATA is not set: the real data sets are not at hand")
    return root
