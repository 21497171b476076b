"""The windows of a token store as sequences of their own: what curvature is of, where documents run together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from whence.data.batches import collate
from whence.data.packing import end_to_end
from whence.data.plan import make_plan
from whence.types import Batch

if TYPE_CHECKING:
    from whence.data.store import TokenStore


class Windows:
    """The windows of a store as sequences of their own; implements `Data`. Sampled labels are keyed by window."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store
        self.units, self.fingerprint = store.units, store.fingerprint
        self.sequences = len(store.windows) - 1

    def batches(self, unit: int) -> Iterator[Batch]:
        for rows in self._store.plan.batches(unit):
            yield self._batch(rows)

    def gather(self, sequences: Sequence[int] | NDArray[Any]) -> Iterator[Batch]:
        chosen = np.asarray(sequences, np.int64)
        plan = make_plan(self._store.row_lengths[chosen], self._store.plan.batch_tokens, units=1)
        for rows in plan.batches(0) if len(chosen) else ():
            yield self._batch(chosen[rows])

    def name(self, sequence: int) -> str:
        first, last = int(self._store.windows[sequence]), int(self._store.windows[sequence + 1]) - 1
        return f"window {sequence + 1}, from {self._store.name(first)} to {self._store.name(last)}"

    def _batch(self, rows: NDArray[np.int64]) -> Batch:
        windows = self._store.windows
        whole = [end_to_end([self._store.piece(n) for n in range(windows[row], windows[row + 1])]) for row in rows]
        return collate(whole, ids=rows, documents=rows)


def rows_of(lengths: NDArray[np.int64], begins: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Tokens of each row, of pieces that begin one or go on with the one before: those share a token with it."""
    return np.add.reduceat(lengths - ~begins, np.flatnonzero(begins))
