"""Okapi BM25: a token counts more often than once, but ever less, and less in a long document.

    score(Q, D) = Σ over tokens t of Q, repeats included, of IDF(t) · f (k₁ + 1) / (f + k₁ (1 − b + b |D| / mean |D|))

with f the times t occurs in D and the IDF of `tfidf`, which never is negative (Robertson and Zaragoza 2009, with
the IDF as Lucene has it). Stronger than TF-IDF at finding the document that states a fact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from whence.data.filters.postings import Filter
from whence.errors import InvalidSetting


class BM25(Filter):
    """How often a query token occurs, saturating, for the document's length.

    Args:
        k1: How slowly repeats saturate; 0 counts a token once.
        b: How much length matters, 0 to 1.

    Raises:
        InvalidSetting: If ``k1`` is negative or ``b`` is not between 0 and 1.
    """

    def __init__(self, k1: float = 1.2, b: float = 0.75) -> None:
        if k1 < 0 or not 0 <= b <= 1:
            raise InvalidSetting(f"BM25 needs k1 ≥ 0 and 0 ≤ b ≤ 1, not k1 = {k1} and b = {b}.")
        self.k1, self.b = k1, b

    def weights(self, documents: NDArray[np.int32], counts: NDArray[np.int32]) -> NDArray[np.float64]:
        length = self.lengths[documents] / self.lengths.mean()
        weights: NDArray[np.float64] = counts * (self.k1 + 1) / (counts + self.k1 * (1 - self.b + self.b * length))
        return weights
