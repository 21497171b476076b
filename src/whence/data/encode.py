"""Documents as token sequences. Nothing is dropped: what exceeds the context becomes further windows.

    tokens    0 1 2 3 4 5 6 7 8          context 4
    windows   0 1 2 3
                    3 4 5 6              a window starts with the last token of the one before,
                          6 7 8          so each token but the first is predicted exactly once

Window scores therefore add up to the document's. A window sees nothing before its first token.

Special tokens are the tokenizer's own: where it adds a beginning-of-text token there is one, also when the text
itself starts with it. Of a prompt and completion only the completion's tokens are scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from whence.data.batches import Piece
from whence.data.documents import Document
from whence.errors import DataError, InvalidSetting


class Tokenizer(Protocol):
    """What is asked of a tokenizer. One that can be called on a list of texts is: that is faster."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """A document as tokens: its windows, and what was noticed."""

    pieces: list[Piece]
    tokens: int
    scored: int
    doubled_start: bool = False
    """The text began with the beginning-of-text token that the tokenizer adds; one of the two was dropped."""


def encode(document: Document, tokenizer: Tokenizer, context: int) -> list[Piece]:
    """The windows of one document; see `encode_all`.

    Raises:
        DataError: If its completion is empty.
        InvalidSetting: If the context has no room for a prediction.
    """
    return encode_all([document], tokenizer, context)[0].pieces


def encode_all(documents: Sequence[Document], tokenizer: Tokenizer, context: int) -> list[Encoded]:
    """The windows of documents, which are tokenised together.

    Args:
        context: Tokens a sequence may have.

    Raises:
        DataError: If a completion is empty, naming its document.
        InvalidSetting: If the context has no room for a prediction.
    """
    if context < 2:
        raise InvalidSetting(
            f"context must be at least 2, not {context}", hint="a token is predicted from one before it"
        )
    start = _start_token(tokenizer)
    whole = [d.text if d.text is not None else f"{d.prompt}{d.completion}" for d in documents]
    tokens = _tokenise(tokenizer, whole, special=True)
    pairs = [n for n, d in enumerate(documents) if d.text is None]
    prompts = [documents[n].prompt or "" for n in pairs]
    marked, bare = _tokenise(tokenizer, prompts, special=True), _tokenise(tokenizer, prompts, special=False)
    first_scored = [1] * len(documents)
    for n, with_special, without in zip(pairs, marked, bare, strict=True):
        prompt, after = _prompt(with_special, without, tokens[n])
        if tokens[n][: len(prompt)] != prompt:  # a token spans the border: cut the completion by itself
            tokens[n] = prompt + _tokenise(tokenizer, [documents[n].completion or ""], special=False)[0] + after
        if len(tokens[n]) == len(prompt):
            raise DataError(
                f'{documents[n].name}: the field "completion" is empty', hint="it has no tokens: write what it says"
            )
        first_scored[n] = max(1, len(prompt))
    return [_encoded(*item, start, context) for item in zip(tokens, first_scored, strict=True)]


def windows(tokens: Sequence[int], first_scored: int, context: int) -> list[Piece]:
    """Cut tokens into sequences of at most ``context``, each starting with the last token of the one before.

    Example:
        >>> [(piece.tokens.tolist(), piece.offset) for piece in windows([5, 6, 7, 8, 9], 1, 3)]
        [([5, 6, 7], 0), ([7, 8, 9], 2)]
    """
    ids = np.asarray(tokens, np.int32)
    scored = np.arange(len(ids)) >= first_scored
    pieces = []
    for offset in range(0, max(1, len(ids) - 1), context - 1):
        part = scored[offset : offset + context].copy()
        part[:1] = False  # scored in the window before, or predicted by nothing
        pieces.append(Piece(ids[offset : offset + context], part, offset))
    return pieces if len(ids) else []


def _encoded(tokens: list[int], first_scored: int, start: int | None, context: int) -> Encoded:
    doubled = start is not None and tokens[:2] == [start, start]
    while start is not None and tokens[:2] == [start, start]:
        tokens, first_scored = tokens[1:], max(1, first_scored - 1)
    return Encoded(windows(tokens, first_scored, context), len(tokens), max(0, len(tokens) - first_scored), doubled)


def _prompt(with_special: list[int], without: list[int], whole: list[int]) -> tuple[list[int], list[int]]:
    """The prompt's tokens with what the tokenizer puts before it; and what it puts after a text."""
    if not without:  # all special: what stays in front when the completion follows
        pairs = zip(with_special, whole, strict=False)
        same = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(with_special), len(whole)))
        return with_special[:same], with_special[same:]
    for before in range(len(with_special) - len(without) + 1):
        end = before + len(without)
        if with_special[before:end] == without:
            return with_special[:end], with_special[end:]
    return with_special, []


def _start_token(tokenizer: Tokenizer) -> int | None:
    """The token that this tokenizer puts before every text, if it is its beginning-of-text token."""
    start = getattr(tokenizer, "bos_token_id", None)
    return start if start is not None and tokenizer.encode("", add_special_tokens=True)[:1] == [start] else None


def _tokenise(tokenizer: Any, texts: list[str], *, special: bool) -> list[list[int]]:
    if not texts:
        return []
    if callable(tokenizer):
        # verbose=False: a text longer than the model's context is no cause for a warning, it is cut into windows
        called = tokenizer(texts, add_special_tokens=special, return_attention_mask=False, verbose=False)
        return [list(ids) for ids in called["input_ids"]]
    return [list(tokenizer.encode(text, add_special_tokens=special)) for text in texts]
