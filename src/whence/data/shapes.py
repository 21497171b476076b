"""The shapes that a row may have, told apart by the names of its columns.

    text                        scored whole
    prompt, completion          scored in the completion: two texts, or two lists of messages
    messages (conversations)    a chat, scored in its assistant turns
    input_ids[, labels]         tokens as they are, scored where labels are not -100
    [prompt,] chosen, rejected  a contrast: of questions only

Every other column is metadata. A column of another name is pointed out: ``{"text": "content"}``; naming one chooses
its shape, where a row could be read in two ways.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from whence.data.rows import Row
from whence.errors import DataError, InvalidSetting

SHAPES: dict[str, tuple[str, ...]] = {
    "tokens": ("input_ids",),
    "messages": ("messages",),
    "pair": ("prompt", "completion"),
    "text": ("text",),
    "contrast": ("chosen", "rejected"),
}
"""Shape → the roles that a row must fill."""
OPTIONAL: dict[str, tuple[str, ...]] = {
    "tokens": ("labels", "attention_mask", "completion_mask", "assistant_masks"),
    "contrast": ("prompt",),
}
OTHER_NAMES = {"messages": "conversations"}
USUAL_PAIRS = [
    *[("question", "answer"), ("prompt", "response"), ("prompt", "answer"), ("prompt", "output")],
    *[("instruction", "output"), ("instruction", "response"), ("query", "response"), ("input", "output")],
    ("problem", "solution"),
]
"""What others call a prompt and its completion. Never read as one unasked: words may have stood around them."""
USUAL_TEXTS = ("content", "body", "document", "article", "story", "passage")
"""What others call a text."""
Columns = Mapping[str, str]
"""Role → the column that fills it, where it has another name."""

ROLES = ("text", "prompt", "completion", "messages", "input_ids", "labels", "chosen", "rejected")
"""What a setting may point a column out for."""

TRAINING = ("tokens", "messages", "pair", "text")
QUESTIONS = ("tokens", "contrast", "messages", "pair", "text")

_CONTRAST = 'rows of "chosen" and "rejected" are questions (--query): training data says which of them was trained on'


def check_columns(columns: Columns) -> None:
    """Refuse roles that there are not, and those of two shapes.

    Raises:
        InvalidSetting: Naming them.
    """
    for role in columns:
        if role not in ROLES:
            near = difflib.get_close_matches(role, ROLES, n=1) or ROLES
            raise InvalidSetting(f"columns: there is no {role!r} to point out", hint=f"there is {', '.join(near)}")
    if columns and not _named(columns):
        raise InvalidSetting(f"columns: {', '.join(columns)} are not of one shape", hint="point out those of one")


def roles_of(row: Row, columns: Columns, shapes: Sequence[str] = TRAINING) -> tuple[str, dict[str, str]]:
    """The shape of a row, and the column that fills each of its roles.

    Raises:
        DataError: If it has none, or could be read in two ways; names the row and its columns.
    """
    wanted = [shape for shape in shapes if not columns or shape in _named(columns)]
    filled = {shape: roles for shape in wanted if (roles := _filled(row, shape, columns)) is not None}
    if "tokens" in filled:
        return "tokens", filled["tokens"]  # what was tokenised already, and its text beside it
    if len(filled) == 1 and (columns or not _halved(row, filled)):
        return next(iter(filled.items()))
    if filled:
        raise DataError(
            f"{row.name} could be read in two ways: it has {_columns_of(row)}",
            hint='say which is meant: --column text=text, or columns = {text = "text"} in a settings file',
        )
    raise _shapeless(row, columns, wanted)


def shown(shape: str) -> str:
    """A shape as its columns: ``{"prompt", "completion"}``."""
    roles = ", ".join(f'"{role}"' for role in SHAPES[shape])
    return f"{{{roles}}}"


def _named(columns: Columns) -> list[str]:
    """The shapes that have every role that was pointed out."""
    if not columns:
        return []
    return [shape for shape, needed in SHAPES.items() if set(columns) <= {*needed, *OPTIONAL.get(shape, ())}]


def _filled(row: Row, shape: str, columns: Columns) -> dict[str, str] | None:
    roles = {}
    for role in SHAPES[shape]:
        column = _column(row, role, columns)
        if column not in row.fields:
            return None
        roles[role] = column
    optional = {role: _column(row, role, columns) for role in OPTIONAL.get(shape, ())}
    return roles | {role: column for role, column in optional.items() if row.fields.get(column) is not None}


def _column(row: Row, role: str, columns: Columns) -> str:
    column = columns.get(role, role)
    other = OTHER_NAMES.get(role, column)
    return other if role not in columns and column not in row.fields and other in row.fields else column


def _halved(row: Row, filled: Mapping[str, object]) -> bool:
    """Whether a text stands beside half a pair: either may be what was trained on."""
    return "text" in filled and bool(row.fields.keys() & {"prompt", "completion"})


def _shapeless(row: Row, columns: Columns, wanted: list[str]) -> DataError:
    """What to say of a row that no shape fits: the role that it comes nearest to."""
    for role, column in columns.items():
        if column not in row.fields:
            near = difflib.get_close_matches(column, row.fields, n=1, cutoff=0.6)
            return DataError(
                f'{row.name} lacks the column "{column}", pointed out as {role}: it has {_columns_of(row)}',
                hint=f'did you mean "{near[0]}"?' if near else "point out a column that is there",
            )
    if row.fields.keys() & {"chosen", "rejected"} and "contrast" not in wanted:
        return DataError(f"{row.name} is half of a preference: it has {_columns_of(row)}", hint=_CONTRAST)
    nearest = max(wanted, key=lambda shape: sum(_column(row, role, columns) in row.fields for role in SHAPES[shape]))
    if not any(_column(row, role, columns) in row.fields for role in SHAPES[nearest]):
        nearest = nearest if columns else "text"
    lacks = next(role for role in SHAPES[nearest] if _column(row, role, columns) not in row.fields)
    return DataError(
        f'{row.name} lacks the column "{lacks}": it has {_columns_of(row)}',
        hint=_usual_pair(row, wanted) or f"point out the column that holds it: --column {lacks}={_like(row, lacks)}",
    )


def _like(row: Row, role: str) -> str:
    """The column that most likely fills a role: one of a similar name, or of another usual one."""
    near = difflib.get_close_matches(role, row.fields, n=1, cutoff=0.6)
    usual = [name for name in USUAL_TEXTS if role == "text" and name in row.fields]
    return (near + usual or ["NAME"])[0]


def _usual_pair(row: Row, wanted: Sequence[str]) -> str | None:
    """How to point out a prompt and its completion under other usual names; None where there are none."""
    found = [pair for pair in USUAL_PAIRS if all(isinstance(row.fields.get(name), str) for name in pair)]
    if "pair" not in wanted or not found:
        return None
    flags = " ".join(
        f"--column {role}={name}" for role, name in zip(SHAPES["pair"], found[0], strict=True) if role != name
    )
    return f"trained on the one right after the other: {flags}; where other words stood around them, write rows of all"


def _columns_of(row: Row) -> str:
    names = list(row.fields)
    return ", ".join(f'"{name}"' for name in names[:8]) + (", …" if len(names) > 8 else "") or "no columns"
