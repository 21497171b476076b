"""Which documents a token occurs in, and how often: what every lexical filter is computed from.

    fit      one pass over the documents' token ids, each document forgotten once it is counted
    scores   each distinct query token adds something to the documents it occurs in, and nothing elsewhere

Kept is one entry for each distinct (token, document), 8 bytes: about as much as the text itself, never the tokens.
Works on token ids, so that documents and queries are cut into words in the one way the model reads them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from whence.errors import DataError

MOST_DOCUMENTS = np.iinfo(np.int32).max


class Filter(ABC):
    """A score for every document, from the tokens it shares with a query. Higher is closer, 0 shares nothing.

    Special tokens that open every document score close to nothing (their IDF is about ``1 / 2C``), so they
    may be left in.

    Example:
        >>> from whence.data.filters import FILTERS
        >>> documents = [[1, 7, 8], [1, 9], [1, 7, 7]]
        >>> FILTERS["tfidf"]().fit(documents).top([1, 8], k=2)
        array([0, 1])
    """

    documents: int
    """How many documents were fitted; numbered in the order they came, empty ones included."""
    lengths: NDArray[np.int64]
    """``[documents]``: tokens in each."""

    def fit(self, documents: Iterable[ArrayLike]) -> Self:
        """Count the tokens of every document, in one pass.

        Args:
            documents: Token ids of each document, ``[tokens]``; an iterator will do.

        Raises:
            DataError: If there is no document, or one holds anything but non-negative whole numbers in a row.
        """
        ids: list[NDArray[np.int32]] = []
        counts: list[NDArray[np.int32]] = []
        lengths: list[int] = []
        for document in documents:
            tokens, times = np.unique(_tokens(document, f"document {len(lengths)}"), return_counts=True)
            ids.append(tokens.astype(np.int32))
            counts.append(times.astype(np.int32))
            lengths.append(int(times.sum()))
        if not lengths:
            raise DataError("There is no document to filter.", hint="check the training data and --limit")
        assert len(lengths) <= MOST_DOCUMENTS

        token = np.concatenate(ids)
        document_of = np.repeat(np.arange(len(ids), dtype=np.int32), [len(part) for part in ids])
        count = np.concatenate(counts)
        del ids, counts
        order = np.argsort(token, kind="stable")  # by token, and documents in order under each
        self._document, self._count = document_of[order], count[order]
        sizes = np.bincount(token, minlength=1) if len(token) else np.zeros(1, dtype=np.int64)
        self._start = np.concatenate([[0], np.cumsum(sizes)])
        self.documents, self.lengths = len(lengths), np.array(lengths, dtype=np.int64)
        return self

    def counted_by(self, other: Filter) -> Self:
        """Take over what another filter has counted: one pass over the documents serves them all."""
        self._document, self._count, self._start = other._document, other._count, other._start
        self.documents, self.lengths = other.documents, other.lengths
        return self

    def postings(self, token: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The documents that a token occurs in, ascending, and how often it does in each; both empty if none."""
        if token + 1 >= len(self._start):
            return self._document[:0], self._count[:0]
        span = slice(self._start[token], self._start[token + 1])
        return self._document[span], self._count[span]

    def idf(self, token: int) -> float:
        """How telling a token is: log((C − n + ½) / (n + ½) + 1) when n of C documents hold it. Always positive."""
        return self.rarity(len(self.postings(token)[0]))

    def rarity(self, n: int) -> float:
        """The IDF of whatever ``n`` of the documents hold."""
        return float(np.log((self.documents - n + 0.5) / (n + 0.5) + 1))

    @classmethod
    def counted_elsewhere(cls, lengths: NDArray[np.int64]) -> Self:
        """For words that somebody else counts: `rarity` and `weights` alone, over documents of these lengths."""
        made = cls()
        made.documents, made.lengths = len(lengths), lengths
        return made

    def scores(self, query: ArrayLike) -> NDArray[np.float64]:
        """Score every document.

        Args:
            query: Token ids of the query, ``[tokens]``: prompt and completion. A token given twice counts twice.

        Returns:
            ``[documents]``, at least 0.

        Raises:
            DataError: If the query holds anything but non-negative whole numbers in a row.
        """
        total = np.zeros(self.documents)
        for token, times in zip(*np.unique(_tokens(query, "the query"), return_counts=True), strict=True):
            documents, counts = self.postings(int(token))
            total[documents] += times * self.idf(int(token)) * self.weights(documents, counts)
        return total

    def top(self, query: ArrayLike, k: int) -> NDArray[np.int64]:
        """The ``k`` documents with the highest scores (all, if there are fewer), best first; ties by number."""
        scores = self.scores(query)
        if 0 < k < len(scores):  # a tie at the edge is kept whole until the sort below has ordered it
            edge = -np.partition(-scores, k - 1)[k - 1]
            near = np.flatnonzero(scores >= edge)
        else:
            near = np.arange(len(scores))
        return near[np.argsort(-scores[near], kind="stable")][: max(k, 0)]

    @abstractmethod
    def weights(self, documents: NDArray[np.int32], counts: NDArray[np.int32]) -> NDArray[np.float64]:
        """What one query token is worth in documents that hold it ``counts`` times, in units of its IDF.

        Args:
            documents: Document numbers ``[d]``.
            counts: How often the token occurs in each ``[d]``, at least once.
        """


def _tokens(given: ArrayLike, name: str) -> NDArray[np.int64]:
    tokens = np.asarray(given)
    if tokens.size == 0:
        return np.zeros(0, dtype=np.int64)
    if tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer) or tokens.min() < 0:
        raise DataError(f"The tokens of {name} are not token ids in a row: {tokens.dtype} {list(tokens.shape)}.")
    return tokens.astype(np.int64)
