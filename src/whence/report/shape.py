"""The shape of a question's influences over all documents: their tail, their groups, what they go along with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

TAIL_POINTS = 120
"""Points kept of a tail: as many as a figure has room to show."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """A power law fitted to the tail (`evaluate.tail`)."""

    exponent: float
    """Of the density."""
    low: float
    high: float
    """95 % interval of the exponent."""
    slope: float
    """Of the log-log CCDF: 1 − exponent."""
    threshold: float
    """Nats per copy above which the law holds."""
    count: int
    ks: float
    ks_critical: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Tail:
    """Positive influences, largest first, and the rank each of the kept ones has among all documents."""

    values: list[float]
    ranks: list[int]
    """1 is the largest; ``ranks[k] / n`` is the share of documents with at least ``values[k]``."""
    n: int
    positive: int
    share_top_1pct: float
    """Share of the sum of positive influence held by the highest-scoring 1 % of all n documents, 0 to 1."""
    held: list[float] = field(default_factory=list)
    """Share of that sum held by the documents down to each of ``ranks``."""
    fit: Fit | None = None

    @classmethod
    def of(cls, scores: Iterable[float], fit: Fit | None = None) -> Tail:
        """The tail of all documents' scores, thinned evenly in log rank.

        Example:
            >>> tail = Tail.of([3.0, -1.0, 1.0])
            >>> tail.values, tail.ranks, tail.n, tail.share_top_1pct
            ([3.0, 1.0], [1, 2], 3, 0.75)
        """
        every = np.asarray(list(scores) if not isinstance(scores, np.ndarray) else scores, dtype=np.float64)
        high = np.sort(every[every > 0])[::-1]
        if not len(high):
            return cls(values=[], ranks=[], n=len(every), positive=0, share_top_1pct=0.0)
        keep = np.unique(np.geomspace(1, len(high), TAIL_POINTS).round().astype(int)) - 1
        top = high[: -(-len(every) // 100)]
        return cls(
            values=[float(f"{value:.5g}") for value in high[keep]],
            ranks=[int(rank) + 1 for rank in keep],
            n=len(every),
            positive=len(high),
            share_top_1pct=float(top.sum() / high.sum()),
            held=[float(f"{share:.4g}") for share in np.cumsum(high)[keep] / high.sum()],
            fit=fit,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupRow:
    """One group of documents."""

    name: str
    documents: int
    raises: float
    """Sum of the positive scores, nats per copy of each."""
    lowers: float
    """Sum of the negative ones."""

    @property
    def total(self) -> float:
        return self.raises + self.lowers


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupTotals:
    """Influence of all documents on one question, by one grouping; largest totals first, the rest together."""

    by: str
    rows: list[GroupRow]
    others: int = 0
    """Groups put together in the last row; 0 where every group has its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """Influence of groups of documents on groups of questions."""

    rows_by: str
    by: str
    rows: list[str]
    questions: list[int]
    """In each row."""
    columns: list[str]
    documents: list[int]
    """In each column."""
    cells: list[list[float]]
    """Summed score of a column's documents, nats per copy of each, averaged over a row's questions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Against:
    """Scores beside another number of the same documents: a few drawn, a correlation over all that have it."""

    name: str
    spearman: float | None
    of: int
    """Documents that the correlation is over."""
    x: list[float]
    y: list[float]
    """Nats per copy."""
