"""What `python -m ray_selfloop submit` sends to a cluster, under which name, and to which address.

Sent are the settings as one file (with what they extend, and the overrides put in) and this
package's own files: a cluster computes with the code that named the stages here, whatever its image
holds. No data, no results; no credentials but one written in `tracking.uri`. What can be refused is
refused here, before ray loads.
"""

import os
import posixpath
import re
import shlex
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ray_selfloop.config import load, plain
from ray_selfloop.config.sweep import NOT_IN_A_SCENARIO
from ray_selfloop.errors import ConfigError
from ray_selfloop.graph import digest

ADDRESS = "RAY_API_SERVER_ADDRESS"  # Ray's own variable for the address of jobs
LOCAL = "http://127.0.0.1:8265"
USAGE = (
    "python -m ray_selfloop submit [--retries N] [--no-wait] [--follow] [CONFIG] [a.b=value ...]"
)
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}  # of the driver and of every worker, as on one machine
LONGEST = 80  # characters of a sweep's name in a job's: it is part of file names on the head


@dataclass(frozen=True)
class Options:
    """How a job is submitted.

    address: of the cluster's dashboard.
    retries: how often it is submitted again where its process or its machine died.
    wait: follow the log until the end. follow: follow a job of the sweep that runs already.
    """

    address: str
    retries: int
    wait: bool
    follow: bool


@dataclass(frozen=True)
class Job:
    """One sweep as a job: ``stem`` is the part of its name that all its attempts share."""

    stem: str
    sweep: str
    settings: str

    @property
    def entrypoint(self) -> str:
        """The command that the cluster runs in the folder that ``pack`` fills."""
        return shlex.join(["python", "-m", "ray_selfloop.sweep", f"{self.sweep}.yaml"])

    def attempt(self, number: int) -> str:
        """The name of one attempt; numbers count from 1."""
        return f"{self.stem}-{number}"

    def attempts(self, names: Iterable[str]) -> list[int]:
        """The attempts of this sweep among the jobs of a cluster, in order."""
        found = (re.fullmatch(rf"{re.escape(self.stem)}-(\d+)", name) for name in names)
        return sorted(int(match[1]) for match in found if match)


def options(retries: int = 3, no_wait: bool = False, follow: bool = False) -> Options:
    """The flags of a command line; raises ConfigError where they exclude each other."""
    if no_wait and follow:
        raise ConfigError(f"--no-wait and --follow exclude each other; usage: {USAGE}")
    return Options(address(), retries, not no_wait, follow)


def address() -> str:
    """The cluster's dashboard, without a slash at its end; raises ConfigError for another kind."""
    ray = os.environ.get("RAY_ADDRESS", "")
    given = os.environ.get(ADDRESS) or (ray if ray.startswith("http") else LOCAL)
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{ADDRESS}={given} is not the address of a dashboard; give one like {LOCAL}"
        )
    return given.rstrip("/")


def described(config: str | None, overrides: Sequence[str]) -> Job:
    """The job of a command line; raises ConfigError where a cluster could not run it.

    Its name is made of the sweep's settings and storage, without resources and tracking: the same
    sweep has the same name however it is run.
    """
    sweep, scenarios = load.load(config, overrides)
    apart = set(NOT_IN_A_SCENARIO)
    settings = [[one.name, one.sweep.model_dump(mode="json", exclude=apart)] for one in scenarios]
    identity = digest([sweep.name, _storage(sweep.storage), settings])
    text = plain.dumped(load.written(config, overrides))
    return Job(f"{sweep.name[:LONGEST]}-{identity[:8]}", sweep.name, text)


def _storage(text: str) -> str:
    """Storage in one spelling; raises ConfigError for a relative folder, which a job would lose."""
    if "://" in text:
        return text.rstrip("/")
    if not text.startswith(("/", "~")):
        raise ConfigError(
            f"storage: {text} is relative, and a Ray job's working folder is a temporary copy; "
            "give an absolute path that every node sees, or a URL"
        )
    return posixpath.normpath(text)


def pack(job: Job, folder: Path) -> None:
    """Fill the empty ``folder`` with all that a job needs: its settings and this package."""
    (folder / f"{job.sweep}.yaml").write_text(job.settings, encoding="utf-8")
    package = Path(load.__file__).parents[1]
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
    shutil.copytree(package, folder / package.name, ignore=ignored)


def command(words: Sequence[str], *flags: str) -> str:
    """The command line that submits the same sweep, as a user types it."""
    return shlex.join(["python", "-m", "ray_selfloop", "submit", *flags, *words])
