"""A list of documents as a page shows it: asked for in an address, searched, chosen, sorted, and cut into pages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from whence.errors import InvalidSetting
from whence.jobs.opened import Answers
from whence.jobs.serve.columns import Column, chosen_of, names_of, words_for
from whence.jobs.serve.explored import BY_INFLUENCE, Explored, Sort, Wanted
from whence.jobs.serve.gate import Refused
from whence.jobs.serve.order import Ranking, Slice, slice_of
from whence.jobs.summary import place
from whence.report.excerpt import Run as Span
from whence.report.excerpt import standing

FIELDS = {"q", "sort", "by", "page", "copies", "answers"}
"""Parameters of a list, beside those of the columns."""
PATIENCE = 1.5
"""Seconds that a search waits for the text to be read before its page says how far that is."""
ROOM, LEAD = 260, 90
"""Characters quoted of a document, and of them before the first word that was looked for."""
OPENING = 120
"""Tokens of a document that are read to quote how it begins."""
MOST_TOKENS = 50_000
"""Tokens of a document that are read to quote the place where a word stands."""
MOST_FACTS = 6


@dataclass(frozen=True, slots=True)
class Row:
    """One document of a list."""

    document: int
    rank: int
    """Its place in the list."""
    where: str
    spans: list[Span]
    """What it says, the words that were looked for marked."""
    more: bool
    """Whether there is more of it than is quoted."""
    metadata: list[tuple[str, str]]
    per_copy: float | None = None
    """Of the question that the list is about."""
    share: int = 0
    """Of the largest score on that question, in percent."""
    standing: str = ""


@dataclass(frozen=True)
class Listed:
    """What a page shows of a list."""

    wanted: Wanted
    values: Mapping[str, str]
    """What the address asked, to be asked again of another page."""
    columns: Sequence[Column]
    rows: Slice[Row]
    waiting: tuple[int, int] | None = None
    """Documents read, of how many, where a search has to wait for their text."""
    problem: str = ""
    """Why the text could not be read."""


def wanted_of(explored: Explored, values: Mapping[str, str], sort: Sort) -> Wanted:
    """What an address asks for.

    Args:
        sort: The order where it does not say.

    Raises:
        Refused: If it asks for what cannot be.
    """
    sorts = get_args(Sort)
    if values.get("sort", sort) not in sorts:
        raise Refused(400, f"Documents are sorted by one of: {', '.join(sorts)}.")
    copies = whole(values, "copies", 0, explored.store.documents - 1)
    try:
        chosen = tuple(chosen_of(explored.columns, values))
    except InvalidSetting as error:
        raise Refused(400, f"{error.message[:1].upper()}{error.message[1:]}: {error.hint}.") from error
    return Wanted(
        text=values.get("q", ""),
        chosen=chosen,
        copies=copies,
        sort=values.get("sort", sort),  # type: ignore[arg-type]
        question=whole(values, "by", 0, 10**9) or 0,
    )


def listed(explored: Explored, answers: Answers | None, values: Mapping[str, str], wanted: Wanted) -> Listed:
    """The page of a list that an address asks for.

    Raises:
        Refused: If it asks for what cannot be.
        ArtifactError: If the run lacks what is asked.
    """
    only(values, FIELDS | names_of(explored.columns))
    page = whole(values, "page", 1, 10**9) or 1
    empty = Listed(wanted, values, explored.columns, Slice([], page, 0))
    if wanted.words and not explored.text.ready(PATIENCE):
        text = explored.text
        if text.problem is not None:
            return Listed(wanted, values, explored.columns, empty.rows, problem=text.problem)
        return Listed(wanted, values, explored.columns, empty.rows, waiting=(text.done, explored.store.documents))
    found = explored.documents(wanted, answers)
    some = slice_of(found.tolist(), page)
    ranking = None
    if answers is not None and wanted.sort in BY_INFLUENCE:
        ranking = explored.ranking(answers, wanted.question)
    scores = [None if ranking is None else float(ranking.per_copy[document]) for document in some.items]
    rows = [
        row_of(explored, document, some.first + k, wanted.words, score, ranking)
        for k, (document, score) in enumerate(zip(some.items, scores, strict=True))
    ]
    return Listed(wanted, values, explored.columns, Slice(rows, some.number, some.total))


def only(values: Mapping[str, str], names: set[str]) -> None:
    """Refuse what a page does not know.

    Raises:
        Refused: If an address has a parameter of another name.
    """
    if not values.keys() <= names:
        raise Refused(400, "This address has a parameter that the page does not know.")


def whole(values: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    """A whole number of an address; None where it is not given.

    Raises:
        Refused: If it is none, or out of range.
    """
    text = values.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and least <= int(text) <= most):
        raise Refused(400, f"The parameter {name} of this address must be a whole number from {least} to {most}.")
    return int(text)


def row_of(
    explored: Explored,
    document: int,
    rank: int,
    words: Sequence[str] = (),
    per_copy: float | None = None,
    ranking: Ranking | None = None,
) -> Row:
    """A document in a list.

    Args:
        words: What was looked for, folded.
        per_copy: Its score, where the list is about a question; from ``ranking`` its place among all.
    """
    row = explored.store.row(document)
    spans, more = _quoted(explored, document, int(row["tokens"]), words)
    facts = [(name, _brief(value)) for name, value in list(row["metadata"].items())[:MOST_FACTS]]
    where = place(row)
    if ranking is None or per_copy is None:
        return Row(document, rank, where, spans, more, facts, per_copy)
    share = round(100 * abs(per_copy) / ranking.top) if ranking.top else 0
    return Row(document, rank, where, spans, more, facts, per_copy, share, standing(per_copy, ranking.below(document)))


def _quoted(explored: Explored, document: int, count: int, words: Sequence[str]) -> tuple[list[Span], bool]:
    """How a document begins, or what stands about the first word that was looked for."""
    pattern = _pattern(words)
    if pattern is None:
        text = explored.text.reader.text(document, OPENING)
        short = text if len(text) <= ROOM else text[:ROOM]
        whole_text = len(text) <= ROOM and count <= OPENING
        return [Span(short if whole_text else short.rstrip("\ufffd"), "")], not whole_text
    text = explored.text.reader.text(document, MOST_TOKENS)
    first = pattern.search(text)
    start = max(0, first.start() - LEAD) if first is not None and len(text) > ROOM else 0
    if start:  # a quotation begins with a word, where there are any
        start = next((at.end() for at in re.finditer(r"\s", text[: start + 20]) if at.end() >= start), start)
    part = text[start : start + ROOM]
    spans, at = [Span("… ", "cut")] if start else [], 0
    for hit in pattern.finditer(part):
        spans += [Span(part[at : hit.start()], ""), Span(hit[0], "hit")]
        at = hit.end()
    return [*spans, Span(part[at:], "")], start + ROOM < len(text)


def _pattern(words: Sequence[str]) -> re.Pattern[str] | None:
    """The words as they may be written: in any case, over any spaces."""
    if not words:
        return None
    parts = (r"\s+".join(map(re.escape, word.split(" "))) for word in sorted(words, key=len, reverse=True))
    return re.compile("|".join(parts), re.IGNORECASE)


def _brief(value: Any) -> str:
    text = " ".join(words_for(value).split())
    return text if len(text) <= 80 else text[:79] + "…"
