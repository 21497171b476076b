"""Tables as files. The kind is told by the end of the name; text is packed where that is ``.gz``.

In CSV, a text that a spreadsheet would take for a formula gets an apostrophe before it (OWASP's rule): training text
is untrusted, and a cell that begins with ``=`` would be run by whoever opens the file. Numbers are left as they are.
JSON lines and Parquet hold every text as it is.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from whence.artifacts.atomic import written
from whence.data.table import PREFIX
from whence.errors import InvalidSetting, StorageError

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a formula may begin with; in some languages a spreadsheet takes full-width signs for it too."""

Batches = Iterable[pa.RecordBatch]


def write_table(path: Path, schema: pa.Schema, batches: Batches) -> int:
    """Write record batches to a file, which then is whole, or absent.

    Returns:
        How many rows there were.

    Raises:
        InvalidSetting: If the name ends in nothing that is written.
        StorageError: If the disk refuses.
    """
    write = _writer(path)
    rows = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        for batch in batches:
            rows += batch.num_rows
            yield batch

    with written(path) as beside:
        write(path, beside, schema, counted())
    return rows


def check_name(path: Path) -> None:
    """Refuse a name whose end says no kind of file.

    Raises:
        InvalidSetting: Naming the kinds.
    """
    _writer(path)


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Refuse to write over what is there.

    Raises:
        StorageError: If something is there, and leave to replace it was not given.
    """
    if path.exists() and not overwrite:
        raise StorageError(f"{path} is there already, and was left as it is", hint="add --overwrite to replace it")


def defused(text: str) -> str:
    """A text that no spreadsheet runs.

    Example:
        >>> defused("=HYPERLINK(1)"), defused("plain"), defused("")
        ("'=HYPERLINK(1)", 'plain', '')
    """
    return f"'{text}" if text.startswith(FORMULA) else text


@contextmanager
def text_file(path: Path, beside: Path) -> Iterator[io.TextIOWrapper]:
    """A UTF-8 file to write lines to, packed as the end of ``path`` says."""
    with packed(path, beside) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as text:
        yield text


@contextmanager
def packed(path: Path, beside: Path) -> Iterator[Any]:
    """Bytes to be written, packed as the end of ``path`` says: ``.gz``, ``.zst``, or not at all."""
    ending = path.name.lower().rpartition(".")[2]
    how = {"gz": "gzip", "zst": "zstd"}.get(ending)
    if how is None:
        with beside.open("wb") as plain:
            yield plain
        return
    with pa.CompressedOutputStream(str(beside), how) as stream, io.BufferedWriter(_Raw(stream)) as buffered:
        yield buffered


class _Raw(io.RawIOBase):
    """An Arrow stream as Python's text layer wants it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(data)
        return len(data)


def _writer(path: Path) -> Callable[[Path, Path, pa.Schema, Batches], None]:
    name = path.name.lower()
    kind = next((kind for kind in _WRITERS if name.removesuffix(".gz").endswith(kind)), None)
    if kind is None or (kind == ".parquet" and name.endswith(".gz")):
        raise InvalidSetting(
            f"{path} says no kind of file by its end",
            hint=f"end it in {', '.join(_WRITERS)}, the latter two with .gz where they are to be packed",
        )
    return _WRITERS[kind]


def _parquet(path: Path, beside: Path, schema: pa.Schema, batches: Batches) -> None:
    with parquet.ParquetWriter(beside, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


def _csv(path: Path, beside: Path, schema: pa.Schema, batches: Batches) -> None:
    texts = [pa.types.is_string(field.type) for field in schema]
    with text_file(path, beside) as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow([defused(name) for name in schema.names])
        for batch in batches:
            columns = [
                [defused(value or "") for value in column.to_pylist()] if text else column.to_pylist()
                for column, text in zip(batch.columns, texts, strict=True)
            ]
            out.writerows(zip(*columns, strict=True))


def _jsonl(path: Path, beside: Path, schema: pa.Schema, batches: Batches) -> None:
    """An object a row; metadata nest, as they did in the data."""
    nested = {field.name: (field.metadata or {}).get(b"json") == b"True" for field in schema}
    with text_file(path, beside) as file:
        for batch in batches:
            for row in batch.to_pylist():
                own = {name: value for name, value in row.items() if not name.startswith(PREFIX)}
                metadata = {
                    name.removeprefix(PREFIX): json.loads(value) if nested[name] else value
                    for name, value in row.items()
                    if name.startswith(PREFIX) and value is not None
                }
                file.write(json.dumps(own | {"metadata": metadata}, ensure_ascii=False, allow_nan=False) + "\n")


_WRITERS: dict[str, Callable[[Path, Path, pa.Schema, Batches], None]] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".jsonl": _jsonl,
}
