"""One file from which a long fine-tune goes on: tensors and what is said of them, whole or absent.

Decides when a file is believed: it is complete and was written by this very run. Knows nothing of
what the tensors mean, and of where the file lies.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from safetensors.torch import load, save
from torch import Tensor

FILE = "checkpoint.bin"
SEAL = hashlib.sha256().digest_size  # bytes before the safetensors content: its digest


class State(NamedTuple):
    """tensors: on any device when written, on the CPU when read. facts: what JSON can hold."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


class Place(Protocol):
    """Where checkpoints are kept."""

    def read(self, name: str) -> bytes | None:
        """What was written last, or None."""

    def write(self, name: str, content: bytes) -> None:
        """Write over what was there; a kill at any time leaves one of the two."""


def write(place: Place, run: str, state: State) -> None:
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.tensors.items()}
    content = save(tensors, {"run": run, "facts": json.dumps(state.facts)})
    place.write(FILE, hashlib.sha256(content).digest() + content)


def found(place: Place, run: str) -> bytes | None:
    """The content of the place's checkpoint.

    None where there is none, it is not what was written, or another run wrote it.
    """
    whole = place.read(FILE)
    if whole is None:
        return None
    content = whole[SEAL:]
    if hashlib.sha256(content).digest() != whole[:SEAL]:  # the run starts anew
        return None
    return content if _metadata(content).get("run") == run else None


def read(content: bytes) -> State:
    """What `write` was given."""
    return State(load(content), json.loads(_metadata(content)["facts"]))


def _metadata(content: bytes) -> dict[str, str]:
    """A safetensors file starts with its header's length, 8 bytes, and the header."""
    length = int.from_bytes(content[:8], "little")
    said: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    return said
