"""Ray on this machine alone: how many workers, where its files lie, who may talk to it.

Everything that Ray would need is tried before it starts: what a person must mend is one line. A
cluster that others have started keeps its own ways.
"""

import errno
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ray._private import ray_constants
from ray._raylet import (  # type: ignore[attr-defined]  # there is no public way to ask
    AuthenticationTokenLoader,
)
from ray.exceptions import AuthenticationError

from ray_selfloop.distributed.limits import Limits
from ray_selfloop.errors import ResourceError

SHORT = Path("/tmp")
SESSION = "ray/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""What Ray puts behind its temporary folder, at its longest."""
LONGEST = 107 if sys.platform == "linux" else 103  # bytes of a socket's name
UNWRITTEN = frozenset("'\"\\")  # that Ray's command lines do not carry from process to process
ENOUGH = 2**20  # bytes: that much goes into Ray's first logs
MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
NICENESS = "RAY_worker_niceness"
IDLE_WORKERS = "RAY_num_workers_soft_limit"  # above so many processes Ray ends those that wait
Say = Callable[[str], None]
_told: dict[str, str] = {}


def tell(name: str, value: str) -> None:
    """Set one of Ray's variables, for this start of Ray alone, unless the user has set it."""
    if os.environ.get(name) == _told.get(name):
        os.environ[name] = _told[name] = value


def forget() -> None:
    """Take back what was told: another program that this process starts is not meant."""
    for name, value in _told.items():
        if os.environ.get(name) == value:
            del os.environ[name]
    _told.clear()


def slots(asked: int | None, found: Limits, say: Say) -> int:
    """Stages of one core that run at once: as many as were asked for, or as there is room for.

    Never more than there are cores: they would only take turns.
    """
    cores, roomy = found.whole_cores, found.workers
    if asked is None and roomy < cores:
        say(f"{roomy} of {cores} CPU cores used: {found} (more: resources.num_cpus)")
    elif asked is not None and asked > cores:
        say(f"resources.num_cpus: {asked} asked for, {cores} used: {found}")
    elif asked is not None and asked > roomy:
        say(f"resources.num_cpus: {asked} asked for, there may be memory for {roomy}: {found}")
    return found.slots(asked)


def folder(say: Say) -> Path:
    """Ray's temporary folder, tried. Raises ResourceError where it cannot be used.

    Its name stands in Ray's sockets and command lines: where they cannot hold it, another folder
    serves.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "TMPDIR")
    chosen = Path(os.environ.get(name) or SHORT).absolute()
    text = str(chosen)
    if len(os.fsencode(chosen / SESSION)) > LONGEST or not text.isascii() or UNWRITTEN & set(text):
        say(
            f"{name}={chosen}: Ray's folder must have a short name in ASCII without quotes or "
            f"backslashes: {SHORT} is used"
        )
        chosen = SHORT
    if not os.path.exists(chosen):
        raise ResourceError(
            f"{name}={chosen}: there is no such folder; make it, or name another in RAY_TMPDIR (or "
            "TMPDIR)"
        )
    try:
        _try(chosen / "ray")
    except OSError as error:
        raise ResourceError(
            f"Ray's temporary folder {chosen}/ray cannot be used: {error.strerror or error}; "
            "name another folder in RAY_TMPDIR (or TMPDIR)"
        ) from error
    return chosen / "ray"


def _try(path: Path) -> None:
    """Do what Ray will do in its folder. Raises OSError."""
    path.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="try-", dir=path) as scratch:
        Path(scratch, "log").write_bytes(bytes(ENOUGH))
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(os.path.join(scratch, "s"))


def authenticate() -> None:
    """See to it that Ray asks for a token, unless RAY_AUTH_MODE says otherwise.

    A token that the user has (`ray get-auth-token`) serves. Else one is made for this sweep alone,
    which nobody but its own processes knows: a file would turn authentication on for whatever Ray
    the user starts later. Raises ResourceError.
    """
    mode = os.environ.get(MODE, "").lower()
    if mode not in ("", "token", "disabled"):
        raise ResourceError(f"{MODE}={mode}: must be token or disabled")
    if not mode:
        os.environ.pop(MODE, None)  # Ray then turns it on by itself
    loader = AuthenticationTokenLoader.instance()
    if mode != "disabled" and not _has_token(loader):
        os.environ[TOKEN] = secrets.token_hex(32)
        loader.reset_cache()


def _has_token(loader: AuthenticationTokenLoader) -> bool:
    try:
        return bool(loader.has_token(ignore_auth_mode=True))
    except AuthenticationError as error:
        raise ResourceError(
            f"{TOKEN_PATH}={os.environ.get(TOKEN_PATH)}: there is no token to be read in it"
        ) from error


@contextmanager
def on_loopback() -> Iterator[None]:
    """Ray that starts within the block listens on this machine's own address alone.

    As it does by itself where it does not span machines (macOS); no argument says so.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def curable(error: OSError) -> bool:
    """Whether another try may go well without anybody's help."""
    return error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EINTR, errno.EADDRINUSE)
