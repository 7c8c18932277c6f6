"""A submitted sweep from its first attempt to its end: what is a reason to submit it again.

Ray never runs a job twice. A job whose process or machine died is submitted again under the next
number; what the sweep has published is found in its storage. A job that ended by itself, with
success, with failed stages or because of its input, is not: it would end so again.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from ray_selfloop.distributed.jobs.head import Head, State, Unreachable
from ray_selfloop.distributed.jobs.job import ENVIRONMENT, Job, Options, pack
from ray_selfloop.errors import BAD_INPUT, DONE, FAILED, INTERRUPTED, TRY_AGAIN, ResourceError

Answer = TypeVar("Answer")
SIGNALLED = 128  # a shell's exit code for signal n is 128 + n


@dataclass(frozen=True)
class Pace:
    """Seconds: of the first wait before a job is submitted again (each next one is twice as long,
    up to ``longest``, which is also that after an exit code of 75); of one word from a log; of
    patience with a head that does not answer, and between two questions to it.
    """

    backoff: float
    longest: float
    quiet: float
    patience: float
    again: float


PACE = Pace(backoff=5, longest=300, quiet=120, patience=600, again=3)


class Printed:
    """Writes a log that is sent from its start at every connection, each character once."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write, self._count, self._position = write, 0, 0
        self._open_line = False

    def begin(self) -> None:
        """A new connection: what comes next is the log's start."""
        self._position = 0

    def __call__(self, text: str) -> None:
        fresh = text[max(0, self._count - self._position) :]
        self._position += len(text)
        self._count = max(self._count, self._position)
        if fresh:
            self._write(fresh)
            self._open_line = not fresh.endswith("\n")

    def finish(self) -> None:
        """End the last line where the log did not: a process may die within a line."""
        if self._open_line:
            self._write("\n")
            self._open_line = False


def outcome(state: State | None) -> int | None:
    """The exit code with which following ends; None where the job is to be submitted again.

    state: how the job ended; None where a head that was started anew knows nothing of it.
    """
    if state is None:
        return None
    if state.status == "SUCCEEDED":
        return DONE
    if state.status == "STOPPED":
        return INTERRUPTED
    code = _as_a_shell_says(state.exit_code)
    if code == INTERRUPTED:
        return INTERRUPTED
    if code in (None, TRY_AGAIN) or code > SIGNALLED:
        return None
    return code if code in (FAILED, BAD_INPUT) else FAILED


def _as_a_shell_says(code: int | None) -> int | None:
    """128 + n for signal n; Ray says -n where the shell between had given way to the command."""
    return SIGNALLED - code if code is not None and code < 0 else code


