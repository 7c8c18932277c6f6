"""Shared by all tests: a micro-sweep, whose stages are the real ones at the smallest sizes.

Also which test files begin first, so that no core is idle at the end.
"""

import atexit
import fcntl
import gc
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

MICRO = (
    "name=micro",
    "axes={}",
    "dataset={name: colorized_digits}",
    "queue={}",
    "training_of={}",
    "training={max_steps: 60, batch_size: 32, check_steps: 20}",
    "evaluation.claims={}",
    "loop.loop_seeds=[0]",
    "loop.generations=2",
    "loop.classifier_seeds=[0]",
    "classifiers=[lenet]",
    "generator.max_steps=20",
    "generator.min_steps=0",
    "generator.check_every=10",
    "generator.check_samples=100",
    "filter.clip.steps=20",
    "evaluation.samples=200",
    "evaluation.resamples=50",
    "evaluation.permutations=50",
)
"""Overrides of the quickstart: 1 scenario, 1 chain, 2 generations, seconds instead of minutes."""

TWO_STARTS = str(Path(__file__).with_name("two_starts.yaml"))
"""A sweep of two settings at a size whose stages can be counted."""

LONGEST = (
    "system/test_quickstart.py",
    "system/test_resume.py",
    "system/test_lost_machines.py",
    "system/test_mlflow_trouble.py",
    "contract/test_picture_executors.py",
    "distributed/test_asha.py",
    "contract/test_executors.py",
    "images/test_pictures_memory.py",
    "system/test_hard_imagenet_sweep.py",
    "system/test_job.py",
    "generators/test_stable_diffusion_learns.py",
    "system/test_tune.py",
    "system/test_storage_elsewhere.py",
    "system/test_crashing_worker.py",
    "system/test_small_container.py",
    "system/test_bucket_sweep.py",
    "system/test_mnist.py",
    "system/test_two_drivers.py",
    "stages/test_subgroups.py",
    "stages/test_picture_stages.py",
    "test_command.py",
    "claims/test_claims.py",
    "system/test_paper_recipe.py",
    "store/test_store_in_a_bucket.py",
    "store/test_blobs.py",
    "distributed/test_local.py",
    "classifiers/test_fine_tuning_at_224.py",
    "generators/test_stable_diffusion.py",
    "report/test_imagenet_report.py",
    "tracking/test_sync.py",
    "system/test_bad_input.py",
    "report/test_report_arms.py",
    "generators/test_conditional_gan.py",
    "test_positive_control.py",
)
"""Files of the most time, in that order: they begin first, and short ones fill the last minutes."""


SLOW_AS_A_WHOLE = "\npytestmark = pytest.mark.slow\n"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file of which no test is asked for is not loaded: it would be for seconds, in each worker.

    Whoever names the file has it loaded all the same.
    """
    asked = config.option.markexpr
    if asked not in ("slow", "not slow") or not collection_path.match("test_*.py"):
        return None
    text = collection_path.read_text(encoding="utf-8")
    unasked = "mark.slow" not in text if asked == "slow" else SLOW_AS_A_WHOLE in text
    return unasked or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files in the order of LONGEST, then the others as they stand."""
    here = Path(__file__).parent
    order = {here / name: place for place, name in enumerate(LONGEST)}
    assert all(path.is_file() for path in order), "LONGEST names a file that is not there"
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What all files import stays: no garbage is looked for meanwhile, and later not in it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        atexit.register(gc.unfreeze)  # Python ends as it does elsewhere


@pytest.fixture
def micro(tmp_path: Path) -> list[str]:
    """The words of a micro-sweep's command line, with a storage of its own."""
    return [*MICRO, f"storage={tmp_path / 'store'}"]


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that one process of a test run fills, for all of them: the first that asks for it.

    Who changes what is in it takes a copy.
    """
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            (folder / "made").touch()
    return folder


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words of a small sweep of which everything is published, its measurements too.

    Its storage is this process's own copy.
    """
    from ray_selfloop.__main__ import main
    from ray_selfloop.planning import prepare
    from ray_selfloop.stages.run import run_here

    words = [*MICRO, "loop.generations=1", "generator.max_steps=10", "compute.sample_batch=32"]

    def make(folder: Path) -> None:
        here = [*words, f"storage={folder / 'store'}"]
        plan = prepare(here)
        run_here(plan.graph, plan.store)
        assert main(["results", *here]) == 0

    made, own = made_once(tmp_path_factory, "published", make), tmp_path_factory.mktemp("published")
    shutil.copytree(made / "store", own / "store")
    return [*words, f"storage={own / 'store'}"]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words of a micro-sweep of one generation that its command has run, from end to end.

    Beside its storage, `seconds.json` says how long it took, and `copied` is a copy of the storage
    that was taken while it ran, when three stages were published.
    """
    from sweeps import copied_while_running

    words = [*MICRO, "loop.generations=1"]

    def make(folder: Path) -> None:
        most = "resources.num_cpus=4"  # or as many as there are
        here = [*words, most, f"storage={folder / 'store'}"]
        took = copied_while_running(here, folder / "copied", 3)
        (folder / "seconds.json").write_text(json.dumps(took))

    return [*words, f"storage={made_once(tmp_path_factory, 'undisturbed', make) / 'store'}"]


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
