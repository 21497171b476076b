"""The tokens of one answer as measurements of their own, and the documents that lead for one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whence.data.queries import AnswerTokens, by_answer
from whence.influence.query import Queries
from whence.influence.topk import TopK
from whence.jobs.opened import Run, by_document
from whence.jobs.query import DENSE_ELEMENTS, query_gradients
from whence.report.model import AnswerToken

MOST_TOKENS = 256
"""Answer tokens that a report tells apart: more than this nobody picks from, and each is a gradient to be held."""
LEADERS = 3
"""Documents at either end for one answer token that are taken into the report for its sake."""


@dataclass(frozen=True)
class Answer:
    """A question's scored tokens, and their gradients at full rank."""

    tokens: AnswerTokens
    queries: Queries
    said: list[AnswerToken]


def answer_of(run: Run, row: int) -> Answer | None:
    """The answer taken apart; None where it is one token, or too many to hold a gradient of each."""
    session = run.session
    tokens = by_answer(session.parts_of(row))
    weights = sum(block.eigenvalues.numel() for block in session.curvature.blocks.values())
    if not 1 < len(tokens) <= MOST_TOKENS or len(tokens) * weights > DENSE_ELEMENTS:
        return None
    queries = query_gradients(session.curvature, session.model, tokens.batches, task=session.task, rank="full")
    texts = session.surface(tokens.token.tolist())
    first = int(tokens.part.min())
    said = [
        AnswerToken(text=text, log_p=float(log_p), position=position + 1 if part == first else None)
        for text, log_p, part, position in zip(
            texts, queries.measurement, tokens.part.tolist(), tokens.position.tolist(), strict=True
        )
    ]
    return Answer(tokens, queries, said)


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
