"""What a run is asked for in a notebook: rows that were read or counted once, and print without doing so again."""

from __future__ import annotations

import copy
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from whence.report.notebook import Column, cell, table, text_heat
from whence.report.pieces import display, visible

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

WIDEST = 60
"""Characters of a text in a plain table."""


class View(Sequence[Mapping[str, Any]]):
    """Rows, as dicts, that print as a table: plain at a prompt, HTML in a notebook.

    Args:
        title: What the rows are.
        columns: What is printed of them. Everything else in a row is in the tables.
        value: The key that `numpy` returns.
    """

    def __init__(self, title: str, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], *, value: str) -> None:
        self.title, self.columns, self.value = title, tuple(columns), value
        self._rows = [dict(row) for row in rows]

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> View: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | View:
        if isinstance(index, slice):
            part = copy.copy(self)
            part._rows = self._rows[index]
            return part
        return self._rows[index]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    def to_arrow(self) -> pa.Table:
        """The rows as an Arrow table; what is nested (``metadata``) becomes columns of its own."""
        import pyarrow as pa

        flat = [_flat(row) for row in self._rows]
        names = list(dict.fromkeys(name for row in flat for name in row))
        columns = {name: [row.get(name) for row in flat] for name in names}
        return pa.table({name: _column(values) for name, values in columns.items()})

    def to_pandas(self) -> pd.DataFrame:
        """`to_arrow`, as a DataFrame."""
        return self.to_arrow().to_pandas()

    def numpy(self) -> NDArray[Any]:
        """The values alone, in the order of the rows."""
        return np.array([row[self.value] for row in self._rows])

    def __repr__(self) -> str:
        lines = [[column.heading for column in self.columns]]
        for row in self._rows:
            words = [" ".join(visible(cell(row.get(column.key), column.kind)).split()) for column in self.columns]
            lines.append([textwrap.shorten(word, WIDEST, placeholder=" …") or word[:WIDEST] for word in words])
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.columns))]
        left = [column.kind in ("text", "word") for column in self.columns]
        table = [
            "  ".join(
                word.ljust(width) if start else word.rjust(width)
                for word, width, start in zip(line, widths, left, strict=True)
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, *table])

    def _repr_html_(self) -> str:
        return table(self.title, self.columns, self._rows)


class TokenView(View):
    """A document's tokens, each with three attributions of the document's score, in nats per copy.

    ``gradient``: of the weight gradient that arises where the token is predicted. ``predicted``: how the token's own
    log-probability changes along the question's direction. ``read``: how the score changes with the size of the
    token's embedding. The first two add up to the document's score; see `whence.influence.attribution`.
    """

    def __init__(self, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        columns = [
            Column("token", "token", "count"),
            Column("text", "text", "word"),
            Column("gradient", "gradient", "influence"),
            Column("predicted", "predicted", "influence"),
            Column("read", "read", "influence"),
        ]
        super().__init__(title, columns, rows, value="gradient")

    def _repr_html_(self) -> str:
        return text_heat(self.title, [row["text"] for row in self], [row["gradient"] for row in self], "nats per copy")

    def __repr__(self) -> str:
        pieces = display([row["text"] for row in self])
        shown = View(
            self.title,
            self.columns,
            [{**row, "text": repr(piece.text)} for row, piece in zip(self, pieces, strict=True)],
            value=self.value,
        )
        return View.__repr__(shown)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": part for inner, part in value.items()}
        else:
            flat[name] = value
    return flat


def _column(values: list[Any]) -> pa.Array:
    """An Arrow column; of values that do not agree on a type, or are nested, as JSON text."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds == {str}:  # half a surrogate pair, or a byte that is no character, is spelled out
        return pa.array([None if v is None else v.encode("utf-8", "backslashreplace").decode() for v in values])
    if kinds <= {int, float} or kinds == {bool}:
        return pa.array(values)
    return pa.array([None if value is None else json.dumps(value, default=str) for value in values])
