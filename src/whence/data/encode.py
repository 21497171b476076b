"""Documents as token sequences. Nothing is dropped: what exceeds the context becomes further windows.

    tokens    0 1 2 3 4 5 6 7 8          context 4
    windows   0 1 2 3
                    3 4 5 6              a window starts with the last token of the one before,
                          6 7 8          so each token but the first is predicted exactly once

Window scores therefore add up to the document's. A window sees nothing before its first token.

Special tokens are the tokenizer's own: where it adds a beginning-of-text token there is one, also when the text
itself starts with it. Of a prompt and completion only the completion's tokens are scored, of a chat the assistant's
turns (`chat`), of given tokens what the data says (`tokens`); those are left as they are. No end token is added to a
completion, though many trainers do: whether one was is not seen from the rows, so it is said that there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from whence.data.batches import Piece
from whence.data.chat import encode_chats
from whence.data.documents import Document
from whence.data.special import end_token, special_ids, special_text, start_token
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
    opens: bool = False
    """Whether its first token is scored, too, where something predicts it: another document before it."""
    noticed: frozenset[str] = frozenset()
    """What may surprise: keys of `NOTICES`."""


NOTICES = {
    "doubled_start": "begin with the token that the tokenizer puts before every text, so one of the two was dropped",
    "two_starts": "begin with two beginning-of-text tokens, as the rows or the chat template have it; both were kept",
    "padding": "padding among their tokens was left off",
    "special_text": "special tokens written out in the text were read as such, as trainers do",
    "endless": "no end token follows the completion; if training added one, write it at the completion's end",
    "across": "a token spans the beginning of an assistant's turn, and is not scored",
}
"""What may be noticed of a document, as a person is told of it."""


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
    check_context(context)
    written = special_text(tokenizer)
    found: dict[int, Encoded] = {}
    for encoder in dict.fromkeys(_ENCODERS.values()):
        numbers = [n for n, document in enumerate(documents) if _ENCODERS[document.shape] is encoder]
        marked = encoder([documents[n] for n in numbers], tokenizer)
        for n, (ids, scored, noticed) in zip(numbers, marked, strict=True):
            if written is not None and any(written.search(part) for part in _quoting(documents[n], tokenizer)):
                noticed.add("special_text")
            opens = bool(scored and scored[0])
            found[n] = Encoded(windows(ids, scored, context), len(ids), sum(scored[1:]), opens, frozenset(noticed))
    return [found[n] for n in range(len(documents))]


def _quoting(document: Document, tokenizer: Any) -> list[str]:
    """The texts in which a special token would be unexpected: one that ends a completion is meant."""
    if document.shape != "pair":
        return list(document.written)
    end = end_token(tokenizer)
    return [part.removesuffix(end[1]) if end is not None else part for part in document.written]


def check_context(context: int) -> None:
    """Refuse a context without room for a prediction.

    Raises:
        InvalidSetting: If it is below 2.
    """
    if context < 2:
        raise InvalidSetting(
            f"context must be at least 2, not {context}", hint="a token is predicted from one before it"
        )


def windows(tokens: Sequence[int], scored: Sequence[bool], context: int) -> list[Piece]:
    """Cut tokens into sequences of at most ``context``, each starting with the last token of the one before.

    Example:
        >>> [(piece.tokens.tolist(), piece.offset) for piece in windows([5, 6, 7, 8, 9], [True] * 5, 3)]
        [([5, 6, 7], 0), ([7, 8, 9], 2)]
    """
    ids, marks = np.asarray(tokens, np.int32), np.asarray(scored, np.bool_)
    pieces = []
    for offset in range(0, max(1, len(ids) - 1), context - 1):
        part = marks[offset : offset + context].copy()
        part[:1] = False  # scored in the window before, or predicted by nothing
        pieces.append(Piece(ids[offset : offset + context], part, offset))
    return pieces if len(ids) else []


Marked = tuple[list[int], list[bool], set[str]]
"""A document's tokens, which of them are scored, and what was noticed."""


def _chats(documents: Sequence[Document], tokenizer: Any) -> Iterable[Marked]:
    """Chats, as their template writes them."""
    for chat in encode_chats(documents, tokenizer):
        yield chat.ids, chat.scored, _two_starts(chat.ids, tokenizer) | ({"across"} if chat.across else set())


def _given(documents: Sequence[Document], tokenizer: Any) -> Iterable[Marked]:
    """Tokens that the data gives."""
    size = len(tokenizer) if isinstance(tokenizer, Sized) else None
    for document in documents:
        assert document.tokens is not None
        ids = document.tokens.ids
        if size is not None and max(ids, default=0) >= size:
            raise DataError(
                f"{document.name} holds the token {max(ids)}, and the tokenizer has {size}",
                hint="give the tokenizer that the rows were made with",
            )
        noticed = _two_starts(ids, tokenizer) | ({"padding"} if document.tokens.padding else set())
        yield ids, document.tokens.scored, noticed


def _two_starts(ids: list[int], tokenizer: Any) -> set[str]:
    start = getattr(tokenizer, "bos_token_id", None)
    return {"two_starts"} if start is not None and ids[:2] == [start, start] else set()


def _words(documents: Sequence[Document], tokenizer: Any) -> Iterable[Marked]:
    """Texts and pairs, tokenised together."""
    start = start_token(tokenizer)
    whole = [d.text if d.text is not None else f"{d.prompt}{d.completion}" for d in documents]
    tokens = _tokenise(tokenizer, whole, special=True)
    pairs = [n for n, d in enumerate(documents) if d.text is None]
    prompts = [documents[n].prompt or "" for n in pairs]
    marked, bare = _tokenise(tokenizer, prompts, special=True), _tokenise(tokenizer, prompts, special=False)
    first_scored = [0] * len(documents)
    for n, with_special, without in zip(pairs, marked, bare, strict=True):
        prompt, after = _prompt(with_special, without, tokens[n])
        if tokens[n][: len(prompt)] != prompt:  # a token spans the border: cut the completion by itself
            tokens[n] = prompt + _tokenise(tokenizer, [documents[n].completion or ""], special=False)[0] + after
        if len(tokens[n]) == len(prompt):
            raise DataError(
                f"{documents[n].name}: the completion is empty", hint="it has no tokens: write what it says"
            )
        first_scored[n] = len(prompt)
    ends = set() if end_token(tokenizer) is None else special_ids(tokenizer)
    for document, ids, first in zip(documents, tokens, first_scored, strict=True):
        extra = 0
        while start is not None and ids[extra : extra + 2] == [start, start]:
            extra += 1
        first = max(0, first - extra)
        scored = [position >= first for position in range(len(ids) - extra)]
        endless = bool(ends) and document.text is None and ids[-1] not in ends
        yield ids[extra:], scored, ({"doubled_start"} if extra else set()) | ({"endless"} if endless else set())


_ENCODERS = {"text": _words, "pair": _words, "messages": _chats, "tokens": _given}


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


def _tokenise(tokenizer: Any, texts: list[str], *, special: bool) -> list[list[int]]:
    if not texts:
        return []
    if callable(tokenizer):
        # verbose=False: a text longer than the model's context is no cause for a warning, it is cut into windows
        called = tokenizer(texts, add_special_tokens=special, return_attention_mask=False, verbose=False)
        return [list(ids) for ids in called["input_ids"]]
    return [list(tokenizer.encode(text, add_special_tokens=special)) for text in texts]
