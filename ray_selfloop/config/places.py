"""Where a setting was written: the line of a file, or the word of a command line.

Knows the texts that were read and nothing of what they mean. Lines are looked for only when they
are asked for: of a sweep that is right nobody asks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ray_selfloop.config import networks
from ray_selfloop.config.plain import lines, shown

Key = tuple[str, ...]
"""The parts of a setting's name, from the outermost group on."""


def key_of(dotted: str) -> Key:
    """The parts of a dotted key; the name of an axis is one part, its dots and all."""
    if dotted.startswith("axes."):
        return ("axes", dotted.removeprefix("axes."))
    return tuple(networks.parts(dotted))


@dataclass(frozen=True)
class File:
    """A sweep file as it was read."""

    path: Path
    text: str

    @cached_property
    def lines(self) -> dict[Key, int]:
        """The line of every key."""
        return lines(self.text)

    def depth(self, key: Key) -> int:
        """How many parts of a key this file has."""
        return max((n for n in range(len(key) + 1) if key[:n] in self.lines), default=0)

    def line(self, key: Key) -> int:
        """Of a key, or of the group around it that the file has; 0 without."""
        return self.lines.get(key[: self.depth(key)], 0)

    def at(self, key: Key) -> str:
        """`FILE:LINE` of a key, or of the group around it that the file has."""
        line = self.line(key)
        return f"{shown(self.path)}:{line}" if line else shown(self.path)


@dataclass
class Places:
    """Files, each over those before it, and the words over all of them."""

    files: list[File] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def word(self, key: Key) -> str:
        """The last word that sets a key, a group around it, or a part of it; "" where none does."""
        found = (word for word in reversed(self.words) if _related(key, key_of(_name(word))))
        return next(found, "")

    def rank(self, key: Key) -> tuple[int, int]:
        """Grows in the order in which a user reads: the last file, those below it, the words."""
        word, file = self.word(key), self._file(key)
        if word:
            return len(self.files), self.words.index(word)
        below = len(self.files) - 1 - self.files.index(file) if file else len(self.files) + 1
        return below, file.line(key) if file else 0

    def line(self, key: Key) -> str:
        """Where in a file a key, or the nearest group around it, was written last."""
        file = self._file(key)
        return file.at(key) if file else ""

    def _file(self, key: Key) -> File | None:
        best = max(reversed(self.files), key=lambda file: file.depth(key), default=None)
        return best if best and best.depth(key) else None


def _name(word: str) -> str:
    return word.partition("=")[0]


def _related(key: Sequence[str], other: Sequence[str]) -> bool:
    shared = min(len(key), len(other))
    return bool(shared) and key[:shared] == other[:shared]
