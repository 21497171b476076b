"""Whether an adapter does anything: the loss of the first rows with it and without it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from whence.counted import counted
from whence.errors import ModelError
from whence.jobs.stream import device_of
from whence.models.lora import LoraAdapter, without_adapter
from whence.types import Data, Task

ROWS = 10
"""Sequences whose loss is taken twice."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Mean loss of the same rows, in nats a scored token."""

    rows: int
    with_adapter: float
    without: float

    @property
    def same(self) -> bool:
        """Whether the adapter changed nothing at all."""
        return self.with_adapter == self.without

    @property
    def line(self) -> str:
        """For a person."""
        return (
            f"adapter: the loss of the first {counted(self.rows, 'sequence')} is {self.with_adapter:.4f} nats a token "
            f"with it, {self.without:.4f} without"
        )

    def refuse_same(self, adapter: LoraAdapter) -> None:
        """Refuse an adapter that changed nothing.

        Raises:
            ModelError: If the losses are equal to the last digit.
        """
        if self.same:
            raise ModelError(
                f"the loss of the first {counted(self.rows, 'sequence')} is {self.without:.4f} nats a token with the "
                f"adapter in {adapter.path} and without it: it changes nothing",
                hint="check that it is the adapter meant, and saved after training",
            )


def compare_losses(model: nn.Module, data: Data, task: Task, rows: int = ROWS) -> Losses:
    """The loss of the first sequences with the model's adapter and without it."""
    chosen = range(min(rows, data.sequences))
    with_adapter = _loss(model, data, task, chosen)
    with without_adapter(model):
        without = _loss(model, data, task, chosen)
    return Losses(len(chosen), with_adapter, without)


def _loss(model: nn.Module, data: Data, task: Task, chosen: range) -> float:
    total, scored = 0.0, 0
    with torch.no_grad():
        for batch in data.gather(chosen):
            batch = batch.to(device_of(model))
            total += float(task.loss(model, batch).double().sum())
            scored += int(batch.scored.sum())
    return total / max(1, scored)
