"""The shape of one question's scores over all documents: tail, groups, what they go along with, and their noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from whence.data.queries import Query
from whence.evaluate.statistics import spearman
from whence.evaluate.tail import power_law
from whence.jobs.report.corpus import Corpus, Grouping
from whence.report.shape import Against, Fit, GroupRow, GroupTotals, Matrix, Tail

ROWS = 12
"""Groups that are told apart in a table; the others are one row."""
COLUMNS = 8
"""Groups of documents that a matrix has a column for, at most."""
DRAWN = 160
"""Points of a scatter beside those of the documents that are shown."""


def tail_of(scores: NDArray[np.float64]) -> Tail:
    """The tail of those that were scored, with a power law where one can be fitted."""
    scores = scores[~np.isnan(scores)]
    law = power_law(scores)
    if law is None:
        return Tail.of(scores)
    low, high = law.interval
    fit = Fit(
        exponent=law.exponent,
        low=low,
        high=high,
        slope=law.ccdf_slope,
        threshold=law.threshold,
        count=law.count,
        ks=law.ks,
        ks_critical=law.ks_critical,
    )
    return Tail.of(scores, fit)


def noise_of(scores: NDArray[np.float64], noise: float | None) -> float | None:
    """The standard deviation that noise of this relative variance has among these scores."""
    if noise is None or not math.isfinite(noise):
        return None
    return float(np.nanstd(scores) * math.sqrt(noise / (1 + noise)))


def totals_of(scores: NDArray[np.float64], groupings: Sequence[Grouping]) -> list[GroupTotals]:
    """Influence by group, one table a grouping; the groups with most influence of either sign by name."""
    return [_totals(scores, grouping) for grouping in groupings]


def _totals(scores: NDArray[np.float64], every: Grouping) -> GroupTotals:
    grouping, scores = every.scored(scores)
    raises, lowers = grouping.sums(scores.clip(min=0)), grouping.sums(scores.clip(max=0))
    order = np.argsort(-np.abs(raises + lowers), kind="stable")
    named, others = (order, order[:0]) if len(order) <= ROWS else (order[: ROWS - 1], order[ROWS - 1 :])

    def row(name: str, groups: NDArray[np.int64]) -> GroupRow:
        counts = int(grouping.counts[groups].sum())
        return GroupRow(
            name=name, documents=counts, raises=float(raises[groups].sum()), lowers=float(lowers[groups].sum())
        )

    rows = [row(grouping.names[group], np.array([group])) for group in named]
    rows.sort(key=lambda one: -one.total)
    if len(others):
        rows.append(row(f"{len(others):,} others", others))
    return GroupTotals(by=grouping.by, rows=rows, others=len(others))


def matrices_of(scores: NDArray[np.float64], questions: Sequence[Query], groupings: Sequence[Grouping]) -> list[Matrix]:
    """Groups of questions against groups of documents; none where there is one question.

    Args:
        scores: Nats per copy, ``[q documents]``.
    """
    if len(questions) < 2:
        return []
    rows_by, labels = _question_labels(questions)
    rows = Grouping.of_labels(rows_by, labels)
    return [_matrix(scores, rows, columns) for columns in groupings if len(columns.names) <= COLUMNS]


def _matrix(scores: NDArray[np.float64], rows: Grouping, columns: Grouping) -> Matrix:
    sums = np.stack([columns.sums(of_question) for of_question in scores])
    cells = np.stack([sums[rows.of == row].mean(0) for row in range(len(rows.names))])
    return Matrix(
        rows_by=rows.by,
        by=columns.by,
        rows=rows.names,
        questions=rows.counts.tolist(),
        columns=columns.names,
        documents=columns.sums(np.asarray((~np.isnan(scores)).any(0), np.float64)).astype(int).tolist(),
        cells=[[float(f"{cell:.4g}") for cell in line] for line in cells.tolist()],
    )


def _question_labels(questions: Sequence[Query]) -> tuple[str, list[str]]:
    """The first metadata column that puts questions together; else each stands for itself."""
    names = dict.fromkeys(name for query in questions for name in query.metadata)
    for name in names:
        labels = [str(query.metadata.get(name, "–")) for query in questions]
        if 2 <= len(set(labels)) <= min(ROWS, len(questions) - 1):
            return name, labels
    return "question", [query.id for query in questions]


def against(
    scores: NDArray[np.float64], corpus: Corpus, found: NDArray[np.float64] | None, shown: Sequence[int]
) -> list[Against]:
    """Scores beside length, a search for the question's words, and self-influence, where each is there.

    Args:
        found: BM25 of every document.
    """
    sides: list[tuple[str, NDArray[np.float64] | None]] = [
        ("length in tokens", corpus.lengths.astype(np.float64)),
        ("BM25 of the question's words", found),
        ("self-influence", corpus.self_influence),
    ]
    scored = np.flatnonzero(~np.isnan(scores))
    n = len(scored)
    drawn = np.unique([*shown, *scored[np.linspace(0, n - 1, min(n, DRAWN)).astype(int)]]).astype(int)
    return [
        Against(
            name=name,
            spearman=_finite(float(spearman(values[None, scored], scores[None, scored])[0])) if n > 1 else None,
            of=n,
            x=[float(f"{value:.3g}") for value in values[drawn]],
            y=[float(f"{value:.3g}") for value in scores[drawn]],
        )
        for name, values in sides
        if values is not None
    ]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
