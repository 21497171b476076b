"""Some sequences of a token store with work units of their own: what is scored where a filter left the others out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from whence.artifacts.fingerprint import DIGITS
from whence.data.plan import make_plan
from whence.types import Batch, Unit

if TYPE_CHECKING:
    from whence.data.store import TokenStore


class Selection:
    """Some sequences of a store; implements `Data`, but that they keep the numbers that they have in the store.

    Rows of the plan go through the model whole, as they are packed: their other sequences are read and left out of the
    batches. All sequences of a store in as many units are the store's own batches, bit for bit.

    Args:
        sequences: Numbers of those wanted, at least one.
        units: Work units; by default as many as the store has. Never more than rows.
    """

    def __init__(self, store: TokenStore, sequences: Sequence[int] | NDArray[Any], units: int | None = None) -> None:
        self._store = store
        self._chosen = np.unique(np.asarray(sequences, np.int64))
        self._rows = np.unique(np.searchsorted(store.windows, self._chosen, side="right") - 1)
        self._plan = make_plan(store.row_lengths[self._rows], store.plan.batch_tokens, units or len(store.units))

    @property
    def units(self) -> Sequence[Unit]:
        return self._plan.units

    @property
    def sequences(self) -> int:
        """Those of the whole store: numbers run to there, and most of them are in no batch."""
        return self._store.sequences

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the store, the plan and which sequences are wanted."""
        digest = hashlib.sha256(f"{self._store.fingerprint} {self._plan.fingerprint}".encode())
        digest.update(np.ascontiguousarray(self._chosen, "<i8").tobytes())
        return digest.hexdigest()[:DIGITS]

    def batches(self, unit: int) -> Iterator[Batch]:
        for some in self._plan.batches(unit):
            batch = self._store.batch_of(self._rows[some])
            wanted = np.isin(batch.ids.numpy(), self._chosen)
            yield batch if wanted.all() else batch.rows(torch.from_numpy(wanted))

    def gather(self, sequences: Sequence[int] | NDArray[Any]) -> Iterator[Batch]:
        return self._store.gather(sequences)

    def name(self, sequence: int) -> str:
        return self._store.name(sequence)
