"""A Dockerfile's steps without Docker: its RUN lines in a fresh virtual environment.

What stands in for the base image is an empty home and a Python without packages. Not shown by it:
the base image itself, its Python, its user.
"""

import os
import shlex
import shutil
import subprocess
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from docker.utils.build import exclude_paths

HOME = "/home/ray"  # of the base image's user


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """Each instruction's name and text, continued lines joined, comments left out."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, text = line.partition(" ")
            yield name, " ".join(text.split())


def context(repository: Path) -> set[str]:
    """The files that a build gets, by Docker's own reading of `.dockerignore`."""
    rules = (repository / ".dockerignore").read_text().splitlines()
    found = exclude_paths(str(repository), [rule for rule in rules if rule and rule[0] != "#"])
    sent_anyway = {"Dockerfile", ".dockerignore"}  # read by the builder, never in an image
    return {path for path in found if (repository / path).is_file()} - sent_anyway


@dataclass
class Replay:
    """The state of a build: where its home lies, its variables, its working folder."""

    repository: Path
    home: Path
    variables: dict[str, str] = field(default_factory=dict)
    folder: Path = Path("/")

    def start(self) -> None:
        """An empty home and a fresh Python."""
        venv.create(self.home / "python", with_pip=True, symlinks=True)
        path = f"{self.home / 'python' / 'bin'}:/usr/bin:/bin"
        index = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        self.variables = {**index, "HOME": str(self.home), "PATH": path}

    def run(self, step: tuple[str, str]) -> None:
        """One instruction; raises CalledProcessError where a RUN line fails."""
        name, text = step[0], step[1].replace(HOME, str(self.home))
        if name in ("ARG", "ENV"):
            given = dict(part.split("=", 1) for part in shlex.split(text))
            self.variables |= {key: value for key, value in given.items() if value}
        elif name == "WORKDIR":
            self.folder = Path(text)
            self.folder.mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            self._copy(text)
        elif name == "RUN":
            shell = ["/bin/sh", "-c", text]
            subprocess.run(shell, env=self.variables, cwd=self.folder, check=True)

    def _copy(self, text: str) -> None:
        *sources, target = [part for part in text.split() if not part.startswith("--")]
        files = context(self.repository)
        for source in sources:
            copied = [file for file in files if file == source or file.startswith(f"{source}/")]
            assert copied, f"COPY {source}: not in the build's context"
            for file in copied:
                place = (
                    self.folder
                    / target
                    / Path(file).relative_to(
                        source if (self.repository / source).is_dir() else Path(source).parent
                    )
                )
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.repository / file, place)

    def python(self, *words: str) -> str:
        """What the built environment's Python prints."""
        command = [str(self.home / "python" / "bin" / "python"), *words]
        found = subprocess.run(
            command,
            env=self.variables,
            cwd=self.home,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return found.stdout.strip()
