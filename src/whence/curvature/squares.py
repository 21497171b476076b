"""Mean squared gradients in a basis: EK-FAC's corrected eigenvalues, and the diagonal Fisher where there is no basis.

    Λ = mean over sequences of (Q_Sᵀ DW̄ Q_A)²       DW̄ summed over positions first, squared after

Squaring each position and summing would be the classic mistake: it drops the covariance between positions.
Sums of sequences with even and odd numbers are kept apart until the end. The two halves see the same
distribution, so their disagreement tells how far sampling has converged (`curvature.noise`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from whence.capture import LayerTrace
from whence.curvature.block import Block
from whence.curvature.estimator import Part, Sums
from whence.curvature.rotation import rotated_gradients
from whence.layers import TrackedLayer
from whence.types import Batch


class Squares(Part):
    """Σ over sequences of squared (rotated) gradients, ``[2 o i]``: even-numbered sequences and odd."""

    def __init__(
        self,
        layers: Mapping[str, TrackedLayer],
        bases: Mapping[str, Block],
        samples: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.layers, self.bases, self.samples = layers, bases, samples
        self.odd: list[bool] = []
        self.sums: Sums = {
            f"squares.{name}": torch.zeros(2, layer.outputs, layer.inputs, dtype=dtype, device=device)
            for name, layer in layers.items()
        }
        self.sums["sequences"] = torch.zeros(2, dtype=torch.int64)

    def begin(self, batch: Batch, sample: int) -> None:
        self.odd = (batch.ids % 2 == 1).tolist()
        if sample == 0:
            self.sums["sequences"] += torch.tensor([self.odd.count(False), self.odd.count(True)])

    def update(self, trace: LayerTrace) -> None:
        total = self.sums[f"squares.{trace.layer}"]
        for rows, grads in rotated_gradients(trace, self.bases[trace.layer], self.layers[trace.layer]):
            _add_squares(total, grads, self.odd[rows], self.samples)


def _add_squares(total: Tensor, grads: Tensor, odd: list[bool], samples: int) -> None:
    """Add each ``grads[n]²`` to its half; one sequence at a time, so that its gradient is still in cache."""
    if grads.device.type == "cpu":
        for gradient, half in zip(grads, odd, strict=True):
            total[int(half)].addcmul_(gradient, gradient, value=1 / samples)
        return
    second = torch.tensor(odd, device=grads.device)
    squared = grads.square_().to(total.dtype)
    total[1] += squared[second].sum(0) / samples
    total[0] += squared[~second].sum(0) / samples


def halves_of(sums: Sums) -> dict[str, Tensor]:
    """Layer → mean squares of even and of odd sequences, ``[2 o i]``; empty where one half has none."""
    counts = sums["sequences"]
    if int(counts.min()) == 0:
        return {}
    return {
        name.removeprefix("squares."): total / counts[:, None, None].to(total)
        for name, total in sums.items()
        if name.startswith("squares.")
    }
