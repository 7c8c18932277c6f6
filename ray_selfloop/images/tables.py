"""Columns from parquet files, none of which can bring code with it.

A column may carry an extension type, and a type of Ray Data's, known wherever Ray Data is loaded,
unpickles each value that is looked at. Nothing that this program writes has one: all are refused.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ray_selfloop.errors import CorruptRecord

NAME = b"ARROW:extension:name"


def read(path: Path, names: Sequence[str] | None = None) -> pa.Table:
    """The table in a file, or those of its columns; raises CorruptRecord for any but plain ones."""
    try:
        table = pq.read_table(path, columns=None if names is None else list(names))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise CorruptRecord(f"{path} is no readable table: {error}") from error
    for field in table.schema:
        if not _plain(field):
            raise CorruptRecord(
                f"{path}: column {field.name!r:.80} is of an extension type, which is never read"
            )
    return table


def _plain(field: pa.Field) -> bool:
    """Numbers, texts, bytes; lists and dictionaries of them.

    A type that is not known in this process is named in the field's metadata alone.
    """
    kind = field.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if isinstance(kind, pa.BaseExtensionType) or NAME in (field.metadata or {}):
        return False
    return all(_plain(kind.field(i)) for i in range(kind.num_fields))
