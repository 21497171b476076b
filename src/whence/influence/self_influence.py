"""gᵀ (G + λI)⁻¹ g of every training sequence with itself: how much it moves the model's own fit of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from whence.capture import LayerTrace
from whence.curvature import Curvature
from whence.curvature.rotation import rotated_gradients
from whence.layers import TrackedLayer
from whence.types import Batch


class SelfInfluence:
    """A sink: ``by_layer [l n]`` of one batch. Never negative: eigenvalues are clamped and damped."""

    def __init__(self, curvature: Curvature, layers: Sequence[TrackedLayer]) -> None:
        self.curvature = curvature
        self.layers = {layer.name: layer for layer in layers}
        self.row = {layer.name: row for row, layer in enumerate(layers)}
        self.inverse = {
            name: block.damped(curvature.dampings[name]).reciprocal() for name, block in curvature.blocks.items()
        }
        self.by_layer = torch.empty(0)

    def begin(self, batch: Batch) -> None:
        """Forget the last batch."""
        like = next(iter(self.inverse.values()))
        self.by_layer = torch.zeros(len(self.layers), len(batch), dtype=like.dtype, device=batch.real.device)

    @property
    def total(self) -> Tensor:
        """``[n]``: the sum over layers."""
        return self.by_layer.sum(0)

    def update(self, trace: LayerTrace) -> None:
        """Add one layer."""
        part, weight = self.by_layer[self.row[trace.layer]], self.inverse[trace.layer].flatten()
        for rows, grads in rotated_gradients(trace, self.curvature.blocks[trace.layer], self.layers[trace.layer]):
            part[rows] = grads.square_().flatten(1).to(weight.dtype) @ weight
