"""Orders of documents, and the piece of one that a page shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from whence.data.store import TokenStore
from whence.jobs.opened import Answers

T = TypeVar("T")

PAGE = 50
"""Rows of a page."""
AT_ONCE = 4_000_000
"""Scores in memory at a time, where all questions are gone through."""


@dataclass(frozen=True)
class Ranking:
    """Every document against one question; those that a filter left out have no score and are in no order."""

    per_copy: NDArray[np.float64]
    """``[documents]``, nats; NaN where one was not scored."""
    again: NDArray[np.bool_]
    """Which were scored again at full rank."""

    @classmethod
    def of(cls, answers: Answers, question: int, store: TokenStore) -> Ranking:
        """Read from the run's scores.

        Raises:
            InvalidSetting: If there is no such question.
            ArtifactError: If scores are missing.
        """
        answers.question(question)
        found = answers.rows([question], store)
        return cls(found.raw[0] / answers.train_size, found.again[0])

    @cached_property
    def highest(self) -> NDArray[np.int64]:
        """All that were scored, the one that raises the answer most first; ties in the order of the data."""
        return np.argsort(-self.per_copy, kind="stable")[: self.scored]

    @cached_property
    def lowest(self) -> NDArray[np.int64]:
        """All that were scored, the one that lowers the answer most first; ties in the order of the data."""
        return np.argsort(self.per_copy, kind="stable")[: self.scored]

    @cached_property
    def scored(self) -> int:
        """How many documents the question is ranked on."""
        return int((~np.isnan(self.per_copy)).sum())

    @cached_property
    def _sorted(self) -> NDArray[np.float64]:
        return self.per_copy[self.lowest]

    def below(self, document: int) -> float:
        """Share of the documents whose score is lower."""
        return float(np.searchsorted(self._sorted, self.per_copy[document], side="left")) / self.scored

    def rank(self, document: int) -> int:
        """Its place from 1, the highest score; as many places are above as documents have a higher one."""
        higher = self.scored - np.searchsorted(self._sorted, self.per_copy[document], side="right")
        return int(higher) + 1

    @property
    def top(self) -> float:
        """The largest score, whatever its sign."""
        return float(np.abs(self.per_copy[self.lowest]).max(initial=0.0))


@dataclass(frozen=True, slots=True)
class Moved:
    """One question, as one document moves it."""

    question: int
    per_copy: float
    below: float
    """Share of the documents whose score on this question is lower."""
    rank: int
    """Among the documents scored on this question, 1 the highest score."""
    of: int
    """How many those are."""


def scores_of(
    answers: Answers, questions: Sequence[int], store: TokenStore
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Each of some questions with every document's influence on it, ``[documents]`` in nats per copy.

    Holds a few questions' scores at a time.
    """
    size = max(1, AT_ONCE // max(1, store.sequences))
    for start in range(0, len(questions), size):
        some = questions[start : start + size]
        for question, raw in zip(some, answers.rows(some, store).raw, strict=True):
            yield question, raw / answers.train_size


def moved_by(answers: Answers, document: int, store: TokenStore) -> list[Moved]:
    """What a document does to every question that it was scored on, the one it raises most first."""
    found = []
    for question, per_copy in scores_of(answers, range(len(answers.questions)), store):
        mine, of = per_copy[document], int((~np.isnan(per_copy)).sum())
        if np.isnan(mine):
            continue
        below, above = int((per_copy < mine).sum()), int((per_copy > mine).sum())
        found.append(Moved(question, float(mine), below / of, above + 1, of))
    return sorted(found, key=lambda one: -one.per_copy)


@dataclass(frozen=True)
class Slice(Generic[T]):
    """One page of a list."""

    items: Sequence[T]
    number: int
    """Of the page, from 1."""
    total: int
    """Items of the whole list."""

    @property
    def pages(self) -> int:
        """How many pages there are; an empty list has one."""
        return max(1, -(-self.total // PAGE))

    @property
    def first(self) -> int:
        """Place of the first item in the whole list, from 1."""
        return (self.number - 1) * PAGE + 1

    @property
    def last(self) -> int:
        """Place of the last item."""
        return self.first + len(self.items) - 1

    @property
    def previous(self) -> int | None:
        """The page before, if there is one."""
        return self.number - 1 if self.number > 1 else None

    @property
    def next(self) -> int | None:
        """The page after, if there is one."""
        return self.number + 1 if self.number < self.pages else None


def slice_of(items: Sequence[T], number: int) -> Slice[T]:
    """A page of some items; beyond the last page there are none."""
    start = (number - 1) * PAGE
    return Slice(items[start : start + PAGE], number, len(items))
