"""Rows as documents: a text, a prompt and its completion, a chat, or tokens; told apart by `shapes`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from whence.artifacts.fingerprint import DIGITS
from whence.data.messages import Chat, read_chat, spells_messages
from whence.data.rows import Row, read_rows, row_name
from whence.data.shapes import Columns, roles_of
from whence.data.spec import Spec, parse_spec
from whence.data.texts import take_text
from whence.data.tokens import Tokens, read_tokens
from whence.errors import DataError


@dataclass(frozen=True, slots=True)
class Document:
    """What one row says. One of ``text``, ``completion`` (with its prompt), ``chat`` and ``tokens`` is there."""

    source: str
    row: int
    text: str | None = field(default=None, repr=False)
    """Every token of it is scored."""
    prompt: str | None = field(default=None, repr=False)
    completion: str | None = field(default=None, repr=False)
    """Of a pair only the completion's tokens are scored."""
    chat: Chat | None = field(default=None, repr=False)
    """Scored in its assistant turns."""
    tokens: Tokens | None = field(default=None, repr=False)
    """Scored where the data says so."""
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)
    offset: int = 0
    size: int = 0

    @property
    def name(self) -> str:
        """Where it is: ``train.jsonl, line 12``."""
        return row_name(self.source, self.row)

    @property
    def shape(self) -> str:
        """Which of `shapes.TRAINING` it was read as."""
        if self.tokens is not None:
            return "tokens"
        if self.chat is not None:
            return "messages"
        return "pair" if self.text is None else "text"

    @property
    def hash(self) -> str:
        """A hash of what it says: exact copies share it."""
        if self.chat is not None:
            said = self.chat.canonical
        elif self.tokens is not None:
            said = json.dumps([self.tokens.ids, self.tokens.scored])
        else:
            said = "\0".join(part or "" for part in self.written)
        return hashlib.sha256(said.encode()).hexdigest()[:DIGITS]

    @property
    def written(self) -> list[str]:
        """Its words, as the data has them; none where it is tokens."""
        if self.chat is not None:
            return [message["content"] for message in self.chat.messages]
        if self.tokens is not None:
            return []
        return [self.text] if self.text is not None else [self.prompt or "", self.completion or ""]


def read_documents(spec: str | Spec, limit: int | None = None, columns: Columns | None = None) -> Iterator[Document]:
    """The documents of a spec, in order, one in memory at a time.

    Args:
        limit: Stop after so many.
        columns: Role → column, where it has another name than the role: ``{"text": "content"}``.

    Raises:
        DataError: If a row lacks its column or holds something else there (file, line and column are named), or if
            there is no document at all.
    """
    spec = parse_spec(spec) if isinstance(spec, str) else spec
    found = False
    for row in islice(read_rows(spec), limit):
        found = True
        yield to_document(row, columns or {})
    if not found:
        raise DataError(
            f"{spec.text} holds no documents", hint='write one {"text": "…"} a line, or widen the range of rows'
        )


def to_document(row: Row, columns: Columns) -> Document:
    """A row as a document; columns that are not its text become metadata.

    Raises:
        DataError: Naming file, line and column.
    """
    shape, roles = roles_of(row, columns)
    says: dict[str, Any] = {}
    used = set(roles.values())
    if shape == "text":
        says["text"] = take_text(row, roles["text"])
    elif shape == "tokens":
        says["tokens"] = read_tokens(row, roles)
    elif shape == "messages" or is_chat_pair(row, roles):
        says["chat"] = read_chat(row, roles)
    else:
        says = {role: take_text(row, column) for role, column in roles.items()}
        if not says["completion"]:
            raise DataError(
                f'{row.name}: the column "{roles["completion"]}" is empty',
                hint="remove the row, or write what it should say",
            )
    metadata = {name: value for name, value in row.fields.items() if name not in used}
    return Document(row.source, row.number, metadata=metadata, offset=row.offset, size=row.size, **says)


def is_chat_pair(row: Row, roles: Mapping[str, str]) -> bool:
    """Whether prompt and completion are lists of messages, or both JSON text of such lists."""
    said = [row.fields[column] for column in roles.values()]
    return any(isinstance(one, list) for one in said) or all(map(spells_messages, said))
