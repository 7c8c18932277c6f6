"""A fault on demand, in every Python process that has this folder on its path.

A process that begins an attempt at a stage named in the file `$FAULTS/deadly` kills itself, and
says so in `$FAULTS/deaths` before.
"""

import os
import signal
import sys
from pathlib import Path

FOLDER = Path(os.environ["FAULTS"])


def _die(event: str, arguments: tuple[object, ...]) -> None:
    if event != "os.mkdir":
        return
    made, deadly = str(arguments[0]), FOLDER / "deadly"
    if "/stages/" in made and deadly.exists():
        for key in deadly.read_text().split():
            if f"/{key}/" in made:
                with (FOLDER / "deaths").open("a") as file:
                    file.write(f"{key}\n")
                os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(_die)
