"""The first documents as a model sees them: tokens, which of them are scored, and where sequences begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from whence.artifacts.folder import finished
from whence.data.batches import Piece
from whence.data.documents import read_documents
from whence.data.encode import NOTICES
from whence.data.rows import row_name
from whence.data.special import special_ids
from whence.data.store import TokenStore, encoded_documents
from whence.jobs.prepare import FOLDER
from whence.jobs.settings import RunSettings
from whence.models.hf import context_of, load_tokenizer
from whence.report.pieces import display, surface, vocabulary_style


@dataclass(frozen=True, slots=True)
class ShownDocument:
    """One document, a piece of text a token."""

    name: str
    tokens: list[str]
    """Safe to print: what acts unseen is spelled out, a later byte of a character is a dot."""
    scored: list[bool]
    special: list[bool]
    """Which tokens stand for no text of their own."""
    ids: list[int] = field(repr=False)
    windows: list[int]
    """Token at which each sequence but the first begins."""
    metadata: dict[str, Any]
    noticed: list[str]
    shape: str | None
    """What its row was read as: a key of `shapes.SHAPES`; None where that is not known any more."""


def first_documents(folder: Path, settings: RunSettings, count: int) -> list[ShownDocument]:
    """The first ``count`` documents, of the prepared data where some are so packed, else read and tokenised now."""
    prepared = folder / FOLDER
    if finished(prepared) and (store := TokenStore.open(prepared)).pack == settings.pack:
        own = folder / "tokenizer"
        tokenizer = load_tokenizer(own if own.exists() else settings.tokenizer or settings.model)
        rows = _prepared(store, count)
    else:
        tokenizer = load_tokenizer(settings.tokenizer or settings.model)
        rows = _read(settings, tokenizer, count)
    style, special = vocabulary_style(tokenizer.get_vocab()), special_ids(tokenizer)

    def shown(
        name: str, pieces: Sequence[Piece], metadata: dict[str, Any], noticed: list[str], shape: str | None
    ) -> ShownDocument:
        ids, scored, windows = joined(pieces)
        texts = [piece.text for piece in display(surface(tokenizer.convert_ids_to_tokens(ids), style))]
        return ShownDocument(name, texts, scored, [n in special for n in ids], ids, windows, metadata, noticed, shape)

    return [shown(*row) for row in rows]


def joined(pieces: Sequence[Piece]) -> tuple[list[int], list[bool], list[int]]:
    """A document's tokens and marks, each once, and where its later sequences begin.

    Each sequence but the first begins with the last token of the one before, where it is scored.
    """
    ids: list[int] = []
    scored: list[bool] = []
    windows: list[int] = []
    for piece in pieces:
        if ids:
            windows.append(len(ids) - 1)
        first = 1 if ids else 0
        ids += piece.tokens[first:].tolist()
        scored += piece.scored[first:].tolist()
    return ids, scored, windows


Row = tuple[str, list[Piece], dict[str, Any], list[str], str | None]


def _prepared(store: TokenStore, count: int) -> Iterator[Row]:
    shapes, named = list(store.facts["shapes"]), store.facts["noticed_names"]
    for document in range(min(count, store.documents)):
        row = store.row(document)
        pieces, name = [store.piece(n) for n in store.sequences_of(document)], row_name(row["source"], row["row"])
        noticed = [NOTICES[key] for key in sorted(named) if name in named[key]]
        yield name, pieces, row["metadata"], noticed, shapes[0] if len(shapes) == 1 else None


def _read(settings: RunSettings, tokenizer: Any, count: int) -> Iterator[Row]:
    context = settings.context or context_of(settings.model)
    documents = islice(read_documents(settings.train, settings.limit, settings.columns), count)
    for document, encoded in encoded_documents(documents, tokenizer, context, settings.pack):
        noticed = [NOTICES[key] for key in sorted(encoded.noticed)]
        yield document.name, encoded.pieces, document.metadata, noticed, document.shape
