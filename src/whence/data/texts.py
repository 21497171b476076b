"""The text in a column, or what is wrong with it."""

from __future__ import annotations

import difflib
from typing import Any

from whence.data.rows import Row
from whence.errors import DataError


def take_text(row: Row, column: str) -> str:
    """The text in a column.

    Raises:
        DataError: If the column is missing, is not text, or cannot be written as UTF-8.
    """
    if column not in row.fields:
        near = difflib.get_close_matches(column, row.fields, n=1, cutoff=0.6)
        has = ", ".join(f'"{name}"' for name in list(row.fields)[:8]) or "no columns"
        raise DataError(
            f'{row.name} lacks the column "{column}": it has {has}',
            hint=f'rename "{near[0]}" to "{column}"' if near else f'add the column "{column}"',
        )
    return checked_text(row.fields[column], f'{row.name}: the column "{column}"')


def checked_text(value: Any, name: str) -> str:
    """A value that is text, and can be stored.

    Raises:
        DataError: If it is not; ``name`` says where it is.
    """
    if not isinstance(value, str):
        raise DataError(f"{name} holds {kind_named(value)}, not text", hint="put the text there, in quotes")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{name} holds half a surrogate pair at character {error.start}",
            hint="write the character whole: half of one cannot be stored or tokenised",
        ) from error
    return value


def kind_named(value: Any) -> str:
    """What a value is, as a person says it."""
    return {"NoneType": "null", "dict": "an object", "list": "a list", "bool": "true or false", "str": "text"}.get(
        type(value).__name__, "a number" if isinstance(value, int | float) else f"a {type(value).__name__}"
    )
