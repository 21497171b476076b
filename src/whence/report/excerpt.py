"""A document quoted about its peak: what a reader without scripts sees of it, and what a crowded report keeps of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from whence.report.model import Doc, Question
from whence.report.numbers import largest, level, level_class, percent, plain, signed
from whence.report.pieces import Piece, display, visible

LINE = 150
"""Characters of an overview's quotation."""
PASSAGE = 500
"""Characters quoted of a document where no script shows the whole."""


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring tokens of one style."""

    text: str
    style: str


@dataclass(frozen=True, slots=True)
class Quote:
    """A stretch of a document, and whether text was left out before and after it."""

    runs: list[Run]
    before: bool
    after: bool
    start: int = 0
    stop: int = 0
    """The tokens quoted."""

    @property
    def text(self) -> str:
        return "".join(run.text for run in self.runs)


@dataclass(frozen=True, slots=True)
class Row:
    """A document as the template draws it, for readers without scripts."""

    rank: int
    doc: Doc
    score: str
    standing: str
    """Its place among all documents, in words."""
    line: Quote
    passage: Quote
    metadata: list[list[str]]


def shown_on_tokens(values: Sequence[float], tokens: int) -> list[float]:
    """Values of positions moved to the tokens they are drawn on: position t on token t + 1, nothing on the first.

    Example:
        >>> shown_on_tokens([1.0, 2.0, 0.0], tokens=3), shown_on_tokens([1.0, 2.0], tokens=3), shown_on_tokens([], 3)
        ([0.0, 1.0, 2.0], [0.0, 1.0, 2.0], [])
    """
    return [0.0, *values[: tokens - 1]] if values else []


def standing(score: float, share: float) -> str:
    """A document's place among all, in words, from its score and the share of documents with a lower one.

    Example:
        >>> standing(0.2, 0.25), standing(-0.2, 0.25)
        ('higher than 25\u202f%', 'lower than 75\u202f%')
    """
    return f"higher than {percent(share)}" if score >= 0 else f"lower than {percent(1 - share)}"


def rows(question: Question, docs: Sequence[Doc], most: int) -> list[Row]:
    """The first rows of one end of the ranking, copies left out."""
    own = [doc for doc in docs if doc.copy_of is None][:most]
    return [_row(question, doc, rank) for rank, doc in enumerate(own, start=1)]


def question_runs(question: Question) -> list[Run]:
    """Prompt and completion as tokens, the scored ones marked."""
    pieces = display(question.tokens)
    scored = [*question.scored, *[False] * (len(pieces) - len(question.scored))]
    marks = zip(scored, pieces, strict=False)
    return _runs(
        [Piece(piece.read) for piece in pieces],
        ["scored" if m else "special" if piece.kind == "special" else "" for m, piece in marks],
    )


def metadata_rows(doc: Doc) -> list[list[str]]:
    """Every column, as text that does not act."""
    return [[visible(str(key)), visible(_text(value))] for key, value in doc.metadata.items()]


def peak_of(doc: Doc) -> int:
    """The token on which the most of the document's influence is drawn; the first where there are no values."""
    values = shown_on_tokens(doc.by_token, len(doc.tokens))
    sign = 1 if doc.score_per_copy >= 0 else -1
    return max(range(len(values)), key=lambda k: sign * values[k], default=0) if largest(values) else 0


def _row(question: Question, doc: Doc, rank: int) -> Row:
    pieces = display(doc.tokens)
    values = shown_on_tokens(doc.by_token, len(doc.tokens)) or [0.0] * len(pieces)
    scale = largest(values)
    styles = [
        level_class(level(value, scale)) or ("special" if piece.kind == "special" else "")
        for value, piece in zip(values, pieces, strict=True)
    ]
    peak = peak_of(doc)
    return Row(
        rank=rank,
        doc=doc,
        score=signed(doc.score_per_copy),
        standing=standing(doc.score_per_copy, doc.percentile / 100),
        line=quote(pieces, styles, peak, LINE, lead=50, special=False),
        passage=quote(pieces, styles, peak, PASSAGE, lead=250),
        metadata=metadata_rows(doc),
    )


def _text(value: Any) -> str:
    if isinstance(value, float):
        return plain(value)
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
    return "–" if value is None else str(value)


def quote(
    pieces: Sequence[Piece], styles: Sequence[str], peak: int, room: int, lead: int, special: bool = True
) -> Quote:
    """As many whole tokens as fit in ``room`` characters, beginning ``lead`` characters before the peak if need be."""
    if not pieces:
        return Quote([], before=False, after=False)
    start = 0
    if sum(len(piece.text) for piece in pieces) > room:
        # A peak near the end leaves room before it; a quotation begins with a word, where the script has any.
        start = min(_back(pieces, peak, lead), _back(pieces, len(pieces), room))
        words = (k for k in range(start, min(start + 8, peak + 1)) if pieces[k].text[:1].isspace())
        start = next(words, start) if start else 0
    stop, spent = start, 0
    while stop < len(pieces) and (spent + len(pieces[stop].text) <= room or stop == start):
        spent += len(pieces[stop].text)
        stop += 1
    # One token can be longer than the room: a quotation is never longer than a few rooms.
    shown = [k for k in range(start, stop) if special or pieces[k].kind != "special"]
    kept = [Piece(pieces[k].read[: 4 * room]) for k in shown]
    for left, right in pairwise(range(len(shown))):  # a word does not run into that of another turn
        if shown[right] > shown[left] + 1 and not (kept[left].text[-1:].isspace() or kept[right].text[:1].isspace()):
            kept[left] = Piece(kept[left].text + " ")
    before, after = (
        any(special or piece.kind != "special" for piece in rest) for rest in (pieces[:start], pieces[stop:])
    )
    return Quote(_runs(kept, [styles[k] for k in shown]), before, after, start, stop)


def _back(pieces: Sequence[Piece], stop: int, room: int) -> int:
    """The first token from which the text up to ``stop`` fits into ``room`` characters."""
    start, spent = stop, 0
    while start > 0 and spent + len(pieces[start - 1].text) <= room:
        start -= 1
        spent += len(pieces[start].text)
    return start


def _runs(pieces: Sequence[Piece], styles: Sequence[str]) -> list[Run]:
    runs: list[Run] = []
    for piece, style in zip(pieces, styles, strict=True):
        if runs and runs[-1].style == style:
            runs[-1] = Run(runs[-1].text + piece.text, style)
        else:
            runs.append(Run(piece.text, style))
    return runs
