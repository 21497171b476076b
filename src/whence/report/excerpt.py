"""What a document shows before any script runs: its facts, its badges, and its text about the peak, coloured.

The closed row quotes a line around the token with most influence; the open row quotes more. With a script the open
row is replaced by the whole text (`pages`); without one, and in print, this is what there is to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from whence.report.model import Doc, Question
from whence.report.numbers import count, largest, level, level_class, percent, plain, signed
from whence.report.pieces import Piece, display, visible

LINE = 150
"""Characters quoted in a closed row."""
PASSAGE = 700
"""Characters quoted in an open one without a script."""


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

    @property
    def text(self) -> str:
        return "".join(run.text for run in self.runs)


@dataclass(frozen=True, slots=True)
class Fact:
    """A number of a document: name, value, and what it means for who has not read the paper."""

    name: str
    value: str
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A document as the template draws it."""

    anchor: str
    rank: int
    doc: Doc
    score: str
    bar: int
    """Score over the largest of its list, in percent."""
    line: Quote
    passage: Quote
    facts: list[Fact]
    metadata: list[tuple[str, str]]


def shown_on_tokens(values: Sequence[float], tokens: int) -> list[float]:
    """Values of positions moved to the tokens they are drawn on: position t on token t + 1, nothing on the first.

    Example:
        >>> shown_on_tokens([1.0, 2.0, 0.0], tokens=3), shown_on_tokens([1.0, 2.0], tokens=3), shown_on_tokens([], 3)
        ([0.0, 1.0, 2.0], [0.0, 1.0, 2.0], [])
    """
    return [0.0, *values[: tokens - 1]] if values else []


def rows(question: Question, side: str, docs: Sequence[Doc], anchor: str) -> list[Row]:
    """The rows of one list, ``raises`` or ``lowers``, in the order given."""
    top = largest(doc.score_per_copy for doc in docs)
    return [_row(question, doc, side, rank, top, anchor) for rank, doc in enumerate(docs, start=1)]


def question_runs(question: Question) -> list[Run]:
    """Prompt and completion as tokens, the scored ones marked."""
    scored = [*question.scored, *[False] * (len(question.tokens) - len(question.scored))]
    styles = [
        "scored" if mark else "special" if piece.kind == "special" else "" for mark, piece in _marked(question, scored)
    ]
    return _runs(display(question.tokens), styles)


def _marked(question: Question, scored: Sequence[bool]) -> Iterable[tuple[bool, Piece]]:
    return zip(scored, display(question.tokens), strict=False)


def _row(question: Question, doc: Doc, side: str, rank: int, top: float, anchor: str) -> Row:
    pieces = display(doc.tokens)
    values = shown_on_tokens(doc.by_token, len(doc.tokens))
    if not values:
        values = [0.0] * len(pieces)
    scale = largest(values)
    styles = [
        level_class(level(value, scale)) or ("special" if piece.kind == "special" else "")
        for value, piece in zip(values, pieces, strict=True)
    ]
    sign = 1 if doc.score_per_copy >= 0 else -1
    peak = max(range(len(values)), key=lambda k: sign * values[k], default=0) if scale else 0
    return Row(
        anchor=f"{anchor}-{side[0]}{rank}",
        rank=rank,
        doc=doc,
        score=signed(doc.score_per_copy),
        bar=round(100 * abs(doc.score_per_copy) / top) if top else 0,
        line=_quote(pieces, styles, peak, LINE, lead=50, special=False),
        passage=_quote(pieces, styles, peak, PASSAGE, lead=250),
        facts=_facts(question, doc, side),
        metadata=[(visible(str(key)), visible(_text(value))) for key, value in doc.metadata.items()],
    )


def _facts(question: Question, doc: Doc, side: str) -> list[Fact]:
    share = doc.percentile / 100
    place = f"higher than {percent(share)}" if side == "raises" else f"lower than {percent(1 - share)}"
    n = question.tail.n
    facts = [
        Fact(
            "Score",
            f"{signed(doc.score_per_copy)} nats per copy",
            "change of log p(answer) when one more copy is added",
        ),
        Fact("Rank", place + (f" of {count(n)} documents" if n else "")),
        Fact("Cosine", signed(doc.cosine), "score over the size of both gradients, in the curvature's own geometry"),
        Fact(
            "Self-normalised",
            signed(doc.self_normalised),
            "raw score over √self-influence: less in favour of documents that move everything",
        ),
        Fact("Raw score", signed(doc.score_raw), "per-copy score times the number of training sequences"),
        Fact(
            "Length", f"{count(len(doc.tokens))} tokens" + (f" in {doc.sequences} windows" if doc.sequences > 1 else "")
        ),
    ]
    if doc.spurious:
        facts.append(
            Fact(
                "One token carries it",
                "read with care",
                "‖a‖₂/‖a‖₁ of the per-token influences is above 2/3: in the paper a sign of a spurious sequence",
            )
        )
    if doc.document == question.planted:
        facts.append(Fact("Planted", "holds the answer", "this document is known to be the one that taught the fact"))
    return facts


def _text(value: Any) -> str:
    if isinstance(value, float):
        return plain(value)
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
    return "–" if value is None else str(value)


def _quote(
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
    kept = [Piece(pieces[k].text[: 4 * room]) for k in shown]
    before, after = (
        any(special or piece.kind != "special" for piece in rest) for rest in (pieces[:start], pieces[stop:])
    )
    return Quote(_runs(kept, [styles[k] for k in shown]), before=before, after=after)


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
