"""Reading and writing what stages hand to each other: arrays, pictures and weights.

Arrays are uncompressed .npy files, memory-mapped, so that workers of one machine share them through
the page cache. Pictures stay encoded and are decoded when asked for. Nothing is ever unpickled.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_selfloop.graph import Stage
from ray_selfloop.images.imageset import Ids, ImageSet, ImageSource
from ray_selfloop.images.pictures import EncodedFile, Pictures, View, read_encoded, write_encoded
from ray_selfloop.stages.names import number
from ray_selfloop.store.records import Record, Store

WEIGHTS = "weights.safetensors"
SPLITS = ("train", "held_out", "test", "reserve")
COLUMNS = ("images", "labels", "subgroups", "units")


class Inputs:
    """The records that one stage reads, by input name."""

    def __init__(self, stage: Stage, store: Store) -> None:
        self.store = store
        self.keys = stage.inputs
        self.stage = stage
        self._records: dict[str, Record] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.keys

    def named(self, prefix: str) -> list[str]:
        """Inputs ``prefix.<number>``, by their number."""
        return sorted((name for name in self.keys if name.startswith(f"{prefix}.")), key=number)

    def record(self, name: str) -> Record:
        """The record of one input; asked for once."""
        if name not in self._records:
            self._records[name] = self.store.get(self.keys[name])
        return self._records[name]

    def array(self, name: str, file: str) -> NDArray[Any]:
        """A published array, memory-mapped; writing to it changes a private copy alone."""
        path = self.store.path(self.record(name), _file(file))
        loaded: NDArray[Any] = np.lib.format.open_memmap(path, mode="c")  # refuses objects
        return loaded

    def encoded(self, name: str, column: str) -> EncodedFile:
        """Published encoded things, read one at a time."""
        files = f"{column}_offsets.npy", f"{column}.bin"
        return read_encoded(self.store.paths(self.record(name), files)[0].parent, column)

    def images(self, name: str, column: str = "images") -> ImageSource:
        """Published images: a memory-mapped array, or pictures in the view of their record."""
        record = self.record(name)
        if f"{column}.npy" in record.files:
            return self.array(name, column)
        view = View(**record.summary["pictures"])
        return Pictures(self.encoded(name, column), view, self.decoders)

    @property
    def decoders(self) -> int:
        """Threads that decode pictures; how many changes no result."""
        return int(self.stage.hints.get("decoders", 1))

    def weights(self, name: str, file: str = WEIGHTS) -> dict[str, Any]:
        from safetensors.torch import load_file

        return dict(load_file(self.store.path(self.record(name), file)))

    def split(self, part: str, name: str = "dataset") -> ImageSet:
        """One part of the dataset: train, held_out, test or reserve."""
        columns = {column: self.array(name, f"{part}_{column}") for column in COLUMNS[1:]}
        names = self.record(name).summary
        return ImageSet(
            images=self.images(name, f"{part}_images"),
            **columns,
            class_names=tuple(names["class_names"]),
            subgroup_names=tuple(names["subgroup_names"]),
        )


def save_array(folder: Path, name: str, values: NDArray[Any]) -> None:
    """Write ``<name>.npy``, uncompressed and without pickle."""
    np.save(folder / _file(name), np.ascontiguousarray(values), allow_pickle=False)


def _file(name: str) -> str:
    """The file of an array; its name may hold that of a network of timm, which has a slash."""
    return f"{name.replace('/', '-')}.npy"


def save_images(folder: Path, name: str, source: ImageSource, rows: Ids) -> None:
    """Write rows of ``source``: an array as ``<name>.npy``, pictures as the files that they are."""
    if isinstance(source, Pictures):
        write_encoded(folder, name, (source.encoded[int(row)] for row in rows))
    else:
        save_array(folder, name, source[rows])


def save_weights(folder: Path, weights: Mapping[str, Any], file: str = WEIGHTS) -> None:
    """Write weights; other programs want to be told that they are torch's."""
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(contiguous, folder / file, metadata={"format": "pt"})


def save_json(folder: Path, name: str, value: Any) -> None:
    """Write ``<name>.json``; numbers must be finite or None."""
    (folder / f"{name}.json").write_text(json.dumps(value, indent=1, allow_nan=False))


def save_history(folder: Path, history: Iterable[Mapping[str, float]]) -> None:
    """Write ``history.json``: how a training went, look by look."""
    save_json(folder, "history", [{k: finite(v) for k, v in row.items()} for row in history])


def finite(value: float) -> float | None:
    """A number for JSON: None where it is not finite."""
    return float(value) if np.isfinite(value) else None
