"""How high the documents that state a fact are ranked, where several do.

    reciprocal rank   one over the place of the *first* relevant document; its mean is the MRR
    hit@k             whether *any* relevant document is among the first k
    recall@k          which share of the relevant documents is among the first k (at most k over their number)

With one relevant document hit@k and recall@k are one. Ties are broken at random in expectation, as in
`whence.evaluate.recall`, so that a method which scores everything alike gets what chance gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np
from numpy.typing import NDArray

from whence.evaluate.recall import found_within

Relevant = Sequence[tuple[int, ...]]
"""Of each question, its documents."""


def reciprocal_ranks(scores: NDArray[np.float64], relevant: Relevant) -> NDArray[np.float64]:
    """One over the place of the first relevant document, expected over random order among ties, ``[q]``."""
    return np.array(
        [
            sum(chance / place for place, chance in _first(row, own).items())
            for row, own in zip(scores, relevant, strict=True)
        ]
    )


def hits(k: int, scores: NDArray[np.float64], relevant: Relevant) -> NDArray[np.float64]:
    """Probability that a relevant document is among the first ``k``, ``[q]``."""
    return np.array(
        [
            sum(chance for place, chance in _first(row, own).items() if place <= k)
            for row, own in zip(scores, relevant, strict=True)
        ]
    )


def recalls(k: int, scores: NDArray[np.float64], relevant: Relevant) -> NDArray[np.float64]:
    """Share of the relevant documents among the first ``k``, ``[q]``."""
    found = [
        found_within(k, np.repeat(row[None], len(own), axis=0), np.array(own)).mean()
        for row, own in zip(scores, relevant, strict=True)
    ]
    return np.array(found)


def _first(row: NDArray[np.float64], own: tuple[int, ...]) -> dict[int, float]:
    """Place → probability that the first relevant document stands there.

    Only those that share the highest score of any relevant document can be first. Of m documents with that score,
    r of them relevant, the first relevant one is the j-th with probability C(m − j, r − 1) / C(m, r).
    """
    best = row[list(own)].max()
    above, tied = int((row > best).sum()), int((row == best).sum())
    among = int((row[list(own)] == best).sum())
    ways = comb(tied, among)
    return {above + j: comb(tied - j, among - 1) / ways for j in range(1, tied - among + 2)}
