"""`python -m ray_selfloop.sweep [CONFIG] [a.b=value ...]`: run a sweep, or what is missing of it.

Exit codes: 0 done; 1 some stages failed; 2 the input cannot be run; 75 something outside the sweep
went wrong, and the same command may go on; 130 interrupted.
"""

import sys
import time
from collections.abc import Sequence

from ray_selfloop import command
from ray_selfloop.errors import DONE, FAILED, INTERRUPTED, TRY_AGAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Event


def main(words: Sequence[str] | None = None) -> int:
    """Run the sweep of a command line; returns the exit code."""
    words = list(sys.argv[1:] if words is None else words)
    if "-h" in words or "--help" in words:
        print(__doc__)
        return DONE
    return command.ended(lambda: _run(words), _command(words))


def _command(words: Sequence[str]) -> list[str]:
    return ["python", "-m", "ray_selfloop.sweep", *words]


def _run(words: Sequence[str]) -> int:
    started = time.monotonic()
    from ray_selfloop.planning import prepare  # here, where Ctrl-C is waited for

    plan = prepare(words)
    from ray_selfloop.conclusion.conclude import conclude
    from ray_selfloop.running import Run

    interrupted = _on_signals()
    with Run(plan) as run:
        run.execute(interrupted)
        if interrupted.is_set():
            published = len(run.progress.published)
            print(
                f"\ninterrupted; {published} of {len(plan.graph)} stages are published. "
                f"Resume with: {command.shown(_command(words))}",
                file=sys.stderr,
            )
            return INTERRUPTED
        conclude(run, time.monotonic() - started)
        if run.progress.failed:
            return FAILED
        return TRY_AGAIN if run.plan.corrupt else DONE


def _on_signals() -> "Event":
    """Set by the first SIGINT or SIGTERM; the second one is a KeyboardInterrupt."""
    import signal
    import threading

    interrupted = threading.Event()

    def handle(number: int, frame: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        print("\nstopping: nothing new is started; once more to stop at once", file=sys.stderr)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return interrupted


if __name__ == "__main__":
    sys.exit(command.program(main))
