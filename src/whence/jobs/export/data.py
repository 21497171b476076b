r"""The user's own data with a score column: the same rows in the same order, every other field as it was.

    .jsonl          a field is put before the closing brace: no other byte changes
    .csv, .tsv      a cell is put at the end of each row: no other byte changes
    .json           a list of objects is read and written again
    .parquet        a column is added, and to the features that `datasets` keeps in the file's schema
    .arrow          a folder that `datasets.load_from_disk` opens (`saved`)

Rows that were not scored (outside a limit, a range or a filter) have null there. Each row that was read is compared
with the hash of what was scored: data that have changed since are refused, naming the row.
"""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from whence.counted import counted
from whence.data.cells import delimiter_of
from whence.data.documents import to_document
from whence.data.formats import BOM, ROWS_AT_ONCE, json_list, jsonl, opened
from whence.data.kinds import kind_of
from whence.data.rows import Row, row_name
from whence.data.shapes import Columns
from whence.errors import DataError
from whence.jobs.export.files import packed

Values = list[float | None]
_RENAME = "--score-column says what to call it"
_ELSEWHERE = "--train says where the data of the run lie now"


@dataclass
class Scored:
    """What every row of the data gets, handed out in the data's order.

    Args:
        names: Of the new columns.
        values: ``[columns documents]``.
        hashes: Of what each document said when it was scored.
        start: The row of the data that is document 0.
        columns: Role → column, as the run read the data.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    hashes: pa.ChunkedArray
    start: int
    columns: Columns
    rows: int = field(default=0, init=False)
    """Handed out so far."""

    def take(self, source: Path, number: int, fields: Mapping[str, Any]) -> Values:
        """The values of the next row.

        Raises:
            DataError: If it is not what was scored, or has a column of that name.
        """
        document = self.rows - self.start
        self.rows += 1
        self.refuse_taken(fields, row_name(str(source), number))
        if not 0 <= document < len(self.hashes):
            return [None] * len(self.names)
        row = Row(str(source), number, dict(fields))
        if to_document(row, self.columns).hash != self.hashes[document].as_py():
            raise DataError(
                f"{row.name} is not what was scored: it has changed since, or other data lie there now",
                hint=_ELSEWHERE,
            )
        return [None if np.isnan(value) else float(value) for value in self.values[:, document]]

    def refuse_taken(self, names: Mapping[str, Any], where: str) -> None:
        """Refuse names that the data have already.

        Raises:
            DataError: Naming the first.
        """
        taken = next((name for name in self.names if name in names), None)
        if taken is not None:
            raise DataError(f'{where} has a column "{taken}" already', hint=_RENAME)

    def finish(self) -> None:
        """Every document has been handed out.

        Raises:
            DataError: If the data end before.
        """
        missing = self.start + len(self.hashes) - self.rows
        if missing > 0:
            raise DataError(f"the data have {counted(missing, 'row')} fewer than were scored", hint=_ELSEWHERE)


def write_file(source: Path, out: Path, beside: Path, scored: Scored) -> None:
    """One file with the new columns.

    Args:
        out: What it will be called: the end says how it is packed.
        beside: Where it is written.

    Raises:
        DataError: As `Scored.take`; or if the file holds text and no rows.
    """
    kind = kind_of(source) or ""
    if kind not in _BY_KIND:
        raise DataError(
            f"{source} has no rows to which a score could be added", hint="--out writes the scores as a table"
        )
    if kind != kind_of(out):
        raise DataError(f"{out} does not end as {source} does", hint=f"end it in {kind}: the kind of file is kept")
    try:
        _BY_KIND[kind](source, out, beside, scored)
    except (EOFError, zlib.error, csv.Error, UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise DataError(f"{source} cannot be read: {error}", hint=_ELSEWHERE) from error


def _jsonl(source: Path, out: Path, beside: Path, scored: Scored) -> None:
    rows = jsonl(source)
    with opened(source) as lines, packed(out, beside) as file:
        for line in lines:
            if not line.strip():
                file.write(line)
                continue
            number, fields, _, _ = next(rows)
            added = dict(zip(scored.names, scored.take(source, number, fields), strict=True))
            head, brace, tail = line.rpartition(b"}")
            more = json.dumps(added, ensure_ascii=False)[1:-1].encode()
            body = head.rstrip()
            file.write(body + (b", " if fields else b"") + more + head[len(body) :] + brace + tail)


def _json(source: Path, out: Path, beside: Path, scored: Scored) -> None:
    with opened(source) as file:
        listed = file.read(4096).removeprefix(BOM).lstrip()[:1] == b"["
    if not listed:
        _jsonl(source, out, beside, scored)
        return
    rows = []
    for number, fields, _, _ in json_list(source):
        rows.append(fields | dict(zip(scored.names, scored.take(source, number, fields), strict=True)))
    with packed(out, beside) as file:
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        file.write(f"[\n{lines}\n]\n".encode())


def _cells(source: Path, out: Path, beside: Path, scored: Scored) -> None:
    """Records are read with the lines that they take up, and given back whole with cells added at the end."""
    with opened(source) as raw, packed(out, beside) as file:
        file.write(BOM if raw.peek(3)[:3] == BOM else b"")  # type: ignore[attr-defined]
        text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
        records = _records(text, tabs=kind_of(source) == ".tsv")
        _, header, whole, delimiter = next(records)
        scored.refuse_taken(dict.fromkeys(header), str(source))
        file.write(_longer(whole, delimiter, _cell_names(scored.names, delimiter)))
        for line, cells, whole, _ in records:
            if not cells:  # a blank line, kept
                file.write(whole.encode())
                continue
            if len(cells) != len(header):
                raise csv.Error(f"line {line + 1} has {len(cells)} cells, the header {len(header)}")
            values = scored.take(source, line, dict(zip(header, cells, strict=True)))
            file.write(_longer(whole, delimiter, delimiter.join("" if v is None else repr(v) for v in values)))


def _records(lines: io.TextIOWrapper, *, tabs: bool) -> Iterator[tuple[int, list[str], str, str]]:
    """Line from 0, cells, the very text of them, and the delimiter; of blank lines too."""
    taken: list[str] = []

    def kept() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    csv.field_size_limit(2**31 - 1)
    first = lines.readline()
    delimiter = "\t" if tabs else delimiter_of(first)
    chained = _chained(first, kept(), taken)
    how: dict[str, Any] = {"quoting": csv.QUOTE_NONE} if tabs else {"strict": True}
    begins = 0
    reader = csv.reader(chained, delimiter=delimiter, **how)
    for cells in reader:
        whole = "".join(taken)
        taken.clear()
        yield begins, cells, whole, delimiter
        begins = reader.line_num


def _chained(first: str, rest: Iterator[str], taken: list[str]) -> Iterator[str]:
    taken.append(first)
    yield first
    yield from rest


def _longer(record: str, delimiter: str, more: str) -> bytes:
    """A record with cells added before the end of its line."""
    body = record.rstrip("\r\n")
    return (body + delimiter + more + record[len(body) :]).encode()


def _cell_names(names: tuple[str, ...], delimiter: str) -> str:
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter, lineterminator="").writerow(names)
    return line.getvalue()


def _parquet(source: Path, out: Path, beside: Path, scored: Scored) -> None:
    with parquet.ParquetFile(source) as file:
        scored.refuse_taken(dict.fromkeys(file.schema_arrow.names), str(source))
        schema = with_features(file.schema_arrow, scored.names)
        with parquet.ParquetWriter(beside, schema) as writer:
            for batch in with_scores(source, file.iter_batches(batch_size=ROWS_AT_ONCE), schema, scored):
                writer.write_batch(batch)


def with_scores(source: Path, batches: Any, schema: pa.Schema, scored: Scored) -> Iterator[pa.RecordBatch]:
    """Record batches with the new columns at the end."""
    number = 0
    for batch in batches:
        taken = [scored.take(source, number + k, fields) for k, fields in enumerate(batch.to_pylist())]
        number += batch.num_rows
        new = [pa.array([values[k] for values in taken], pa.float64()) for k in range(len(scored.names))]
        yield pa.record_batch([*batch.columns, *new], schema=schema)


def with_features(schema: pa.Schema, names: tuple[str, ...]) -> pa.Schema:
    """The schema with columns added, and with them the features that `datasets` keeps in it."""
    metadata = dict(schema.metadata or {})
    if b"huggingface" in metadata:
        page = json.loads(metadata[b"huggingface"])
        features = page.get("info", {}).get("features")
        if isinstance(features, dict):
            features |= dict.fromkeys(names, FEATURE)
            metadata[b"huggingface"] = json.dumps(page).encode()
    return pa.schema([*schema, *(pa.field(name, pa.float64()) for name in names)], metadata=metadata)


FEATURE = {"dtype": "float64", "_type": "Value"}
"""A column of numbers, as `datasets` describes it."""

_BY_KIND: dict[str, Callable[[Path, Path, Path, Scored], None]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _cells,
    ".tsv": _cells,
    ".parquet": _parquet,
}
