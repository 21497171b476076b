"""Delimited text, ``.csv`` and ``.tsv`` (also gzipped): rows of cells that know their line, with a header or without.

The delimiter is a tab in a ``.tsv``, and in a ``.csv`` whichever of comma, semicolon and tab is most frequent in its
first line. Quotes are read in a ``.csv``; in a ``.tsv`` they are characters like any other. Without a header,
columns are called by number, from 0.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from whence.errors import DataError


@dataclass(frozen=True, slots=True)
class Cells:
    """A whole delimited file."""

    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    """The line, from 1, on which each row begins."""

    def name(self, row: int) -> str:
        """Where a row is: ``train.csv, line 12``."""
        return f"{self.source}, line {self.lines[row]}"

    def column(self, which: str | int) -> int:
        """The place of a column, told by name or by number; a negative number counts from the end.

        Raises:
            DataError: If there is none; the nearest names are given.
        """
        if isinstance(which, int) and -len(self.columns) <= which < len(self.columns):
            return which % len(self.columns)
        if which in self.columns:
            return self.columns.index(str(which))
        near = difflib.get_close_matches(str(which), self.columns, n=3, cutoff=0.5) or self.columns
        raise DataError(f"{self.source} has no column {which!r}", hint=f"there are: {', '.join(near)}")


def read_cells(path: Path | str, *, header: bool | None = None) -> Cells:
    """Read a file of cells; blank lines are skipped.

    Args:
        header: Whether the first line names the columns; None where every other line has a number in it, and a first
            line without one must be a header.

    Raises:
        DataError: If it cannot be read, holds nothing, or a row has another number of cells than the first.
    """
    path = Path(path)
    name = path.name.lower().removesuffix(".gz")
    if not name.endswith((".csv", ".tsv")):
        raise DataError(f"{path} is not called .csv or .tsv", hint="delimited text is read, gzipped or not")
    try:
        opened = gzip.open if path.name.lower().endswith(".gz") else open
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            found = list(_rows(file.readlines(), tabs=name.endswith(".tsv")))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8", hint="save the file as UTF-8") from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="check the file and its permissions") from error
    if not found:
        raise DataError(f"{path} holds no rows", hint="write one example a line")
    header = not any(_is_number(cell) for cell in found[0][1]) if header is None else header
    if header and len(found) == 1:
        raise DataError(f"{path} holds a header and no rows", hint="write one example a line")
    width = len(found[0][1])
    for line, cells in found:
        if len(cells) != width:
            raise DataError(
                f"{path}, line {line} has {len(cells)} cells, the first line {width}",
                hint="quote cells that hold the delimiter, and write empty ones out",
            )
    columns = found[0][1] if header else [str(number) for number in range(width)]
    rows = found[1:] if header else found
    return Cells(str(path), tuple(columns), tuple(tuple(cells) for _, cells in rows), tuple(line for line, _ in rows))


def delimiter_of(first_line: str) -> str:
    """Whichever of comma, semicolon and tab is most frequent in the first line of a ``.csv``."""
    return max(",;\t", key=first_line.count)


def delimited(lines: Iterable[str], delimiter: str, *, quotes: bool) -> Iterator[tuple[int, list[str]]]:
    """Rows of cells as they stand, each with the line from 1 that it begins on; blank lines are skipped.

    Args:
        lines: With their ends: a quoted cell may span several.
        quotes: Whether quotes are read, or are characters like any other.
    """
    if quotes:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
    else:
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    begins = 1
    for cells in reader:
        if cells:
            yield begins, cells
        begins = reader.line_num + 1


def _rows(lines: Sequence[str], tabs: bool) -> Iterator[tuple[int, list[str]]]:
    delimiter = "\t" if tabs else delimiter_of(lines[0] if lines else "")
    for line, cells in delimited(lines, delimiter, quotes=not tabs):
        yield line, [cell if tabs else cell.strip() for cell in cells]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
