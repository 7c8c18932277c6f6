"""Row files are ordinary .npy files, written and read a few rows at a time."""

from pathlib import Path

import numpy as np

from ray_selfloop.generators.diffusion.row_file import RowFile, RowWriter


def test_numpy_reads_what_was_written_in_portions(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((7, 4, 2, 3)).astype(np.float32)
    writer = RowWriter(tmp_path / "rows.npy", values.shape)
    for first in (0, 3, 6):
        writer.append(values[first : first + 3])
    writer.close()
    assert np.array_equal(np.load(tmp_path / "rows.npy", allow_pickle=False), values)


def test_rows_of_numpys_own_files_are_read_in_any_order(tmp_path: Path) -> None:
    values = np.arange(30, dtype=np.float32).reshape(5, 3, 2)
    np.save(tmp_path / "rows.npy", values)
    rows = RowFile(tmp_path / "rows.npy")
    assert (len(rows), rows.shape) == (5, (5, 3, 2))
    for row in (4, 0, 2, 2):
        assert np.array_equal(rows[row], values[row])
