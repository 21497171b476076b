"""Both ends of a ranking, as a sum that can be merged: what streams is combined in any order to the same result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TopK:
    """The ``k`` highest and ``k`` lowest of the scores seen so far, for one query.

    Ties go to the lower number, so that the result does not depend on the order of merging. What was not scored, NaN,
    is at neither end: there may be fewer than ``k``.

    Example:
        >>> top = TopK.of(np.array([0.5, -1.0, 2.0]), k=2)
        >>> top.highest.tolist(), top.lowest.tolist()
        ([2, 0], [1, 0])
    """

    k: int
    highest: NDArray[np.int64]
    lowest: NDArray[np.int64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]

    @classmethod
    def of(cls, scores: NDArray[np.floating], k: int, first: int = 0) -> TopK:
        """Of one stretch of scores, whose first has the number ``first``."""
        return cls._best(k, np.arange(first, first + len(scores)), scores.astype(np.float64))

    def merge(self, other: TopK) -> TopK:
        """Of both stretches together. Associative and commutative."""
        numbers = np.concatenate([self.highest, self.lowest, other.highest, other.lowest])
        values = np.concatenate([self.high, self.low, other.high, other.low])
        numbers, once = np.unique(numbers, return_index=True)
        return self._best(self.k, numbers, values[once])

    @classmethod
    def _best(cls, k: int, numbers: NDArray[np.int64], values: NDArray[np.float64]) -> TopK:
        scored = ~np.isnan(values)
        numbers, values = numbers[scored], values[scored]
        down, up = np.lexsort((numbers, -values))[:k], np.lexsort((numbers, values))[:k]
        return cls(k, numbers[down], numbers[up], values[down], values[up])


def spurious(per_token: NDArray[np.floating]) -> bool:
    """P's flag for a sequence that one token carries: ‖a‖₂ / ‖a‖₁ > 2/3."""
    total = float(np.abs(per_token).sum())
    return total > 0 and float(np.linalg.norm(per_token)) / total > 2 / 3
