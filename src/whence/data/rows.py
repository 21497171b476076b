"""Rows of files, one at a time, each knowing where it lay. Every complaint names the file and the line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

from whence.data.spec import TEXTS, Spec, kind_of
from whence.errors import DataError

ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was found."""

    source: str
    """The file, as the user would write its path."""
    number: int
    """From 0: the line of a JSONL file, blank ones counted, or the row of a table."""
    fields: dict[str, Any] = field(repr=False)
    offset: int = 0
    """First byte in the (uncompressed) file; 0 where rows have no bytes of their own."""
    size: int = 0
    """Bytes, likewise."""

    @property
    def name(self) -> str:
        """Where it is, as a person counts: ``train.jsonl, line 12``."""
        return row_name(self.source, self.number)


def row_name(source: str, number: int) -> str:
    """Where a row is, as a person counts. A number below 0 stands for a source without rows.

    Example:
        >>> row_name("train.jsonl", 11), row_name("train.parquet", 11), row_name("tales/grimm.txt", 0)
        ('train.jsonl, line 12', 'train.parquet, row 12', 'tales/grimm.txt')
    """
    kind = kind_of(Path(source))
    return (
        source if kind in TEXTS or number < 0 else f"{source}, {'row' if kind == '.parquet' else 'line'} {number + 1}"
    )


def read_rows(spec: Spec) -> Iterator[Row]:
    """The rows of a spec, in order.

    Raises:
        DataError: If a file cannot be read or a line is not a JSON object, naming file and line.
    """
    return islice((row for path in spec.files for row in _rows_of(path)), spec.start, spec.stop)


def _rows_of(path: Path) -> Iterator[Row]:
    kind = kind_of(path)
    try:
        if kind == ".jsonl":
            yield from _jsonl(path)
        elif kind == ".parquet":
            yield from _parquet(path)
        else:
            yield _text(path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="check the file and its permissions") from error


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _jsonl(path: Path) -> Iterator[Row]:
    offset = 0
    with _open(path) as file:
        for number, line in enumerate(file):
            if line.strip():
                fields = _object(line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line, str(path), number)
                yield Row(str(path), number, fields, offset, len(line))
            offset += len(line)


def _object(line: bytes, source: str, number: int) -> dict[str, Any]:
    name = row_name(source, number)
    try:
        value = json.loads(line)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not UTF-8: byte {error.start} of the line", hint="save the file as UTF-8"
        ) from error
    except json.JSONDecodeError as error:
        shown = line[:60].decode("utf-8", "replace").strip()
        raise DataError(
            f"{name} is not JSON: {error.msg} at column {error.colno}: {shown}", hint="put one JSON object on each line"
        ) from error
    except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
        raise DataError(
            f"{name} cannot be read as JSON: {error}", hint="put one flat JSON object on each line"
        ) from error
    if not isinstance(value, dict):
        raise DataError(f"{name} is a JSON {type(value).__name__}, not an object", hint='write {"text": "…"}')
    return value


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
                for fields in batch.to_pylist():
                    yield Row(str(path), number, fields)
                    number += 1
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a whole Parquet file: {error}", hint="write it again") from error


def _text(path: Path) -> Row:
    with _open(path) as file:
        raw = file.read()
    try:
        text = raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line} is not UTF-8", hint="save the file as UTF-8") from error
    return Row(str(path), 0, {"text": text}, 0, len(raw))
