"""Rows as documents: a text, or a prompt and its completion, told apart by their fields."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from whence.artifacts.fingerprint import DIGITS
from whence.data.rows import Row, read_rows, row_name
from whence.data.spec import Spec, parse_spec
from whence.errors import DataError


@dataclass(frozen=True, slots=True)
class Document:
    """What one row says. Of a text every token is scored; of a pair only the completion's."""

    source: str
    row: int
    text: str | None = field(default=None, repr=False)
    prompt: str | None = field(default=None, repr=False)
    completion: str | None = field(default=None, repr=False)
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)
    offset: int = 0
    size: int = 0

    @property
    def name(self) -> str:
        """Where it is: ``train.jsonl, line 12``."""
        return row_name(self.source, self.row)

    @property
    def hash(self) -> str:
        """A hash of what it says: exact copies share it."""
        parts = [self.text] if self.text is not None else [self.prompt, self.completion]
        return hashlib.sha256("\0".join(part or "" for part in parts).encode()).hexdigest()[:DIGITS]


def read_documents(spec: str | Spec, limit: int | None = None) -> Iterator[Document]:
    """The documents of a spec, in order, one in memory at a time.

    Args:
        limit: Stop after so many.

    Raises:
        DataError: If a row lacks its field or holds something else there (file, line and field are named), or if
            there is no document at all.
    """
    spec = parse_spec(spec) if isinstance(spec, str) else spec
    found = False
    for row in islice(read_rows(spec), limit):
        found = True
        yield to_document(row)
    if not found:
        raise DataError(
            f"{spec.text} holds no documents", hint='write one {"text": "…"} a line, or widen the range of rows'
        )


def to_document(row: Row) -> Document:
    """A row as a document; fields that are not its text become metadata.

    Raises:
        DataError: Naming file, line and field.
    """
    if "prompt" in row.fields or "completion" in row.fields:
        if "text" in row.fields:
            raise DataError(
                f'{row.name} has the field "text" and also "prompt" or "completion"',
                hint="keep one of the two: text is scored whole, a pair only in its completion",
            )
        texts = {name: take_text(row, name) for name in ("prompt", "completion")}
        if not texts["completion"]:
            raise DataError(
                f'{row.name}: the field "completion" is empty', hint="remove the row, or write what it should say"
            )
    else:
        texts = {"text": take_text(row, "text")}
    metadata = {name: value for name, value in row.fields.items() if name not in texts}
    return Document(row.source, row.number, metadata=metadata, offset=row.offset, size=row.size, **texts)


def take_text(row: Row, field: str) -> str:
    """The text in a field.

    Raises:
        DataError: If the field is missing, is not text, or cannot be written as UTF-8.
    """
    if field not in row.fields:
        near = difflib.get_close_matches(field, row.fields, n=1, cutoff=0.6)
        has = ", ".join(f'"{name}"' for name in list(row.fields)[:8]) or "no fields"
        raise DataError(
            f'{row.name} lacks the field "{field}": it has {has}',
            hint=f'rename "{near[0]}" to "{field}"' if near else 'rows are {"text"} or {"prompt", "completion"}',
        )
    value = row.fields[field]
    if not isinstance(value, str):
        raise DataError(
            f'{row.name}: the field "{field}" holds {_kind(value)}, not text', hint="put the text there, in quotes"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f'{row.name}: the field "{field}" holds half a surrogate pair at character {error.start}',
            hint="write the character whole: half of one cannot be stored or tokenised",
        ) from error
    return value


def _kind(value: Any) -> str:
    return {"NoneType": "null", "dict": "an object", "list": "a list", "bool": "true or false"}.get(
        type(value).__name__, "a number" if isinstance(value, int | float) else f"a {type(value).__name__}"
    )