class Submission:
    """One sweep on one cluster.

    folder: what ``pack`` filled, once: every attempt runs the same code, whatever is edited while
    they run. again: the command line that follows the sweep, for messages.
    number: the attempt that runs; None while there is none.
    """

    def __init__(self, job: Job, head: Head, folder: Path, pace: Pace, again: str) -> None:
        self.job, self.head, self.folder, self.pace, self.again = job, head, folder, pace, again
        self.number: int | None = None

    @property
    def name(self) -> str:
        assert self.number is not None, "begin() comes first"
        return self.job.attempt(self.number)

    @property
    def ways_on(self) -> str:
        """How a user goes on from here."""
        if self.number is None:
            return f"no job runs; submit it again with: {self.again}"
        stop = f"ray job stop --address {self.head.address} {self.name}"
        return f"follow it with: {self.again}; stop it with: {stop}"

    def begin(self, follow: bool) -> None:
        """Submit the next attempt, or find the one that runs; raises ResourceError for that one.

        follow: one that runs is not refused.
        """
        jobs = self.head.jobs()
        numbers = self.job.attempts(jobs)
        running = [number for number in numbers if not jobs[self.job.attempt(number)].ended]
        fresh = not running and self._send(max(numbers, default=0) + 1)
        if running:
            self.number = running[-1]
        if not fresh and not follow:
            raise ResourceError(
                f"sweep {self.job.sweep} runs already, as job {self.name}; {self.ways_on}"
            )
        self._announce()

    def run(self, retries: int) -> int:
        """Follow, and submit again what died; returns the exit code of the command."""
        for retry in range(retries + 1):
            state = self._follow()
            code = outcome(state)
            if code is not None:
                print(f"job {self.name}: {_ending(state)}", flush=True)
                return code
            self._say(f"job {self.name} died: {_ending(state)}")
            if retry < retries:
                wait = self._wait(state, retry)
                self._say(f"submitting it again in {wait:g} s ({retry + 1} of {retries})")
                self._next(wait)
        self._say(f"error: died {retries + 1} times; submit it again with: {self.again}")
        return TRY_AGAIN

    def _wait(self, state: State | None, retry: int) -> float:
        """Seconds until the next attempt: what is outside may take long to come right."""
        if state is not None and state.exit_code == TRY_AGAIN:
            return self.pace.longest
        return min(self.pace.backoff * 2**retry, self.pace.longest)

    def _next(self, wait: float) -> None:
        """The next attempt after a wait; where another client was faster, its job is followed."""
        assert self.number is not None, "begin() comes first"
        number, self.number = self.number + 1, None
        time.sleep(wait)
        self._send(number)
        self._announce()

    def _send(self, number: int) -> bool:
        """Submit an attempt, as soon as the head can; False where its name was taken already."""
        what = (self.job.attempt(number), self.job.entrypoint, self.folder, ENVIRONMENT)
        sent = self._patiently(lambda: self.head.send(*what))
        self.number = number
        return sent

    def _follow(self) -> State | None:
        """Print an attempt's log to its end; returns how it ended, None where it is lost."""
        printed, over = Printed(partial(print, end="", flush=True)), False
        while True:
            printed.begin()
            whole = self.head.tail(self.name, self.pace.quiet, printed)
            state = self._patiently(lambda: self.head.jobs().get(self.name))
            if state is None or (state.ended and (whole or over)):
                printed.finish()
                return state
            over = state.ended  # once more, for the log's last lines
            if not over:
                time.sleep(self.pace.again)

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """Ask until the head answers; raises Unreachable where patience ends first."""
        until: float | None = None
        while True:
            try:
                return ask()
            except Unreachable as error:
                if until is None:
                    until = time.monotonic() + self.pace.patience
                    self._say(f"{error}; trying again for up to {self.pace.patience:g} s")
                if time.monotonic() >= until:
                    raise
            time.sleep(self.pace.again)

    def _announce(self) -> None:
        print(f"job {self.name} at {self.head.address}", flush=True)

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def submit(job: Job, options: Options, pace: Pace, again: str) -> int:
    """Submit a sweep and follow it; Ctrl-C ends following alone. Returns the exit code.

    Raises ResourceError where no job was submitted.
    """
    head = Head(options.address)
    with tempfile.TemporaryDirectory(prefix="selfloop-job-") as folder:
        pack(job, Path(folder))
        return _submit(Submission(job, head, Path(folder), pace, again), options)


def _submit(submission: Submission, options: Options) -> int:
    try:
        submission.begin(options.follow)
        if not options.wait:
            print(submission.ways_on)
            return DONE
        return submission.run(options.retries)
    except KeyboardInterrupt:
        goes_on = f"job {submission.name} goes on; " if submission.number else ""
        print(f"\n{goes_on}{submission.ways_on}", file=sys.stderr)
        return INTERRUPTED
    except Unreachable as error:
        print(f"error: {error}; go on with: {submission.again}", file=sys.stderr)
        return error.exit_code


def _ending(state: State | None) -> str:
    if state is None:
        return "the head was started anew and does not know it"
    code = _as_a_shell_says(state.exit_code)
    if code is None:
        return f"{state.status} ({' '.join(state.message.split())[:200]})"
    if code > SIGNALLED:
        return f"{state.status}, killed by signal {code - SIGNALLED}"
    return f"{state.status}, exit code {code}"
