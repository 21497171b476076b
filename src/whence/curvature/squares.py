"""Mean squared gradients in a basis: EK-FAC's corrected eigenvalues, and the diagonal Fisher where there is no basis.

    Λ = mean over sequences of (Q_Sᵀ DW̄ Q_A)²       DW̄ summed over positions first, squared after

Squaring each position and summing would be the classic mistake: it drops the covariance between positions.
Sums of two halves of the draws are kept apart until the end: their disagreement shows the noise (`curvature.noise`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from whence.capture import LayerTrace
from whence.curvature.block import Block
from whence.curvature.estimator import Part, Sums, halves_of
from whence.curvature.rotation import rotated_gradients
from whence.layers import TrackedLayer
from whence.types import Batch


class Squares(Part):
    """Σ over sequences of squared (rotated) gradients, ``[2 o i]``: in two halves of the draws."""

    def __init__(
        self,
        layers: Mapping[str, TrackedLayer],
        bases: Mapping[str, Block],
        samples: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.layers, self.bases, self.samples = layers, bases, samples
        self.halves: list[int] = []
        self.sums: Sums = {
            f"squares.{name}": torch.zeros(2, layer.outputs, layer.inputs, dtype=dtype, device=device)
            for name, layer in layers.items()
        }
        self.sums["draws"] = torch.zeros(2, dtype=torch.int64)
        self.sums["sequences"] = torch.zeros((), dtype=torch.int64)

    def begin(self, batch: Batch, sample: int) -> None:
        if sample == 0:
            self.sums["sequences"] += len(batch)
        self.halves = halves_of(batch, sample)
        self.sums["draws"] += torch.tensor([self.halves.count(half) for half in (0, 1)])

    def update(self, trace: LayerTrace) -> None:
        total = self.sums[f"squares.{trace.layer}"]
        for rows, grads in rotated_gradients(trace, self.bases[trace.layer], self.layers[trace.layer]):
            _add_squares(total, grads, self.halves[rows], self.samples)


def _add_squares(total: Tensor, grads: Tensor, halves: list[int], samples: int) -> None:
    """Add each ``grads[n]²`` to its half; one sequence at a time, so that its gradient is still in cache."""
    if grads.device.type == "cpu":
        for gradient, half in zip(grads, halves, strict=True):
            total[half].addcmul_(gradient, gradient, value=1 / samples)
        return
    rows = torch.tensor(halves, device=grads.device) == 1
    squared = grads.square_().to(total.dtype)
    total[1] += squared[rows].sum(0) / samples
    total[0] += squared[~rows].sum(0) / samples


def mean_squares(sums: Sums, name: str, samples: int) -> tuple[Tensor, Tensor | None]:
    """Λ of one layer ``[o i]``, from all draws and from the half of them; None where one half has none."""
    draws = sums["draws"].tolist()
    halves = sums.pop(f"squares.{name}")
    half = halves[0] * (samples / draws[0]) if draws[0] and draws[1] else None
    return halves.sum(0) / int(sums["sequences"]), half
