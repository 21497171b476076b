"""Second moments of what goes into a layer and of what comes back: K-FAC's A and S.

    A = Σ a aᵀ / P_f      over real positions, once for all layers that read the same tensor
    S = Σ δ δᵀ / N_f      over positions and sequences, averaged over label samples

S is summed in two halves of the draws, whose disagreement shows its noise (`curvature.noise`). Counts are kept
beside the sums, so that any scaling can be recovered. Positions are a layer's own: the tokens of a
sequence, the locations of a convolution, one for a layer that reads a pooled row. Scaled so, A ⊗ S is the curvature
*per sequence* under K-FAC's assumption that positions are independent, and its damping is comparable to EK-FAC's.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch

from whence.capture import LayerTrace
from whence.curvature.estimator import Part, Sums, halves_of
from whence.layers import TrackedLayer
from whence.linalg.symmetric import add_gram
from whence.types import Batch


class Moments(Part):
    """Uncentred second moments, upper block triangles: ``inputs [i i]``, ``outputs [2 o o]`` in halves."""

    def __init__(
        self, layers: Mapping[str, TrackedLayer], samples: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.samples = samples
        self.sample = 0
        self.runs: list[tuple[int, slice]] = []
        """Rows side by side in the same half of the draws."""
        zeros = lambda *sizes: torch.zeros(*sizes, dtype=dtype, device=device)  # noqa: E731
        self.sums: Sums = {f"inputs.{e.reads}": zeros(e.inputs, e.inputs) for e in layers.values()}
        self.sums |= {f"outputs.{e.name}": zeros(2, e.outputs, e.outputs) for e in layers.values()}
        counts = ["sequences", "positions", *(f"positions.{layer.reads}" for layer in layers.values())]
        self.sums |= {name: torch.zeros((), dtype=torch.int64) for name in counts}
        self.sums["draws"] = torch.zeros(2, dtype=torch.int64)
        self.shape, self.real = torch.Size(), 0

    def begin(self, batch: Batch, sample: int) -> None:
        halves = halves_of(batch, sample)
        starts = [0, *(row for row in range(1, len(halves)) if halves[row] != halves[row - 1]), len(halves)]
        self.sample, self.runs = sample, [(halves[a], slice(a, b)) for a, b in pairwise(starts)]
        self.sums["draws"] += torch.tensor([halves.count(half) for half in (0, 1)])
        if sample == 0:
            self.shape, self.real = batch.real.shape, int(batch.real.sum())
            self.sums["sequences"] += len(batch)
            self.sums["positions"] += self.real

    def update(self, trace: LayerTrace) -> None:
        if trace.first and self.sample == 0:  # inputs do not depend on the labels
            add_gram(self.sums[f"inputs.{trace.shared.name}"], trace.inputs.flatten(0, 1))
            for length in trace.calls or trace.inputs.shape[1:2]:
                rows = torch.Size([len(trace.inputs), length])  # the batch's positions, padding too, or its own
                self.sums[f"positions.{trace.shared.name}"] += self.real if rows == self.shape else rows.numel()
        grads = trace.output_grads if self.samples == 1 else trace.output_grads * self.samples**-0.5
        for half, members in self.runs:
            add_gram(self.sums[f"outputs.{trace.layer}"][half], grads[members].flatten(0, 1))
