"""Chats: lists of messages with a role each, as OpenAI's format and ShareGPT's write them, or JSON text of such lists.

CSV and TSV have no lists, so a cell holds one as JSON. A column that can only be messages is read so or refused; a
prompt and completion may as well be texts, and are messages where both spell a list of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whence.data.rows import Row
from whence.data.texts import checked_text, kind_named
from whence.errors import DataError

Message = dict[str, Any]
"""``role`` and ``content`` (text, always there), and whatever else a template may ask for."""

SHAREGPT = {
    "human": "user",
    "gpt": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function": "tool",
}

_WHO, _SAYS = {"role", "from"}, {"content", "value", "tool_calls"}
_LIST = 'write [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]'
_PYTHON = "that is how Python prints a list, and pandas writes one: make the column text with json.dumps first"


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation, and from which message on its assistant turns are scored."""

    messages: tuple[Message, ...]
    given: int = 0
    """So many messages at the beginning are the prompt."""
    tools: list[Any] | None = None

    @property
    def assistants(self) -> list[int]:
        """The messages that an assistant wrote."""
        return [number for number, message in enumerate(self.messages) if message["role"] == "assistant"]

    @property
    def scored(self) -> list[int]:
        """The messages that are scored: an assistant's, after the prompt, whose ``weight`` is not 0."""
        return [n for n in self.assistants if n >= self.given and self.messages[n].get("weight", 1) != 0]

    @property
    def canonical(self) -> str:
        """All that it says, in one way."""
        return json.dumps([list(self.messages), self.given, self.tools], sort_keys=True, default=str)


def read_chat(row: Row, roles: Mapping[str, str]) -> Chat:
    """The chat in ``messages``, or in ``prompt`` and ``completion``.

    Raises:
        DataError: If a message has no role or content, or the role is not known; names row and message.
    """
    tools = read_tools(row)
    if "messages" in roles:
        return Chat(tuple(read_messages(row, roles["messages"])), 0, tools)
    prompt, completion = (read_messages(row, roles[role]) for role in ("prompt", "completion"))
    if not completion:
        raise DataError(f'{row.name}: the column "{roles["completion"]}" is empty', hint="remove the row")
    return Chat((*prompt, *completion), len(prompt), tools)


def read_messages(row: Row, column: str) -> list[Message]:
    """The messages in a column.

    Raises:
        DataError: As `read_chat`.
    """
    value = row.fields[column]
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        value = _parsed(row, column)
    if not isinstance(value, list):
        raise DataError(
            f'{row.name}: the column "{column}" holds {kind_named(value)}, not a list of messages', hint=_LIST
        )
    return [_message(one, f'{row.name}, "{column}" message {number}') for number, one in enumerate(value, 1)]


def spells_messages(value: Any) -> bool:
    """Whether a text is JSON of messages: a list of objects with a role and content.

    Example:
        >>> spells_messages('[{"role": "user", "content": "Hi"}]'), spells_messages("[1, 2]"), spells_messages("Hi")
        (True, False, False)
    """
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return False
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return False
    return bool(found) and all(
        isinstance(one, dict) and not one.keys().isdisjoint(_WHO) and not one.keys().isdisjoint(_SAYS) for one in found
    )


def _parsed(row: Row, column: str) -> Any:
    """What the JSON text in a column spells."""
    try:
        return json.loads(row.fields[column])
    except (ValueError, RecursionError) as error:
        single = str(row.fields[column]).lstrip().startswith(("[{'", "{'"))
        raise DataError(
            f'{row.name}: the column "{column}" is not JSON: {error}',
            hint=_PYTHON if single else "write the list as JSON, on one line or quoted as the file asks for",
        ) from error


def _message(value: Any, name: str) -> Message:
    if not isinstance(value, dict):
        raise DataError(f"{name} is {kind_named(value)}, not an object with a role and content")
    message = {key: part for key, part in value.items() if part is not None}  # tables fill what is absent with null
    if "from" in message and "role" not in message:
        who = message.pop("from")
        message = {"role": SHAREGPT.get(who, who), "content": message.pop("value", None), **message}
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise DataError(f'{name} has no "role": it has {", ".join(map(str, value)) or "nothing"}')
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        content = ""
    return {"role": role, **message, "content": _content(content, name)}


def _content(content: Any, name: str) -> str:
    """Text, or parts that are all text."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        if not all(isinstance(part, str) for part in parts):
            raise DataError(f"{name} holds something else than text", hint="pictures and sounds are not scored")
        content = "".join(str(part) for part in parts)
    return checked_text(content, f'{name}: its "content"')


def read_tools(row: Row) -> list[Any] | None:
    """The functions that a row offers the model; as a list, or as JSON text."""
    tools = row.fields.get("tools")
    if isinstance(tools, str) and tools.strip():
        tools = _parsed(row, "tools")
    return tools if isinstance(tools, list) and tools else None
