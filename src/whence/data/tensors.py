"""Training data that lies in memory as tensors: for one's own modules, and for tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from whence.artifacts.fingerprint import settings_fingerprint, tensors_fingerprint
from whence.data.plan import FEWEST_UNITS
from whence.errors import DataError, InvalidSetting
from whence.types import Batch, Unit


class TensorData:
    """Examples along the first axis; implements `Data`.

    Batches are runs of ``batch_size`` examples in their order, dealt round to units. Integer inputs and targets
    that are both ``[n t]`` are read as sequences of positions; everything else has one position an example,
    unless ``real`` says how many.

    Args:
        inputs: What the model eats, ``[n ...]``.
        targets: Next tokens ``[n t]``, labels ``[n]`` or values ``[n k]``.
        batch_size: Examples a batch.
        units: Work units; by default 16, or as many as there are batches.
        real: Which positions are not padding, ``[n t]``; all of them when not given.
        scored: Which positions carry loss, ``[n t]``; every real one when not given.
        names: Where each example came from, for messages and reports.

    Raises:
        DataError: If the tensors do not fit together, or there are no examples.
        InvalidSetting: If the batch size or the number of units is not positive.

    Example:
        >>> data = TensorData(torch.randn(10, 3), torch.arange(10), batch_size=4, units=2)
        >>> [[len(batch) for batch in data.batches(unit.number)] for unit in data.units]
        [[4, 2], [4]]
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        *,
        batch_size: int = 32,
        units: int | None = None,
        real: Bool[Tensor, "n t"] | None = None,
        scored: Bool[Tensor, "n t"] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        if len(inputs) == 0 or len(inputs) != len(targets):
            raise DataError(
                f"{len(inputs)} inputs and {len(targets)} targets", hint="give one target an input, and some"
            )
        if batch_size < 1 or (units is not None and units < 1):
            raise InvalidSetting(f"batch_size={batch_size} and units={units} must be at least 1")
        if real is None:
            real = torch.ones(_positions(inputs, targets), dtype=torch.bool, device=inputs.device)
        scored = real if scored is None else scored
        if len(real) != len(inputs) or real.shape != scored.shape or bool((scored & ~real).any()):
            raise DataError(
                f"real {tuple(real.shape)} and scored {tuple(scored.shape)} do not fit inputs {tuple(inputs.shape)}",
                hint="both are [n t], and only a real position can be scored",
            )
        if names is not None and len(names) != len(inputs):
            raise DataError(f"{len(names)} names of {len(inputs)} examples", hint="give one name an example")
        self.inputs, self.targets, self.real, self.scored, self.names = inputs, targets, real, scored, names
        self.batch_size = batch_size
        self._batches = -(-len(inputs) // batch_size)
        count = min(self._batches, FEWEST_UNITS if units is None else units)
        self.units: Sequence[Unit] = tuple(self._unit(number, count) for number in range(count))

    @property
    def sequences(self) -> int:
        return len(self.inputs)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the tensors and of how they are cut: partial sums of another cut do not fit this one."""
        tensors = {name: getattr(self, name) for name in ("inputs", "targets", "real", "scored")}
        return settings_fingerprint({"content": tensors_fingerprint(tensors), **self._settings()})

    def batches(self, unit: int) -> Iterator[Batch]:
        for number in range(unit, self._batches, len(self.units)):
            yield self._batch(self._run(number))

    def gather(self, sequences: Sequence[int]) -> Iterator[Batch]:
        numbers = torch.as_tensor(sequences, dtype=torch.long)
        for start in range(0, len(numbers), self.batch_size):
            yield self._batch(numbers[start : start + self.batch_size])

    def name(self, sequence: int) -> str:
        return f"example {sequence}" if self.names is None else self.names[sequence]

    def _settings(self) -> dict[str, Any]:
        """What else a batch depends on."""
        return {"batch_size": self.batch_size, "units": len(self.units)}

    def _run(self, batch: int) -> Tensor:
        return torch.arange(batch * self.batch_size, min((batch + 1) * self.batch_size, self.sequences))

    def _unit(self, number: int, units: int) -> Unit:
        rows = torch.cat([self._run(batch) for batch in range(number, self._batches, units)])
        return Unit(number, len(rows), int(self.real[rows].sum()))

    def _batch(self, rows: Tensor) -> Batch:
        rows = rows.to(self.inputs.device)
        return Batch(
            ids=rows,
            inputs=self.inputs[rows],
            targets=self.targets[rows],
            real=self.real[rows],
            scored=self.scored[rows],
            document=rows,
            offset=torch.zeros_like(rows),
        )


def _positions(inputs: Tensor, targets: Tensor) -> tuple[int, int]:
    """``(n, t)`` of inputs that say nothing of padding."""
    tokens = inputs.dim() == 2 and targets.shape == inputs.shape and not inputs.is_floating_point()
    return (len(inputs), inputs.shape[1] if tokens else 1)
