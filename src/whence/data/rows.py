"""Rows of files, one at a time, each knowing where it lay. Every complaint names the file and the line."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from whence.data.formats import FORMATS
from whence.data.kinds import kind_of, told_by_row
from whence.data.spec import Spec
from whence.errors import DataError

SPLITS = ("train", "validation", "test", "valid", "val", "dev", "eval")
"""What splits are usually called: such a folder is called by its dataset's name too."""
_SHARD = re.compile(r"data-\d{5,}-of-(\d{5,})\.arrow")
"""What `save_to_disk` calls the files of every dataset."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was found."""

    source: str
    """The file, as the user would write its path."""
    number: int
    """From 0: the line of a file of lines, blank ones counted, or the row of a table."""
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
    word = told_by_row(source)
    return source if not word or number < 0 else f"{source}, {word} {number + 1}"


def file_name(source: str) -> str:
    """A file without its folders; of a shard of a saved dataset, which are called alike in all of them, the dataset.

    Example:
        >>> file_name("data/train.jsonl"), file_name("data/tales/data-00000-of-00001.arrow")
        ('train.jsonl', 'tales')
        >>> file_name("data/tales/train/data-00001-of-00002.arrow")
        'tales/train/data-00001-of-00002.arrow'
    """
    path = Path(source)
    shard = _SHARD.fullmatch(path.name)
    if shard is None or not path.parent.name:
        return path.name
    folder = path.parent
    dataset = f"{folder.parent.name}/{folder.name}" if folder.name in SPLITS and folder.parent.name else folder.name
    return dataset if int(shard[1]) == 1 else f"{dataset}/{path.name}"


def short_name(source: str, number: int) -> str:
    """Where a row is, as a person counts, its folders left off: `row_name` of `file_name`."""
    return file_name(source) + row_name(source, number).removeprefix(source)


def read_rows(spec: Spec) -> Iterator[Row]:
    """The rows of a spec, in order.

    Raises:
        DataError: If a file cannot be read or a line of it cannot, naming file and line.
    """
    return islice((row for path in spec.files for row in _rows_of(path)), spec.start, spec.stop)


def _rows_of(path: Path) -> Iterator[Row]:
    kind = kind_of(path)
    assert kind is not None, f"{path} is not read"
    try:
        for number, fields, offset, size in FORMATS[kind](path):
            yield Row(str(path), number, fields, offset, size)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="check the file and its permissions") from error
