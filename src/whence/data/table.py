"""``documents.parquet``: a line for each document, with every metadata column, written as documents stream by.

Which columns there are, and of what type, is known only at the end. So metadata is first kept as JSON in a file
beside, and spread into columns in a second pass over that file; memory holds a few thousand rows throughout.
A column that is all text, all integers, all numbers or all true/false keeps its type; any other is JSON text.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from whence.artifacts.atomic import refusal, written
from whence.errors import ArtifactError

NAME = "documents.parquet"
ROWS_AT_ONCE = 4096
PREFIX = "metadata."

COLUMNS = pa.schema(
    [
        ("id", pa.int64()),
        ("source", pa.string()),
        ("row", pa.int64()),
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
        ("hash", pa.string()),
        ("tokens", pa.int64()),
        ("scored", pa.int64()),
        ("sequences", pa.int64()),
        ("first_sequence", pa.int64()),
    ]
)
_RAW = COLUMNS.append(pa.field("metadata", pa.string()))
_ARROW = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "flag": pa.bool_(), "json": pa.string()}


class TableWriter:
    """Takes rows one by one; `finish` makes the table. Use as a context manager: what lies beside is removed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._beside = folder / f".{NAME}-rows.{secrets.token_hex(4)}.tmp"
        self._rows: list[dict[str, Any]] = []
        self._kinds: dict[str, str] = {}
        self._writer: parquet.ParquetWriter | None = None

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk was told of already
            if self._writer is not None:
                self._writer.close()
        with suppress(OSError):
            self._beside.unlink(missing_ok=True)

    @property
    def columns(self) -> list[str]:
        """The metadata columns met so far that hold anything."""
        return [_plain(name) for name in self._kinds]

    def add(self, row: dict[str, Any], metadata: dict[str, Any]) -> None:
        """One document: the columns of `COLUMNS`, and whatever else its row held."""
        for name, value in metadata.items():
            kind = _kind(value)
            if kind is not None:
                self._kinds[name] = _join(self._kinds.get(name, kind), kind)
        self._rows.append({**row, "source": _plain(row["source"]), "metadata": _json(metadata)})
        if len(self._rows) >= ROWS_AT_ONCE:
            self._flush()

    def finish(self) -> None:
        """Spread metadata into columns.

        Raises:
            StorageError: If the disk refuses.
        """
        self._flush()
        assert self._writer is not None, "a table without rows"
        self._writer.close()
        self._writer = None
        fields = [
            pa.field(PREFIX + _plain(name), _ARROW[kind], metadata={"json": str(kind == "json")})
            for name, kind in self._kinds.items()
        ]
        schema = pa.schema([*COLUMNS, *fields])
        with written(self.path) as beside, _refusals(self.path):
            with parquet.ParquetFile(self._beside) as raw, parquet.ParquetWriter(beside, schema) as out:
                for batch in raw.iter_batches(batch_size=ROWS_AT_ONCE):
                    out.write_table(self._spread(batch, schema))

    def _spread(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
        loaded = [json.loads(text) for text in batch.column("metadata").to_pylist()]
        columns = [batch.column(name) for name in COLUMNS.names]
        for name, kind in self._kinds.items():
            values = [row.get(name) for row in loaded]
            if kind in ("json", "number"):
                convert = _json if kind == "json" else float
                values = [None if value is None else convert(value) for value in values]
            columns.append(pa.array(values, _ARROW[kind]))
        return pa.Table.from_arrays(columns, schema=schema)

    def _flush(self) -> None:
        with _refusals(self.path):
            if self._writer is None:
                self._writer = parquet.ParquetWriter(self._beside, _RAW)
            if self._rows:
                self._writer.write_table(pa.Table.from_pylist(self._rows, _RAW))
        self._rows.clear()


class Table:
    """``documents.parquet``, read a few thousand rows at a time.

    Raises:
        ArtifactError: If it is missing or cut short.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        try:
            self._file = parquet.ParquetFile(self.path, memory_map=True)
        except (OSError, pa.ArrowException) as error:
            raise ArtifactError(f"{self.path} cannot be read: {error}", hint="make the folder again") from error
        groups = [self._file.metadata.row_group(n).num_rows for n in range(self._file.num_row_groups)]
        self._ends = np.cumsum(groups, dtype=np.int64)
        self._group = lru_cache(maxsize=8)(lambda number: self._file.read_row_group(number))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def row(self, number: int) -> dict[str, Any]:
        """One document's columns, with ``metadata`` as it was found."""
        if not 0 <= number < len(self):
            raise IndexError(f"document {number} of {len(self)}")
        group = int(np.searchsorted(self._ends, number, side="right"))
        table = self._group(group)
        found = table.slice(number - int(self._ends[group] - table.num_rows), 1).to_pylist()[0]
        metadata = {}
        for field in table.schema:
            value = found.get(field.name)
            if field.name.startswith(PREFIX) and value is not None:
                found_json = (field.metadata or {}).get(b"json") == b"True"
                metadata[field.name.removeprefix(PREFIX)] = json.loads(value) if found_json else value
        return {name: found[name] for name in COLUMNS.names} | {"metadata": metadata}

    def arrow(self) -> pa.Table:
        """The whole table."""
        return self._file.read()


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """The disk's refusals, which Arrow gives as errors of several kinds, as ours."""
    try:
        yield
    except OSError as error:
        number = next((code for code in (28, 122, 27) if os.strerror(code) in str(error)), error.errno)
        raise refusal(path, OSError(number, str(error))) from error


def _kind(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int):
        return "integer" if -(2**63) <= value < 2**63 else "json"
    if isinstance(value, float):
        return "number"
    return "text" if isinstance(value, str) and _plain(value) == value else "json"


def _join(a: str, b: str) -> str:
    if a == b:
        return a
    return "number" if {a, b} == {"integer", "number"} else "json"


def _json(value: Any) -> str:
    return json.dumps(value, default=str)  # all ASCII: half a surrogate pair stays the escape it was read from


def _plain(text: str) -> str:
    """The text with what UTF-8 cannot hold (half a surrogate pair, a byte of a file's name) spelled out."""
    return text.encode("utf-8", "backslashreplace").decode()
