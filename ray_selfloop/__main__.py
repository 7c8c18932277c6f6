"""`python -m ray_selfloop VERB [CONFIG] [a.b=value ...]`, or `ray-selfloop`: all that can be done.

The verbs, and the help of each: `cli.py`. Exit codes are those of `python -m ray_selfloop.sweep`.
"""

import sys
from collections.abc import Sequence

from ray_selfloop import command


def main(words: Sequence[str] | None = None) -> int:
    """Do one verb; returns the exit code."""
    words = [*(sys.argv[1:] if words is None else words)] or ["--help"]
    return command.ended(lambda: _obey(words), [*command.name(), *words])


def _obey(words: Sequence[str]) -> int:
    from ray_selfloop import cli  # here, where Ctrl-C is waited for

    return cli.obey(words)


def script() -> int:
    """The program `ray-selfloop`."""
    return command.program(main)


if __name__ == "__main__":
    sys.exit(command.program(main))
