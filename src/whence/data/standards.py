"""Means and standard deviations that inputs are brought to, kept so that other data can be brought to the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Standards:
    """What is subtracted from each column (or colour), and what it is then divided by."""

    mean: Float[Tensor, " i"]
    std: Float[Tensor, " i"]
    """1 where a column is constant."""

    @classmethod
    def of(cls, columns: Float[Tensor, "n i"]) -> Standards:
        """Those of some rows: the training set's, never the test set's own."""
        mean, std = columns.double().mean(0), columns.double().std(0, correction=0)
        return cls(mean, torch.where(std > 1e-12 * (1 + mean.abs()), std, torch.ones_like(std)))

    def apply(self, columns: Tensor, axis: int = 1) -> Tensor:
        """The same numbers in these units, in their own dtype."""
        shape = [1] * columns.ndim
        shape[axis] = -1
        return (columns - self.mean.to(columns).view(shape)) / self.std.to(columns).view(shape)

    def undo(self, columns: Tensor, axis: int = 1) -> Tensor:
        """Back in the units they came in."""
        shape = [1] * columns.ndim
        shape[axis] = -1
        return columns * self.std.to(columns).view(shape) + self.mean.to(columns).view(shape)

    @property
    def settings(self) -> dict[str, list[float]]:
        """What a manifest records."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}
