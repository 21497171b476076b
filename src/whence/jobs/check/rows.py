"""The first rows of the data in memory, batched and padded as a check asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from whence.data.batches import Piece
from whence.data.packing import apart
from whence.types import TENSORS, Batch, Data, Unit

CUT = 256
"""Positions kept of a longer sequence: what is measured here does not need more, and seconds are promised."""

Side = Literal["right", "left"]


@dataclass(frozen=True)
class Rows:
    """A few sequences, each a batch of one without padding; implements `Data`, as one work unit.

    Args:
        together: How many share a batch.
        padding: Positions of padding beyond the longest of a batch.
        side: Where padding goes.
    """

    data: Data
    """What they are from: its names are theirs."""
    alone: tuple[Batch, ...]
    together: int = 1
    padding: int = 0
    side: Side = "right"
    shared: int = 0
    """Tokens of a row that several of a batch share, kept apart; 0 is a row each."""

    @classmethod
    def first(cls, data: Data, count: int) -> Rows:
        """The first sequences in which something is scored, long ones cut."""
        found: list[Batch] = []
        for number in range(data.sequences):
            (one,) = data.gather([number])
            one = _cut(replace(one, layout=None))
            if bool(one.scored.any()):
                found.append(one)
            if len(found) == count:
                break
        return cls(data, tuple(found))

    def batched(self, together: int, *, padding: int = 0, side: Side = "right") -> Rows:
        """The same sequences in other company."""
        return replace(self, together=together, padding=padding, side=side)

    def sharing(self, tokens: int) -> Rows:
        """The same sequences, all in one batch, in rows of up to so many tokens: as ``segments`` packs them."""
        return replace(self, together=len(self.alone), shared=tokens)

    def apart(self) -> Rows:
        """Batches of unlike lengths: the shortest with the longest."""
        order = sorted(range(len(self.alone)), key=lambda row: self.alone[row].real.shape[1])
        dealt = [order[k // 2] if k % 2 == 0 else order[-1 - k // 2] for k in range(len(order))]
        return replace(self, alone=tuple(self.alone[row] for row in dealt))

    @property
    def sequences(self) -> int:
        return len(self.alone)

    @property
    def units(self) -> tuple[Unit, ...]:
        return (Unit(0, len(self.alone), sum(int(one.real.sum()) for one in self.alone)),)

    @property
    def fingerprint(self) -> str:
        return self.data.fingerprint

    def batches(self, unit: int) -> Iterator[Batch]:
        return self.gather(range(len(self.alone)))

    def gather(self, sequences: Sequence[int]) -> Iterator[Batch]:
        for start in range(0, len(sequences), self.together):
            rows = sequences[start : start + self.together]
            yield replace(self._joined([self.alone[row] for row in rows]), ids=torch.tensor(list(rows)))

    def name(self, sequence: int) -> str:
        return self.data.name(int(self.alone[sequence].ids[0]))

    def _joined(self, batches: Sequence[Batch]) -> Batch:
        longest = max(one.real.shape[1] for one in batches) + self.padding

        def wide(tensor: Tensor) -> Tensor:
            missing = longest - tensor.shape[1]
            return functional.pad(tensor, (0, missing) if self.side == "right" else (missing, 0))

        fields = [[getattr(one, name) for one in batches] for name in TENSORS]
        whole = Batch.of(*(torch.cat([wide(t) if t.ndim == 2 else t for t in parts]) for parts in fields))
        if not self.shared:
            return whole
        pieces = [Piece(one.inputs[0].numpy().astype(np.int32), one.scored[0].numpy()) for one in batches]
        return replace(whole, layout=apart(pieces, self.shared, longest))


def _cut(one: Batch) -> Batch:
    """The first positions; the last of them predicts nothing that is there any more."""
    if one.real.shape[1] <= CUT:
        return one
    wide = {name: getattr(one, name)[:, :CUT].clone() for name in ("inputs", "targets", "real", "scored")}
    wide["scored"][:, -1] = False
    wide["targets"] *= wide["scored"]
    return replace(one, **wide)
