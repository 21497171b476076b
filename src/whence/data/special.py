"""A tokenizer's special tokens: ids that stand for no text of their own."""

from __future__ import annotations

import re
from typing import Any


def special_ids(tokenizer: Any) -> set[int]:
    """End of turn, padding, headers, and whatever else the tokenizer calls special."""
    return {*getattr(tokenizer, "all_special_ids", ()), *_added(tokenizer)}


def special_text(tokenizer: Any) -> re.Pattern[str] | None:
    """The special tokens as they would stand in a text; None where there are none."""
    words = sorted(_added(tokenizer).values(), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, words))) if words else None


def start_token(tokenizer: Any) -> int | None:
    """The token that this tokenizer puts before every text, if it is its beginning-of-text token."""
    start: int | None = getattr(tokenizer, "bos_token_id", None)
    return start if start is not None and tokenizer.encode("", add_special_tokens=True)[:1] == [start] else None


def end_token(tokenizer: Any) -> tuple[int, str] | None:
    """The tokenizer's end-of-text token and how it is written; None where it has none."""
    number, said = getattr(tokenizer, "eos_token_id", None), getattr(tokenizer, "eos_token", None)
    return None if number is None or not said else (int(number), str(said))


def _added(tokenizer: Any) -> dict[int, str]:
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {number: token.content for number, token in added.items() if token.special}
