"""One file from which a long fine-tune goes on: tensors and what is said of them, whole or absent.

Decides when a file is believed: it is complete and was written by this very run. Knows nothing of
what the tensors mean.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load, save
from torch import Tensor

FILE = "checkpoint.bin"
SEAL = hashlib.sha256().digest_size  # bytes before the safetensors content: its digest


class State(NamedTuple):
    """tensors: on any device when written, on the CPU when read. facts: what JSON can hold."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def write(folder: Path, run: str, state: State) -> None:
    """Replace the folder's checkpoint by this one; a kill at any time leaves one of the two."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.tensors.items()}
    content = save(tensors, {"run": run, "facts": json.dumps(state.facts)})
    partial = folder / f".{FILE}.{os.getpid()}"
    with partial.open("wb") as file:
        file.write(hashlib.sha256(content).digest() + content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / FILE)


def found(folder: Path, run: str) -> bytes | None:
    """The content of the folder's checkpoint.

    None where there is none, it is not what was written, or another run wrote it.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    whole = path.read_bytes()
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
