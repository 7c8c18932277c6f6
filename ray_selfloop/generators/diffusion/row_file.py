"""Large .npy files written and read a few rows at a time, and never mapped.

A mapped file's pages count as the memory of every worker that touches them; these do not.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class RowWriter:
    """Fills a float32 .npy file of a known shape, row after row."""

    def __init__(self, path: Path, shape: Sequence[int]) -> None:
        self._file = path.open("wb")
        header = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, rows: Floats) -> None:
        self._file.write(np.ascontiguousarray(rows, "<f4").tobytes())

    def close(self) -> None:
        self._file.close()


class RowFile:
    """A float32 .npy file as ``rows[i]``, ``(...)`` each."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            self._first = file.tell()
        assert dtype == np.dtype("<f4"), path
        assert not fortran, path
        self.path, self.shape = path, shape
        self._size = int(np.prod(shape[1:])) * 4
        self._file: Any = None

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, row: int) -> Floats:
        if self._file is None:
            self._file = self.path.open("rb")
        content = os.pread(self._file.fileno(), self._size, self._first + int(row) * self._size)
        return np.frombuffer(content, "<f4").reshape(self.shape[1:])
