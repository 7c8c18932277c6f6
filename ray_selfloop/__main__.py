"""`python -m ray_selfloop VERB [CONFIG] [a.b=value ...]`: look at a sweep without running it.

validate     check the settings alone; or a cluster file (cluster.yaml), before it costs money
plan         what the sweep would run, what is published already, what the rest would take, what is
             declared, and the smallest effects that more or fewer chains and seeds can detect
status       stages published and missing
results      the final tables, from what is published; results.parquet and report.html are theirs
report       write results.parquet and report.html again
sync-mlflow  write to MLflow what it lacks
submit       run it as a job of a cluster and follow it; `submit --help` lists its flags

Exit codes are those of `python -m ray_selfloop.sweep`.
"""

import sys
from collections.abc import Sequence

from ray_selfloop import command
from ray_selfloop.errors import DONE, ConfigError

HELP = frozenset({"-h", "--help"})


def main(words: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    verb, *rest = [*(sys.argv[1:] if words is None else words)] or ["--help"]
    if verb in HELP:
        print(__doc__)
        return DONE
    again = ["python", "-m", "ray_selfloop", verb, *rest]
    return command.ended(lambda: _run(verb, rest), again)


def _run(verb: str, words: Sequence[str]) -> int:
    import difflib  # here, where Ctrl-C is waited for

    from ray_selfloop.verbs import VERBS

    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, 1)
        hint = f"did you mean {close[0]}?" if close else f"verbs: {', '.join(VERBS)}"
        raise ConfigError(f"{verb!r} is not a verb; {hint}")
    if verb != "submit" and not HELP.isdisjoint(words):
        print(__doc__)
        return DONE
    return VERBS[verb](words) or DONE


if __name__ == "__main__":
    sys.exit(command.program(main))
