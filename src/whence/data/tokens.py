"""Rows that are tokens already: ids, and where the data says what is scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whence.data.rows import Row
from whence.data.texts import kind_named
from whence.errors import DataError

IGNORED = -100
"""The label of a token that carries no loss, as trainers write it."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A document's tokens, and which of them carry loss; that the first cannot is seen to where it is cut."""

    ids: list[int]
    scored: list[bool]
    padding: int = 0
    """Tokens that ``attention_mask`` calls padding, left off here."""


def read_tokens(row: Row, roles: Mapping[str, str]) -> Tokens:
    """``input_ids`` with what stands beside them: labels, or the masks that trainers make.

    Raises:
        DataError: If a list has another length or holds something else than it should, or a label is another token
            than the one it stands under.
    """
    ids = _integers(row, roles["input_ids"])
    scored = [True] * len(ids)
    if "labels" in roles:
        labels = _integers(row, roles["labels"], len(ids))
        _check_labels(row, roles["labels"], ids, labels)
        scored = [label != IGNORED for label in labels]
    for role in ("completion_mask", "assistant_masks"):
        if role in roles:
            scored = [mark and bool(one) for mark, one in zip(scored, _integers(row, role, len(ids)), strict=True)]
    if "attention_mask" in roles:
        real = _integers(row, "attention_mask", len(ids))
        first, last = (real.index(1), len(real) - real[::-1].index(1)) if 1 in real else (0, 0)
        if 0 in real[first:last]:
            raise DataError(
                f'{row.name}: the column "attention_mask" leaves out tokens between others',
                hint="only padding at either end can be left off: split the row there",
            )
        return Tokens(ids[first:last], scored[first:last], len(ids) - (last - first))
    return Tokens(ids, scored)


def _check_labels(row: Row, column: str, ids: list[int], labels: list[int]) -> None:
    for position, (token, label) in enumerate(zip(ids, labels, strict=True)):
        if label not in (token, IGNORED) and position:  # the first is predicted by nothing, whatever it says
            raise DataError(
                f'{row.name}: the column "{column}" holds {label} at position {position}, where the token is {token}',
                hint=f"labels are the tokens themselves, not shifted, or {IGNORED} where nothing is scored",
            )


def _integers(row: Row, column: str, length: int | None = None) -> list[int]:
    value: Any = row.fields[column]
    if not isinstance(value, list):
        raise DataError(f'{row.name}: the column "{column}" holds {kind_named(value)}, not a list of whole numbers')
    if not all(isinstance(one, int) for one in value):
        wrong = next(one for one in value if not isinstance(one, int))
        raise DataError(f'{row.name}: the column "{column}" holds {kind_named(wrong)} among its whole numbers')
    if length is not None and len(value) != length:
        raise DataError(f'{row.name}: the column "{column}" has {len(value)} entries for {length} tokens')
    if length is None and any(one < 0 for one in value):
        raise DataError(f'{row.name}: the column "{column}" holds a token below 0')
    return [int(one) for one in value]
