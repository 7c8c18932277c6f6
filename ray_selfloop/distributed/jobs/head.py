"""What is asked of a cluster's head over HTTP, and what its answers mean.

Ray's own client waits for an answer without end, and a refused token is a long text of another
program; here every question has a time limit, and every failure is one message. Knows nothing of
sweeps, and never asks twice: who asks decides that.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from ray_selfloop.distributed.jobs.job import ADDRESS
from ray_selfloop.errors import HeadSilent, ResourceError

CONNECTED, ANSWERED = 5.0, 30.0  # s, at most, until the head takes a connection, and answers
TALKATIVE = (
    "ray._private.runtime_env.packaging",
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
)
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
NO_AGENT = "No available agent"  # to run the job
WITH_AN_AGENT = (
    " If this lasts, another Ray of the head's machine has the agent's port: start the head with "
    "--dashboard-agent-listen-port=PORT"
)


class Unreachable(HeadSilent):
    """The head does not answer, or not now; it may later."""


@dataclass(frozen=True)
class State:
    """How a job stands: Ray's word for it, its command's exit code, and what Ray says of it."""

    status: str
    exit_code: int | None
    message: str

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in ENDED


class _Client(JobSubmissionClient):
    def _do_request(self, method: str, endpoint: str, **arguments: Any) -> Any:
        limits = (CONNECTED, ANSWERED)
        try:
            answer = super()._do_request(method, endpoint, timeout=limits, **arguments)
        except AuthenticationError as error:
            raise ResourceError(token_message(self._address, str(error))) from error
        except OSError as error:  # all of requests' own
            raise Unreachable(f"{self._address}: no answer ({_reason(error)})") from error
        if answer.status_code >= 500:
            raise Unreachable(f"{self._address}: {_last_line(answer.text)}")
        return answer


class Head:
    """The jobs of one cluster.

    Raises ResourceError where the head refuses, and of it Unreachable where it may answer later.
    """

    def __init__(self, address: str) -> None:
        os.environ[ADDRESS] = address  # else Ray's client would go where RAY_ADDRESS points
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.ERROR)
        self.address = address
        try:
            self._client = _Client(address)
        except AuthenticationError as error:
            raise ResourceError(token_message(address, str(error))) from error
        except (RuntimeError, OSError, LookupError, TypeError) as error:
            raise ResourceError(
                f"{address} answers, but is not the dashboard of a Ray head ({_reason(error)})"
            ) from error

    def jobs(self) -> dict[str, State]:
        """Every submitted job that the head knows, by name."""
        return {
            info.submission_id: State(info.status.value, info.driver_exit_code, info.message or "")
            for info in self._client.list_jobs()
            if info.submission_id
        }

    def send(
        self, name: str, entrypoint: str, folder: Path, environment: Mapping[str, str]
    ) -> bool:
        """Submit ``folder`` and a command to run in it; False where the name is taken already."""
        try:
            self._client.submit_job(
                entrypoint=entrypoint,
                submission_id=name,
                runtime_env={"working_dir": str(folder), "env_vars": dict(environment)},
            )
        except Unreachable:
            if name in self.jobs():
                return False
            raise
        except RuntimeError as error:
            raise ResourceError(f"{self.address} refuses the job: {_reason(error)}") from error
        return True

    def tail(self, name: str, quiet: float, write: Callable[[str], None]) -> bool:
        """Write a job's log from its start as it grows; False where the connection was lost.

        quiet: seconds without a word after which a connection counts as lost, since it may be
        without either side knowing.
        """
        return asyncio.run(self._tail(name, quiet, write))

    async def _tail(self, name: str, quiet: float, write: Callable[[str], None]) -> bool:
        now = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(quiet) as limit:
                async for text in self._client.tail_job_logs(name):
                    write(text)
                    limit.reschedule(now() + quiet)
        except (aiohttp.ClientError, RuntimeError, TimeoutError):
            return False
        return True


def token_message(address: str, said: str) -> str:
    """What was tried, and what to do: Ray's own answer does not say where it looked."""
    mode, place = os.environ.get("RAY_AUTH_MODE"), _token_place()
    if (mode or "").lower() != "token":
        found = (
            f"RAY_AUTH_MODE is {mode or 'not set'}, so none was sent; export RAY_AUTH_MODE=token"
        )
    elif "Invalid" in said:
        found = f"it does not know the one in {place}"
    else:
        found = f"there is none in {place}"
    return (
        f"{address} asks for the cluster's token: {found}. The token is what "
        "`ray get-auth-token` prints on the head; here it belongs in ~/.ray/auth_token, or in the "
        "file that RAY_AUTH_TOKEN_PATH names"
    )


def _token_place() -> str:
    """Where Ray looks for the token, in its order."""
    if "RAY_AUTH_TOKEN" in os.environ:
        return "RAY_AUTH_TOKEN"
    return os.environ.get("RAY_AUTH_TOKEN_PATH") or str(Path("~/.ray/auth_token").expanduser())


def _reason(error: BaseException) -> str:
    """What happened at the bottom: the layers above it name their own objects."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return " ".join(str(error).split())[:200] or type(error).__name__


def _last_line(text: str) -> str:
    """Of a traceback that a head answers with, the line that says what happened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = lines[-1][:300] if lines else "it cannot answer now"
    return said + WITH_AN_AGENT if said.startswith(NO_AGENT) else said
