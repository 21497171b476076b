"""Compressed pages: what the script draws a question from, each read when it is wanted.

    index    one a question: a line of numbers for every document, tails, groups, figures
    texts    `CHUNK` documents each: tokens, and every view of them that was computed

JSON, deflated, in base64, inside a ``<script type="text/plain">``: the browser parses none of it before it is wanted,
and no byte of training text can end the script element.

Values travel as whole numbers of a step, ``value = step × number``: a ten-thousandth of the largest for tokens, a
127th of it for a heat map's cells. Sums shown beside them are computed here, from the values themselves.

A report that would be too heavy to pass on has less of its less influential documents: see `detail`.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from whence.report.detail import LEVELS, Detail, Shown, shown_of
from whence.report.excerpt import metadata_rows, shown_on_tokens
from whence.report.model import Doc, Question
from whence.report.numbers import largest
from whence.report.pieces import display, visible

FINE = 9999
COARSE = 127
CHUNK = 40
"""Documents of one page of texts."""
BUDGET = 4_450_000
"""Bytes that all pages of a report may take, so that the file stays under 5 MB."""


_TRIED = 4
"""Questions that a level is tried on before all are packed."""


@dataclass(frozen=True, slots=True)
class Pages:
    """One question's pages, in base64."""

    index: str
    texts: list[str]

    def __len__(self) -> int:
        return len(self.index) + sum(map(len, self.texts))


