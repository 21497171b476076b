"""The same examples under other labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from jaxtyping import Int64
from torch import Tensor

from whence.artifacts.fingerprint import settings_fingerprint, tensors_fingerprint
from whence.types import Batch, Data, Unit


class Relabelled:
    """Data whose targets are replaced by class numbers; implements `Data`.

    Args:
        labels: One for each example, in the order of their numbers.
    """

    def __init__(self, data: Data, labels: Int64[Tensor, " n"]) -> None:
        self._data, self._labels = data, labels

    @property
    def units(self) -> Sequence[Unit]:
        return self._data.units

    @property
    def sequences(self) -> int:
        return self._data.sequences

    @property
    def fingerprint(self) -> str:
        return settings_fingerprint(
            {"data": self._data.fingerprint, "labels": tensors_fingerprint({"labels": self._labels})}
        )

    def batches(self, unit: int) -> Iterator[Batch]:
        return map(self._relabelled, self._data.batches(unit))

    def gather(self, sequences: Sequence[int]) -> Iterator[Batch]:
        return map(self._relabelled, self._data.gather(sequences))

    def name(self, sequence: int) -> str:
        return self._data.name(sequence)

    def _relabelled(self, batch: Batch) -> Batch:
        return replace(batch, targets=self._labels[batch.ids.cpu()].to(batch.targets))
