"""By which program results were made: the package's version, and the git commit of a checkout.

Asked of git once; knows nothing of results. Not in any key: the stages' own versions are.
"""

import subprocess
from functools import cache
from pathlib import Path

from ray_selfloop import __version__

PACKAGE = Path(__file__).parent
LONGEST = 10.0  # s that git may take


@cache
def commit() -> str:
    """The commit of the checkout that this package lies in, `-dirty` where files differ from it.

    Empty where there is no git, or where the folder around an installed package is something else's
    checkout.
    """
    tracked = _git("ls-files", "--error-unmatch", Path(__file__).name)
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") if tracked else ""


def _git(*words: str) -> str:
    """What git says; empty where it is not there or refuses."""
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE), *words], capture_output=True, text=True, timeout=LONGEST
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def sentence() -> str:
    """Version and commit in a line."""
    return f"ray-selfloop {__version__}" + (f" (commit {commit()})" if commit() else "")
