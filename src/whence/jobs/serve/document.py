"""One document as the explorer shows it: its text, the questions it moves, and how far into the network that is known.

Where a run kept a document token by token (the ends of each ranking, which its report explains; all, after
``--by token``) its tokens are coloured; so for its layers (``--by layer``). Nothing is computed with the model here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whence.jobs.opened import Answers
from whence.jobs.opened.shown import read_shown
from whence.jobs.serve.columns import words_for
from whence.jobs.serve.explored import Explored
from whence.jobs.serve.order import Moved
from whence.jobs.serve.question import Said, said_of
from whence.report.excerpt import shown_on_tokens, standing
from whence.report.numbers import largest, level, level_class, signed
from whence.report.pieces import Piece, display, surface

PART = 2000
"""Tokens of a page."""
VIEWS = {
    "gradient": "where the gradient arises",
    "output": "output tokens",
    "input": "input tokens",
}
"""Attributions, as the report calls them."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is drawn, or a run of them that look alike."""

    text: str
    style: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A stretch of a document."""

    tokens: list[Token]
    start: int
    stop: int
    total: int
    """Tokens of the whole document."""
    view: str | None
    """Which attribution colours it; None where it is not coloured."""
    views: list[str]
    """Those that were kept."""
    top: float
    """The strongest colour, in nats per copy."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's part in a document's score."""

    name: str
    per_copy: float
    share: int
    """Of the largest, in percent."""


@dataclass(frozen=True, slots=True)
class Moves:
    """A question in the list of those that a document moves."""

    said: Said
    per_copy: float
    standing: str
    rank: int
    of: int
    share: int


@dataclass(frozen=True)
class Values:
    """What was kept of one document against one question, in nats per copy."""

    by_view: dict[str, list[float]]
    """Attribution → a value for every token, on the token it is drawn on."""
    layers: NDArray[np.float64] | None


def values_of(explored: Explored, answers: Answers, question: int, document: int) -> Values:
    """What the run kept; nothing is computed."""
    store, n = explored.store, answers.train_size
    count = len(store.document_tokens(document))
    shown = read_shown(answers.folder, question, document)
    if shown is not None and len(shown.tokens) == count:
        views = {
            "gradient": shown_on_tokens((shown.by_token / n).tolist(), count),
            "output": shown_on_tokens((shown.output_tokens / n).tolist(), count),
            "input": (shown.input_tokens / n).tolist(),
        }
        return Values({name: values for name, values in views.items() if values}, shown.by_layer / n)
    by_token, layers = answers.tokens_of(question, document, store), answers.layers_of(question, document, store)
    views = {} if by_token is None else {"gradient": shown_on_tokens((by_token / n).tolist(), count)}
    return Values(views, None if layers is None else layers / n)


def text_of(explored: Explored, document: int, part: int, values: Values | None, view: str | None) -> Text:
    """A page of a document's tokens, from 1, coloured by one of what was kept."""
    ids = explored.store.document_tokens(document)
    start = (part - 1) * PART
    some = ids[start : start + PART].tolist()
    pieces = display(surface(explored.run.tokenizer.convert_ids_to_tokens(some), explored.style))
    views = [] if values is None else list(values.by_view)
    chosen = view if view in views else views[0] if views else None
    every = values.by_view[chosen] if values is not None and chosen is not None else []
    top = largest(every)
    tokens = _coloured(pieces, every[start:], top) if every else _plain(pieces)
    return Text(tokens, start, start + len(some), len(ids), chosen, views, top)


def _coloured(pieces: Sequence[Piece], values: Sequence[float], top: float) -> list[Token]:
    """Every token by itself, with its value; later bytes of a character keep a place for theirs."""
    found = []
    for piece, value in zip(pieces, values, strict=False):
        later = piece.kind == "bytes" and not piece.read
        style = filter(None, [level_class(level(value, top)), piece.kind, "later" if later else ""])
        title = f"{signed(value)} nats per copy" + (f" · bytes {piece.raw}" if piece.raw else "")
        found.append(Token(piece.read, " ".join(style), title))
    return found


def _plain(pieces: Sequence[Piece]) -> list[Token]:
    """The text, special tokens apart from the rest."""
    runs = groupby(pieces, lambda piece: "special" if piece.kind == "special" else "")
    return [Token("".join(piece.read for piece in run), style) for style, run in runs]


def layers_of(answers: Answers, values: Values | None) -> list[Layer]:
    """The layers in the model's order; nothing where their parts were not kept."""
    if values is None or values.layers is None or len(values.layers) != len(answers.layers):
        return []
    top = largest(values.layers)
    return [
        Layer(name, float(part), round(100 * abs(part) / top) if top else 0)
        for name, part in zip(answers.layers, values.layers, strict=True)
    ]


def moves_of(answers: Answers, moved: Sequence[Moved], top: float) -> list[Moves]:
    """Questions of a page, with what they ask."""
    return [
        Moves(
            said_of(answers, one.question),
            one.per_copy,
            standing(one.per_copy, one.below),
            one.rank,
            one.of,
            round(100 * abs(one.per_copy) / top) if top else 0,
        )
        for one in moved
    ]


def facts_of(explored: Explored, row: dict[str, Any], document: int) -> list[tuple[str, str]]:
    """Where a document lies and how long it is."""
    sequences = len(explored.store.sequences_of(document))
    return [
        ("document", f"{document}"),
        ("source", str(row["source"])),
        ("row", str(row["row"])),
        ("tokens", f"{row['tokens']:,}"),
        ("of them scored", f"{row['scored']:,}"),
        *([("windows", f"{sequences:,}")] if sequences > 1 else []),
        ("content hash", str(row["hash"])),
    ]


def metadata_of(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Every other field of its row, whole."""
    return [(name, words_for(value)) for name, value in row["metadata"].items()]
