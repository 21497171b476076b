"""The tokens of one answer as measurements of their own, and the documents that lead for one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from whence.data.answer_tokens import AnswerTokens, by_answer
from whence.influence.topk import TopK
from whence.jobs.opened import Run, by_document
from whence.jobs.query import DENSE_ELEMENTS
from whence.report.model import AnswerToken

MOST_TOKENS = 256
"""Answer tokens that a report tells apart: more than this nobody picks from, and each is a gradient to be made."""
LEADERS = 3
"""Documents at either end for one answer token that are taken into the report for its sake."""


def answer_tokens(run: Run, row: int) -> AnswerTokens | None:
    """The answer taken apart; None where it is one token, or too many to make a gradient of each."""
    session = run.session
    tokens = by_answer(session.parts_of(row))
    weights = sum(block.eigenvalues.numel() for block in session.curvature.blocks.values())
    return tokens if 1 < len(tokens) <= MOST_TOKENS and len(tokens) * weights <= DENSE_ELEMENTS else None


def said(run: Run, tokens: AnswerTokens, measured: NDArray[np.float64]) -> list[AnswerToken]:
    """The answer's tokens as a report tells them, with the log-probability of each."""
    texts = run.session.surface(tokens.token.tolist())
    first = int(tokens.part.min())
    return [
        AnswerToken(text=text, log_p=float(log_p), position=position + 1 if part == first else None)
        for text, log_p, part, position in zip(
            texts, measured, tokens.part.tolist(), tokens.position.tolist(), strict=True
        )
    ]


def leaders_of(run: Run, row: int, shown: Sequence[int]) -> list[int]:
    """Documents that are not shown and lead at either end for one of the answer's tokens, where those were kept."""
    session = run.session
    if session.answer is None or session.scores.by_answer is None:
        return []
    mine = session.answer.query == row
    scores: NDArray[np.float64] = by_document(session.scores.by_answer[mine].numpy(), session.store)
    if session.filtered is not None:
        scores = session.filtered.ranked(scores, [row] * len(scores))
    found: dict[int, None] = {}
    for values in scores:
        ends = TopK.of(values, LEADERS)
        found |= dict.fromkeys(int(document) for document in (*ends.highest, *ends.lowest))
    return [document for document in found if document not in set(shown)]
