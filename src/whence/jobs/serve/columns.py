"""Metadata as something to choose by: what each column of the documents holds, and which documents are meant.

    choice    few values: one of them is chosen        number    many numbers: from, to        text    contains

Columns are read a few thousand rows at a time; what is kept is a handful of values a column, and of a choice one
bit a document.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from whence.data.rows import file_name
from whence.data.store import TokenStore
from whence.data.table import NAME, PREFIX, ROWS_AT_ONCE
from whence.errors import InvalidSetting
from whence.jobs.serve.search import fold

MOST_COLUMNS = 24
MOST_CHOICES = 40
"""Different values up to which a column offers them all."""
NOTHING = "–"
"""Said of a document without a value."""
Kind = Literal["choice", "number", "text"]


@dataclass(frozen=True)
class Column:
    """One column that documents can be chosen by."""

    key: str
    """What it is called in an address: ``c3``."""
    name: str
    """What the data call it."""
    stored: str
    """Its name in ``documents.parquet``."""
    as_json: bool
    kind: Kind
    choices: tuple[tuple[str, int], ...] = ()
    """Values and how many documents have each, the most frequent first."""

    def said(self, value: Any) -> str:
        """A stored value as text."""
        if self.stored == "source":
            return file_name(str(value))
        return words_for(json.loads(str(value)) if self.as_json and value is not None else value)


def words_for(value: Any) -> str:
    """A value of a row as text: what a page shows of it, and what a choice is told by.

    Example:
        >>> words_for(True), words_for(["a", 1]), words_for(0.25), words_for({"k": None})
        ('true', 'a, 1', '0.25', 'k: –')
    """
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(words_for, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}: {words_for(one)}" for name, one in value.items())
    return str(value)


@dataclass(frozen=True)
class Chosen:
    """What is asked of one column."""

    column: Column
    value: str | None = None
    """Of a choice the very value, of a text what it contains."""
    least: float = -math.inf
    most: float = math.inf

    def holds(self, values: Sequence[Any]) -> list[bool]:
        """Which of some stored values are meant."""
        if self.column.kind == "number":
            return [value is not None and self.least <= value <= self.most for value in values]
        said = map(self.column.said, values)
        if self.column.kind == "choice":
            return [text == self.value for text in said]
        part = fold(self.value or "")
        return [part in fold(text) for text in said]


def columns_of(store: TokenStore) -> list[Column]:
    """The file a document comes from, where there are several, then its metadata in the order of the data."""
    schema = parquet.read_schema(store.folder / NAME)
    stored = ["source", *(name for name in schema.names if name.startswith(PREFIX))][:MOST_COLUMNS]
    plain = [
        Column(
            key=f"c{number}",
            name="file" if name == "source" else name.removeprefix(PREFIX),
            stored=name,
            as_json=(schema.field(name).metadata or {}).get(b"json") == b"True",
            kind="text",
        )
        for number, name in enumerate(stored)
    ]
    counts = _counted(store, plain)
    made = [_made(column, counts[column.stored], schema.field(column.stored).type) for column in plain]
    return [column for column in made if len(column.choices) != 1]


def _made(column: Column, counted: Counter[str] | None, kind: pa.DataType) -> Column:
    if counted is not None:
        return Column(column.key, column.name, column.stored, column.as_json, "choice", tuple(counted.most_common()))
    number = (pa.types.is_integer(kind) or pa.types.is_floating(kind)) and not column.as_json
    return Column(column.key, column.name, column.stored, column.as_json, "number" if number else "text")


def _counted(store: TokenStore, columns: Sequence[Column]) -> dict[str, Counter[str] | None]:
    """Values of each column and how often; None of one that has too many."""
    counts: dict[str, Counter[str] | None] = {column.stored: Counter() for column in columns}
    for batch in _batches(store, [column.stored for column in columns]):
        for column in columns:
            counted = counts[column.stored]
            if counted is not None:
                counted.update(map(column.said, batch.column(column.stored).to_pylist()))
                if len(counted) > MOST_CHOICES:
                    counts[column.stored] = None
    return counts


def chosen_of(columns: Sequence[Column], values: Mapping[str, str]) -> list[Chosen]:
    """What an address asks of the columns.

    Raises:
        InvalidSetting: If a bound is no number, or a value none that the column has.
    """
    found = []
    for column in columns:
        if column.kind == "number":
            ends = {name: _number(column, values[key]) for name in _ENDS if (key := f"{column.key}.{name}") in values}
            if ends:
                found.append(Chosen(column, None, ends.get("from", -math.inf), ends.get("to", math.inf)))
        elif column.key in values:
            found.append(Chosen(column, _value(column, values[column.key])))
    return found


def names_of(columns: Sequence[Column]) -> set[str]:
    """The parameters by which an address asks of these columns."""
    of = ([f"{column.key}.{end}" for end in _ENDS] if column.kind == "number" else [column.key] for column in columns)
    return {name for names in of for name in names}


_ENDS = ("from", "to")


def _value(column: Column, text: str) -> str:
    """The text to be contained; of a choice the value that the number stands for: values may be of any length."""
    if column.kind == "text":
        return text
    if not (text.isdecimal() and int(text) < len(column.choices)):
        raise InvalidSetting(f"the column {column.name} has no such value", hint="choose one that is offered")
    return column.choices[int(text)][0]


def _number(column: Column, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise InvalidSetting(f"the column {column.name} holds numbers, and “{text}” is none", hint="write 12 or 0.5")
    return number


def documents_of(store: TokenStore, chosen: Sequence[Chosen]) -> NDArray[np.bool_]:
    """Which documents are meant by all of it, ``[documents]``."""
    kept = [
        np.logical_and.reduce([one.holds(batch.column(one.column.stored).to_pylist()) for one in chosen])
        for batch in _batches(store, list(dict.fromkeys(one.column.stored for one in chosen)))
    ]
    return np.concatenate(kept) if kept else np.zeros(0, np.bool_)


def copies_of(store: TokenStore, document: int) -> NDArray[np.bool_]:
    """Which documents say exactly the same as one, ``[documents]``, itself included."""
    hash_ = store.row(document)["hash"]
    parts = [
        np.array([value == hash_ for value in batch.column("hash").to_pylist()], np.bool_)
        for batch in _batches(store, ["hash"])
    ]
    return np.concatenate(parts)


def _batches(store: TokenStore, names: list[str]) -> Iterator[pa.RecordBatch]:
    with parquet.ParquetFile(store.folder / NAME, memory_map=True) as file:
        yield from file.iter_batches(batch_size=ROWS_AT_ONCE, columns=names)
