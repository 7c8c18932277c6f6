"""`python -m ray_selfloop.sweep [CONFIG] [a.b=value ...]`: run a sweep, or what is missing of it.

Exit codes: 0 done; 1 some stages failed; 2 the input cannot be run; 75 something outside the sweep
went wrong, and the same command may go on; 130 interrupted.
"""

import sys
from collections.abc import Sequence

from ray_selfloop import command
from ray_selfloop.errors import DONE, ConfigError


def main(words: Sequence[str] | None = None) -> int:
    """Run the sweep of a command line; returns the exit code."""
    words = list(sys.argv[1:] if words is None else words)
    if "-h" in words or "--help" in words:
        print(__doc__)
        return DONE
    again = ["python", "-m", "ray_selfloop.sweep", *words]
    return command.ended(lambda: _run(words, again), again)


def _run(words: Sequence[str], again: Sequence[str]) -> int:
    from ray_selfloop import cli  # here, where Ctrl-C is waited for

    if "--version" in words:
        cli.say_version()
        return DONE
    if words and words[0] in cli.VERBS:
        raise ConfigError(
            f"{words[0]!r} is a verb of python -m ray_selfloop: "
            f"{command.shown(['python', '-m', 'ray_selfloop', *words])}"
        )
    from ray_selfloop import verbs

    return verbs.run(words, again)


if __name__ == "__main__":
    sys.exit(command.program(main))
