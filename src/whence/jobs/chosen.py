"""A few sequences of the data, or all of them in few batches, as data of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from whence.artifacts.fingerprint import settings_fingerprint
from whence.types import Batch, Data, Unit


class Chosen:
    """Some sequences of the data, as data of their own; implements `Data`."""

    def __init__(self, data: Data, sequences: Sequence[int]) -> None:
        self._data, self._chosen = data, list(sequences)
        self._batches = [self._renumbered(batch) for batch in data.gather(self._chosen)]
        self.units = (Unit(0, len(self._chosen), sum(int(batch.real.sum()) for batch in self._batches)),)

    @property
    def sequences(self) -> int:
        return len(self._chosen)

    @property
    def fingerprint(self) -> str:
        return settings_fingerprint({"data": self._data.fingerprint, "chosen": self._chosen})

    def batches(self, unit: int) -> Iterator[Batch]:
        return iter(self._batches)

    def gather(self, sequences: Sequence[int]) -> Iterator[Batch]:
        for batch in self._data.gather([self._chosen[number] for number in sequences]):
            yield self._renumbered(batch)

    def name(self, sequence: int) -> str:
        return self._data.name(self._chosen[sequence])

    def _renumbered(self, batch: Batch) -> Batch:
        place = {sequence: row for row, sequence in enumerate(self._chosen)}
        return replace(batch, ids=torch.tensor([place[int(number)] for number in batch.ids]))


def few_batches(data: Data) -> Chosen:
    """All the sequences in as few batches as the budget allows: work units would cut a small run into crumbs."""
    return Chosen(data, range(data.sequences))
