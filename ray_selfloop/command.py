"""What all commands share: output that may be lost without harm, and how each of them ends.

Knows nothing of what a command does. The exit codes stand in `errors.py`. Little is loaded with it:
until `ended` waits for Ctrl-C, Python itself answers it.
"""

import errno
import io
import os
import sys
from collections.abc import Callable, Sequence

from ray_selfloop.errors import DONE, INTERRUPTED, TRY_AGAIN, SelfLoopError

SCRIPT = "ray-selfloop"
TYPE_CHECKING = False  # as in typing, which would be loaded for it alone
if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def ended(work: Callable[[], int], words: Sequence[str]) -> int:
    """The exit code with which a command ends; what has stopped it is said.

    words: the whole command line, to go on with.
    """
    try:
        return work()
    except SystemExit:  # of a parser that has said what is wanted
        raise
    except BaseException as error:  # Ray's or our own: what is published stays
        return _told(error, shown(words))


def _told(error: BaseException, again: str) -> int:
    """Say what has stopped a command; the exit code with which it ends."""
    if isinstance(error, SelfLoopError):
        goes_on = f"; go on with: {again}" if error.exit_code == TRY_AGAIN else ""
        for line in f"{_masked(str(error))}{goes_on}".split("\n"):
            print(f"error: {line}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, KeyboardInterrupt) or _came:
        print(f"\ninterrupted; go on with: {again}", file=sys.stderr)
        return INTERRUPTED
    import traceback

    traceback.print_exception(error)
    print(f"error: not expected, see above; go on with: {again}", file=sys.stderr)
    return TRY_AGAIN


def name() -> list[str]:
    """How this program was called, by its own name or as a module."""
    own = os.path.basename(sys.argv[0]) == SCRIPT
    return [SCRIPT] if own else ["python", "-m", "ray_selfloop"]


def shown(words: Sequence[str]) -> str:
    """A command line as a shell reads it, without passwords."""
    import shlex

    return _masked(shlex.join(words))


def _masked(text: str) -> str:
    from ray_selfloop.config.passwords import masked

    return masked(text)


def program(main: Callable[[], int]) -> int:
    """Run ``main`` as a program of its own, which no trouble with its output stops.

    A reader that has had enough (`| head`) is no fault; other trouble is an outage where all else
    went well.
    """
    out = _lasting("stdout", "replace")
    _lasting("stderr", "backslashreplace")
    try:
        _note_interrupts()
        code = main()
    except KeyboardInterrupt:  # one more, while the first is being told
        code = INTERRUPTED
    exec("")  # else `python -m` ends by SIGINT where one has passed an exec() or eval() of a text
    sys.stdout.flush()
    if code != DONE or out.trouble is None or out.trouble.errno == errno.EPIPE:
        return code
    print(f"error: the output is lost: {out.trouble.strerror}", file=sys.stderr)
    return TRY_AGAIN


_came: list[int] = []
"""The interrupts of this program; code in C may make another error of one."""


def _note_interrupts() -> None:
    import signal

    def handle(number: int, frame: object) -> None:
        _came.append(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
        signal.signal(signal.SIGINT, handle)


class _Output(io.FileIO):
    """Takes all that is written, whether or not there is still someone who reads it.

    trouble: the last error in writing.
    """

    trouble: OSError | None = None

    def write(self, content: "ReadableBuffer") -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.trouble = error
            return memoryview(content).nbytes


def _lasting(name: str, errors: str) -> _Output:
    """Put a lasting stream in a standard one's place; ``errors``: of characters it cannot show."""
    stream = getattr(sys, name) or _nowhere()  # None where it is closed
    raw = _Output(stream.fileno(), "wb", closefd=False)
    through = stream.write_through  # python -u
    lasting = io.TextIOWrapper(
        raw if through else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=errors,
        line_buffering=stream.line_buffering,
        write_through=through,
    )
    setattr(sys, name, lasting)
    return raw


def _nowhere() -> io.TextIOWrapper:
    nothing = os.open(os.devnull, os.O_WRONLY)
    return io.TextIOWrapper(io.FileIO(nothing, "wb", closefd=False), encoding="utf-8")
