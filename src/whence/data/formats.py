"""File formats as rows: ``(number from 0, fields, first byte, bytes)``, streamed but for JSON lists and plain text.

Text is UTF-8, with a byte-order mark or without. Nothing in a cell is stripped: a completion may begin with a space.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from whence.data.cells import delimited, delimiter_of
from whence.data.kinds import kind_of
from whence.errors import DataError

Found = tuple[int, dict[str, Any], int, int]

ROWS_AT_ONCE = 1024
BOM = b"\xef\xbb\xbf"
_UTF8 = "save the file as UTF-8"


def opened(path: Path) -> IO[bytes]:
    """A file's bytes, unpacked."""
    name = path.name.lower()
    if name.endswith(".gz"):
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if name.endswith(".zst"):
        import pyarrow as pa

        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def jsonl(path: Path) -> Iterator[Found]:
    """An object a line; blank lines are counted and skipped."""
    offset = 0
    with opened(path) as file:
        for number, line in enumerate(file):
            if line.strip():
                name = f"{path}, line {number + 1}"
                value = _parsed(
                    line.removeprefix(BOM) if number == 0 else line, name, "put one JSON object on each line"
                )
                yield number, _object(value, name), offset, len(line)
            offset += len(line)


def json_list(path: Path) -> Iterator[Found]:
    """A list of objects, read whole; or, whatever the file is called, an object a line."""
    with opened(path) as file:
        head = file.read(4096).removeprefix(BOM).lstrip()[:1]
    if head != b"[":
        yield from ((number, fields, offset, size) for number, (_, fields, offset, size) in enumerate(jsonl(path)))
        return
    with opened(path) as file:
        items = _parsed(file.read().removeprefix(BOM), str(path), "write a list of objects, or one object a line")
    assert isinstance(items, list)
    for number, value in enumerate(items):
        yield number, _object(value, f"{path}, row {number + 1}"), 0, 0


def _parsed(text: bytes, name: str, hint: str) -> Any:
    try:
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8: byte {error.start} of it", hint=_UTF8) from error
    except json.JSONDecodeError as error:
        shown = text[:60].decode("utf-8", "replace").strip()
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise DataError(f"{name} is not JSON: {error.msg} at {place}: {shown}", hint=hint) from error
    except (RecursionError, ValueError) as error:  # nested too deep, or a number of thousands of digits
        raise DataError(f"{name} cannot be read as JSON: {error}", hint="write flat JSON objects") from error


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{name} is a JSON {type(value).__name__}, not an object", hint='write {"text": "…"}')
    return value


def cells(path: Path) -> Iterator[Found]:
    """CSV or TSV under a header; each row is numbered by the line it begins on."""
    tabs = kind_of(path) == ".tsv"
    csv.field_size_limit(2**31 - 1)  # a document is longer than the 128 KiB that a cell may have
    try:
        with opened(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            rows = delimited(file, "\t" if tabs else delimiter_of(first), quotes=not tabs)
            _, header = next(rows, (1, []))
            if not first or len(set(header)) < len(header):
                twice = next((name for name in header if header.count(name) > 1), None)
                what = f"names the column {twice!r} twice" if twice else "is empty"
                raise DataError(f"{path}: the header {what}", hint="name each column in the first line")
            for line, values in rows:
                if len(values) != len(header):
                    raise DataError(
                        f"{path}, line {line} has {len(values)} cells, the header {len(header)}",
                        hint="quote cells that hold the delimiter, and write empty ones out",
                    )
                yield line - 1, dict(zip(header, values, strict=True)), 0, 0
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8", hint=_UTF8) from error
    except csv.Error as error:
        raise DataError(f"{path} cannot be read: {error}", hint="look for a quote that is not closed") from error


def parquet(path: Path) -> Iterator[Found]:
    """A table's rows, a batch in memory at a time."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            yield from _numbered(file.iter_batches(batch_size=ROWS_AT_ONCE))
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a whole Parquet file: {error}", hint="write it again") from error


def arrow(path: Path) -> Iterator[Found]:
    """An Arrow file or stream, as `datasets` keeps them."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            magic = source.read(6)
            source.seek(0)
            if magic == b"ARROW1":
                file = pa.ipc.open_file(source)
                yield from _numbered(file.get_batch(number) for number in range(file.num_record_batches))
            else:
                yield from _numbered(pa.ipc.open_stream(source))
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a whole Arrow file: {error}", hint="write it again") from error


def _numbered(batches: Any) -> Iterator[Found]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, ROWS_AT_ONCE):
            for fields in batch.slice(start, ROWS_AT_ONCE).to_pylist():
                yield number, fields, 0, 0
                number += 1


def text(path: Path) -> Iterator[Found]:
    """The whole file is one row."""
    with opened(path) as file:
        raw = file.read()
    try:
        whole = raw.removeprefix(BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line} is not UTF-8", hint=_UTF8) from error
    yield 0, {"text": whole}, 0, len(raw)


FORMATS: dict[str, Callable[[Path], Iterator[Found]]] = {
    ".jsonl": jsonl,
    ".json": json_list,
    ".csv": cells,
    ".tsv": cells,
    ".parquet": parquet,
    ".arrow": arrow,
    ".txt": text,
    ".md": text,
}
"""How each of `kinds.KINDS` is read."""
