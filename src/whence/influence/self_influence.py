"""gᵀ (G + λI)⁻¹ g of training text with itself: how much it moves the model's own fit of it.

A document longer than the context is read in several sequences, and its g is their sum. Scores are linear and add
up over them; self-influence is quadratic, has cross terms between them, and does not.
"""

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
        self.by_layer = torch.empty(0)

    def begin(self, batch: Batch) -> None:
        """Forget the last batch."""
        like = next(iter(self.curvature.blocks.values())).values
        self.by_layer = torch.zeros(len(self.layers), len(batch), dtype=like.dtype, device=batch.real.device)

    @property
    def total(self) -> Tensor:
        """``[n]``: the sum over layers."""
        return self.by_layer.sum(0)

    def update(self, trace: LayerTrace) -> None:
        """Add one layer."""
        part, block = self.by_layer[self.row[trace.layer]], self.curvature.blocks[trace.layer]
        # Formed anew for each batch: o·i operations beside n·t·o·i, and nothing of the model's size is held.
        weight = block.damped(self.curvature.dampings[trace.layer]).reciprocal().flatten()
        for rows, grads in rotated_gradients(trace, block, self.layers[trace.layer]):
            part[rows] = grads.square_().flatten(1).to(weight.dtype) @ weight


class SelfInfluenceOfSum:
    """A sink: ``total`` of everything it sees as one example, the sequences of one document.

    Memory: the tracked weights, while batches follow one another; one layer's, where one batch holds them all.
    """

    def __init__(self, curvature: Curvature, layers: Sequence[TrackedLayer]) -> None:
        self.curvature = curvature
        self.layers = {layer.name: layer for layer in layers}
        self.last = False
        """Whether the coming batch is the document's last."""
        self.total = torch.zeros((), dtype=torch.float64)
        self._sums: dict[str, Tensor] = {}

    def begin(self) -> None:
        """Forget the last document."""
        self.total = torch.zeros((), dtype=torch.float64)
        self._sums = {}

    def update(self, trace: LayerTrace) -> None:
        """Add one layer's gradients, and square their sum if the batch is the last."""
        name, block = trace.layer, self.curvature.blocks[trace.layer]
        for _, grads in rotated_gradients(trace, block, self.layers[name]):
            part = grads.sum(0)
            self._sums[name] = self._sums[name] + part if name in self._sums else part
        if self.last:
            weighed = self._sums.pop(name).square() / block.damped(self.curvature.dampings[name])
            self.total += weighed.sum(dtype=torch.float64).cpu()
