"""Recall: how often the document that states the answer is among the first k by score.

Ties are broken at random *in expectation*, so that a method is never paid for the order of the file: a true
document that ties with m − 1 others, behind a that score higher, is among the first k with probability
(k − a) / m, cut to 0 … 1. A method that scores everything alike thus gets k / n, what chance gets.

Intervals are percentile bootstraps over questions. The documents and the model are taken as given: an interval
says what other questions of the kind might have shown, not what another training run might have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray as Array

from whence.counted import counted
from whence.errors import NumericalError

RESAMPLES = 10_000


def found_within(k: int, scores: Float[Array, "q n"], truth: Int[Array, " q"]) -> Float[Array, " q"]:
    """For each question, the probability that its true document is among the first ``k``, ties broken at random.

    Args:
        k: How many documents are looked at, at least 1; more than there are is all of them.
        scores: Higher is better; any scale, minus infinity allowed (a document never scored).
        truth: Number of each question's true document.

    Raises:
        NumericalError: If a score is NaN: it is neither above nor below any other.
        ValueError: If ``k`` is below 1 or a true document is not among the ``n``.

    Example:
        >>> found_within(1, np.array([[3.0, 3.0, 1.0]]), np.array([0]))
        array([0.5])
    """
    if k < 1:
        raise ValueError(f"recall at k needs k ≥ 1, not {k}")
    if len(truth) and not (truth.min() >= 0 and truth.max() < scores.shape[1]):
        raise ValueError(
            f"true documents run from {truth.min()} to {truth.max()}; there are {scores.shape[1]} documents"
        )
    if np.isnan(scores).any():
        question, document = np.argwhere(np.isnan(scores))[0]
        raise NumericalError(f"The score of document {document} for question {question} is NaN; it has no rank.")
    true = np.take_along_axis(scores, truth[:, None].astype(np.int64), axis=1)
    above, tied = (scores > true).sum(axis=1), (scores == true).sum(axis=1)
    found: Float[Array, " q"] = np.clip((k - above) / tied, 0.0, 1.0)
    return found


def recall_at(k: int, scores: Float[Array, "q n"], truth: Int[Array, " q"]) -> float:
    """Share of questions whose true document is among the first ``k``, expected over random tie-breaking.

    Raises:
        ValueError: If there is no question, besides what `found_within` raises.

    Example:
        >>> recall_at(2, np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]), np.array([0, 0]))
        0.5
    """
    if not len(truth):
        raise ValueError("recall over no questions")
    return float(found_within(k, scores, truth).mean())


def reciprocal_ranks(scores: Float[Array, "q n"], truth: Int[Array, " q"]) -> Float[Array, " q"]:
    """One over the rank of each question's true document, expected over random tie-breaking; their mean is the MRR.

    Raises:
        NumericalError, ValueError: As `found_within` does.

    Example:
        >>> reciprocal_ranks(np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 0.0]]), np.array([1, 0]))
        array([0.5 , 0.75])
    """
    found_within(1, scores, truth)  # refuses what has no rank
    true = np.take_along_axis(scores, truth[:, None].astype(np.int64), axis=1)
    above, tied = (scores > true).sum(axis=1), (scores == true).sum(axis=1)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, scores.shape[1] + 1))])
    return (harmonic[above + tied] - harmonic[above]) / tied


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a rate would fall for other questions of the kind, in ``level`` of resamplings."""

    low: float
    high: float
    level: float = 0.95


def bootstrap(found: Float[Array, " q"], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Percentile bootstrap of a mean over questions. Rates of exactly 0 or 1 give an interval of no width.

    Args:
        found: What `found_within` says of each question.
        level: Share of resampled means inside the interval.
        resamples: How often the questions are drawn again, with replacement.
        seed: Of the draws, which are its own: the global generator is left alone.
    """
    draws = np.random.default_rng(seed).integers(len(found), size=(resamples, len(found)), dtype=np.int32)
    low, high = np.quantile(found[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


@dataclass(frozen=True, slots=True)
class Recalled:
    """One cell: a method's recall at one k."""

    recall: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class RecallTable:
    """Methods × k, over the same questions."""

    cells: Mapping[str, Mapping[int, Recalled]]
    questions: int
    documents: int

    @property
    def methods(self) -> list[str]:
        return list(self.cells)

    @property
    def ks(self) -> list[int]:
        return list(next(iter(self.cells.values()), {}))

    def at(self, k: int) -> dict[str, float]:
        """Method → recall at ``k``: what ``whence demo --json`` prints."""
        return {method: row[k].recall for method, row in self.cells.items()}

    def lines(self) -> list[str]:
        r"""The table as aligned text, a header first.

        Example:
            >>> table = recall_table({"ekfac": np.eye(3)}, np.arange(3), ks=(1,))
            >>> print(*table.lines(), sep="\n")
            3 questions, 3 documents                 @1
            ekfac                     1.00 [1.00, 1.00]
        """
        head = f"{counted(self.questions, 'question')}, {counted(self.documents, 'document')}"
        width = max(map(len, (head, *self.methods)))
        rows = [
            f"{method:<{width}}" + "".join(_cell(cell) for cell in row.values()) for method, row in self.cells.items()
        ]
        return [f"{head:<{width}}" + "".join(f"{f'@{k}':>19}" for k in self.ks), *rows]


def recall_table(
    scores: Mapping[str, Float[Array, "q n"]], truth: Int[Array, " q"], *, ks: Sequence[int] = (1, 10), seed: int = 0
) -> RecallTable:
    """Recall of several methods over the same questions.

    Args:
        scores: Method → its scores ``[q n]``, in the order to be shown.
        truth: Number of each question's true document.
        ks: How many documents are looked at.
        seed: Of the bootstrap; every cell draws the same questions.

    Raises:
        ValueError: If there is no question, or two methods scored another number of documents.
    """
    shapes = {array.shape for array in scores.values()}
    if len(shapes) != 1 or not len(truth):
        raise ValueError(f"recall needs a question, and scores of one shape for every method: {sorted(shapes)}")
    (shape,) = shapes
    cells: dict[str, dict[int, Recalled]] = {}
    for method, array in scores.items():
        within = {k: found_within(k, array, truth) for k in ks}
        cells[method] = {k: Recalled(float(found.mean()), bootstrap(found, seed=seed)) for k, found in within.items()}
    return RecallTable(cells, questions=len(truth), documents=shape[1])


def _cell(cell: Recalled) -> str:
    return f"  {cell.recall:.2f} [{cell.interval.low:.2f}, {cell.interval.high:.2f}]"
