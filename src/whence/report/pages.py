"""One compressed page a question: what the script needs to draw its documents, read when the question is opened.

JSON, deflated, in base64, inside a ``<script type="text/plain">``: 14 questions of 40 documents fit in a few MB, the
browser parses none of it before it is wanted, and no byte of training text can end the script element.

Values travel as whole numbers of a step, ``value = step × number``: a ten-thousandth of the largest for tokens, a
127th of it for a heat map's cells. Sums shown beside them are computed here, from the values themselves.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from whence.report.excerpt import shown_on_tokens
from whence.report.model import Doc, Question
from whence.report.numbers import largest
from whence.report.pieces import display, visible

FINE = 9999
COARSE = 127


def page(question: Question) -> str:
    """The page of one question, in base64."""
    content = {
        "layers": [visible(name) for name in question.layers],
        "groups": [visible(name) for name in question.groups],
        "raises": [_doc(question, doc) for doc in question.raises],
        "lowers": [_doc(question, doc) for doc in question.lowers],
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
    return base64.b64encode(squeeze.compress(text.encode()) + squeeze.flush()).decode()


def _doc(question: Question, doc: Doc) -> dict[str, Any]:
    """One document: pieces, and each view of it that was computed."""
    pieces, tokens = display(doc.tokens), len(doc.tokens)
    content: dict[str, Any] = {
        "tokens": [piece.text for piece in pieces],
        "kinds": {k: piece.kind for k, piece in enumerate(pieces) if piece.kind},
        "raw": {k: piece.raw for k, piece in enumerate(pieces) if piece.raw},
        "total": _number(doc.score_per_copy),
    }
    if doc.windows:
        content["windows"] = doc.windows
    unscored = [k for k, mark in enumerate(doc.scored) if k and not mark]  # the first never is: nothing predicts it
    if unscored:
        content["unscored"] = unscored
    views = {
        "gradient": shown_on_tokens(doc.by_token, tokens),
        "output": shown_on_tokens(doc.output_tokens or [], tokens),
        "input": list(doc.input_tokens or [])[:tokens],
    }
    content["views"] = {
        name: _steps(values, FINE) | {"sum": _number(sum(values))} for name, values in views.items() if values
    }
    if doc.by_layer:
        content["layers"] = _steps(doc.by_layer, FINE)
    if doc.heat:
        cells = [shown_on_tokens(row, tokens) for row in doc.heat]
        top = max(largest(row) for row in cells)
        content["heat"] = {
            "step": _number(top / COARSE),
            "rows": [_whole(row, top / COARSE) for row in cells],
            "sums": _steps([sum(row) for row in cells], FINE),
        }
    return content


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


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None