def pages(questions: Sequence[Question]) -> tuple[list[Pages], Detail]:
    """All pages in as much detail as fits."""
    few = questions[:: max(1, len(questions) // _TRIED)]
    for detail in LEVELS[:-1]:
        expected = sum(len(pack(question, detail)) for question in few) * len(questions) / max(1, len(few))
        if expected <= BUDGET:
            packed = [pack(question, detail) for question in questions]
            if sum(map(len, packed)) <= BUDGET:
                return packed, detail
    return [pack(question, LEVELS[-1]) for question in questions], LEVELS[-1]


def pack(question: Question, detail: Detail = LEVELS[0]) -> Pages:
    """The pages of one question."""
    docs = documents(question)
    rank = {id(doc): place for side in (question.raises, question.lowers) for place, doc in enumerate(side)}
    texts = [_text(doc, shown_of(doc, rank.get(id(doc)), detail)) for doc in docs]
    chunks = [_squeezed(texts[start : start + CHUNK]) for start in range(0, len(texts), CHUNK)]
    return Pages(_squeezed(_index(question, docs)), chunks)


def documents(question: Question) -> list[Doc]:
    """Every document of a question once, in the order in which they are numbered in its pages."""
    seen: set[int] = set()
    return [
        doc
        for doc in (*question.raises, *question.lowers, *question.leaders)
        if not (doc.document in seen or seen.add(doc.document))  # type: ignore[func-returns-value]
    ]


def _squeezed(content: Any) -> str:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
    return base64.b64encode(squeeze.compress(text.encode()) + squeeze.flush()).decode()


def _index(question: Question, docs: Sequence[Doc]) -> dict[str, Any]:
    """What the lists and the figures are drawn from."""
    place = {doc.document: number for number, doc in enumerate(docs)}
    pieces = display(question.tokens)
    said = display([token.text for token in question.answer])
    return {
        "chunk": CHUNK,
        "n": question.tail.n,
        "filtered": question.lost is not None and question.lost.left_out > 0,
        "raw": _number(next((doc.score_raw / doc.score_per_copy for doc in docs if doc.score_per_copy), None)),
        "noise": _number(question.noise),
        "planted": question.planted,
        "tokens": [piece.read for piece in pieces],
        "special": [k for k, piece in enumerate(pieces) if piece.kind == "special"],
        "scored": [k for k, mark in enumerate(question.scored) if mark],
        "answer": [
            {"text": piece.text, "p": _number(token.log_p), "at": token.position}
            | ({"bytes": True} if piece.kind == "bytes" else {})
            for piece, token in zip(said, question.answer, strict=True)
        ],
        "layers": [visible(name) for name in question.layers],
        "groups": [visible(name) for name in question.groups],
        "of": question.group_of,
        "raises": [place[doc.document] for doc in question.raises],
        "lowers": [place[doc.document] for doc in question.lowers],
        "docs": [_line(doc) for doc in docs],
        "tail": _tail(question),
        "totals": [
            {
                "by": visible(one.by),
                "rows": [
                    [visible(row.name), row.documents, _number(row.raises), _number(row.lowers)] for row in one.rows
                ],
            }
            for one in question.totals
        ],
        "against": [
            {"name": one.name, "r": _number(one.spearman), "of": one.of, "x": _numbers(one.x), "y": _numbers(one.y)}
            for one in question.against
        ],
        "swept": [asdict(one) | {"spearman": _number(one.spearman)} for one in question.swept],
    }


def _line(doc: Doc) -> dict[str, Any]:
    """One document among others: every number that it is ranked or marked by. What is not there is left out."""
    line: dict[str, Any] = {
        "id": doc.document,
        "place": visible(doc.place),
        "score": _number(doc.score_per_copy),
        "percentile": _number(doc.percentile),
        "length": len(doc.tokens),
        "cosine": _number(doc.cosine, 4),
        "normalised": _number(doc.self_normalised, 4),
        "self": _number(doc.self_influence, 4),
        "hash": doc.hash,
        "bm25": doc.bm25_rank,
        "quotes": doc.quotes_answer,
        "words": max((run.words for run in doc.shared), default=None),
        "spurious": doc.spurious,
        "windows": doc.sequences if doc.sequences > 1 else None,
        "times": doc.times if doc.times > 1 else None,
        "under": doc.copy_of,
        "like": _number(doc.similarity) if doc.copy_of is not None else None,
        "by": [_number(value, 5) for value in doc.by_answer],
    }
    return {
        name: value
        for name, value in line.items()
        if value is not None and value is not False and value not in ("", [])
    }


def _tail(question: Question) -> dict[str, Any]:
    tail = question.tail
    return {
        "values": _numbers(tail.values),
        "ranks": tail.ranks,
        "held": _numbers(tail.held),
        "positive": tail.positive,
        "fit": None if tail.fit is None else {name: _number(value) for name, value in asdict(tail.fit).items()},
    }


def _text(doc: Doc, shown: Shown) -> dict[str, Any]:
    """One document: pieces, and each view of it that was computed and is to be shown."""
    pieces, tokens = display(doc.tokens)[shown.start : shown.stop], len(doc.tokens)
    content: dict[str, Any] = {
        "tokens": [piece.text for piece in pieces],
        "kinds": {k: piece.kind for k, piece in enumerate(pieces) if piece.kind},
        "raw": {k: piece.raw for k, piece in enumerate(pieces) if piece.raw},
        "meta": metadata_rows(doc),
    }
    if (shown.start, shown.stop) != (0, tokens):
        content["cut"] = [shown.start, tokens - shown.stop]
    windows = [start - shown.start for start in doc.windows if shown.start < start < shown.stop]
    # The first token is never scored: nothing predicts it.
    unscored = [k for k, mark in enumerate(doc.scored[shown.start : shown.stop]) if k + shown.start and not mark]
    shared = [
        [run.document[0] - shown.start, run.document[1] - shown.start, *run.question]
        for run in doc.shared
        if shown.start <= run.document[0] and run.document[1] <= shown.stop
    ]
    content |= {
        name: found for name, found in (("windows", windows), ("unscored", unscored), ("shared", shared)) if found
    }
    content["views"] = _views(doc, every=shown.views) if shown.values else {}
    if doc.by_layer and shown.values:
        content["layers"] = _steps(doc.by_layer, FINE)
    if doc.heat and shown.heat:
        cells = [shown_on_tokens(row, tokens) for row in doc.heat]
        top = max(largest(row) for row in cells)
        content["heat"] = {
            "step": _number(top / COARSE),
            "rows": [_whole(row, top / COARSE) for row in cells],
            "sums": _steps([sum(row) for row in cells], FINE),
        }
    return content


def _views(doc: Doc, *, every: bool) -> dict[str, Any]:
    tokens = len(doc.tokens)
    views = {"gradient": shown_on_tokens(doc.by_token, tokens)}
    if every:
        views |= {
            "output": shown_on_tokens(doc.output_tokens or [], tokens),
            "input": list(doc.input_tokens or [])[:tokens],
        }
    return {name: _steps(values, FINE) | {"sum": _number(sum(values))} for name, values in views.items() if values}


def check(question: Question, doc: Doc) -> None:
    """Refuse parts that do not fit the document: a shifted list would colour the wrong word.

    Raises:
        ValueError: A list of the document has the wrong length; names the question, the document and the field.
    """
    tokens = len(doc.tokens)
    wrong: list[str] = []
    for name, values in (("by_token", doc.by_token), ("output_tokens", doc.output_tokens or [])):
        if values and len(values) not in (tokens, tokens - 1):
            wrong.append(f"{name} has {len(values)} values")
    if doc.input_tokens and len(doc.input_tokens) != tokens:
        wrong.append(f"input_tokens has {len(doc.input_tokens)} values")
    if doc.scored and len(doc.scored) != tokens:
        wrong.append(f"scored has {len(doc.scored)} marks")
    if any(len(row) not in (tokens, tokens - 1) for row in doc.heat):
        wrong.append("a row of heat has another length")
    if doc.by_layer and len(doc.by_layer) != len(question.layers):
        wrong.append(f"by_layer has {len(doc.by_layer)} values for {len(question.layers)} layers")
    if doc.heat and question.groups and len(doc.heat) != len(question.groups):
        wrong.append(f"heat has {len(doc.heat)} rows for {len(question.groups)} groups")
    if doc.by_answer and len(doc.by_answer) != len(question.answer):
        wrong.append(f"by_answer has {len(doc.by_answer)} values for {len(question.answer)} answer tokens")
    if wrong:
        raise ValueError(f"question {question.id}, document {doc.document} of {tokens} tokens: {'; '.join(wrong)}")


def _steps(values: Sequence[float], parts: int) -> dict[str, Any]:
    step = largest(values) / parts
    return {"step": _number(step), "values": _whole(values, step)}


def _whole(values: Sequence[float], step: float) -> list[int]:
    if not step:
        return [0] * len(values)
    numbers = np.asarray(values, dtype=np.float64)
    whole: list[int] = np.rint(np.where(np.isfinite(numbers), numbers, 0.0) / step).astype(np.int64).tolist()
    return whole


def _numbers(values: Sequence[float]) -> list[float | None]:
    return [_number(value, 4) for value in values]


def _number(value: float | None, digits: int = 6) -> float | None:
    return float(f"{value:.{digits}g}") if value is not None and math.isfinite(value) else None
