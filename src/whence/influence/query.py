"""From a question to the direction it asks about: p = (G + λI)⁻¹ ∇f, dense or cut to a rank.

Gradients are summed in the curvature's eigenbasis, where solving is a division, and the cut is made there too:
only the r kept columns are rotated back, not the whole matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from whence.artifacts.fingerprint import tensors_fingerprint
from whence.capture import LayerTrace
from whence.curvature import Curvature
from whence.curvature.rotation import rotated_gradients
from whence.influence.lowrank import LowRank
from whence.layers import TrackedLayer

Prepared = dict[str, Tensor | LowRank]
"""Layer → preconditioned query gradients, ``[q o i]`` or its factors."""


@dataclass(frozen=True)
class Queries:
    """Preconditioned query gradients, ready to meet training traces."""

    prepared: Prepared
    self_influence: Float[Tensor, " q"]
    """∇fᵀ (G + λI)⁻¹ ∇f at full rank: the query's own norm in the cosine."""
    measurement: Float[Tensor, " q"]
    """f itself: log p(completion | prompt), or a difference of two for a contrastive query."""
    rank: int | None

    def __len__(self) -> int:
        return len(self.self_influence)

    def dense(self, layer: str) -> Float[Tensor, "q o i"]:
        """One layer's gradients multiplied out."""
        prepared = self.prepared[layer]
        return prepared.dense() if isinstance(prepared, LowRank) else prepared

    @cached_property
    def fingerprint(self) -> str:
        """A hash of every number: other questions, or the same ones solved otherwise, have another."""
        tensors: dict[str, Tensor] = {"self": self.self_influence, "measurement": self.measurement}
        for name, entry in self.prepared.items():
            if isinstance(entry, LowRank):
                tensors |= {f"{name}.left": entry.left, f"{name}.right": entry.right}
            else:
                tensors[name] = entry
        return tensors_fingerprint(tensors)

    def select(self, rows: Sequence[int]) -> Queries:
        """Some of the queries."""
        index = torch.tensor(list(rows), dtype=torch.int64, device=self.self_influence.device)
        prepared: Prepared = {
            name: LowRank(entry.left[index], entry.right[index]) if isinstance(entry, LowRank) else entry[index]
            for name, entry in self.prepared.items()
        }
        return Queries(prepared, self.self_influence[index], self.measurement[index], self.rank)

    @classmethod
    def join(cls, groups: Sequence[Queries]) -> Queries:
        """Several groups as one: however many batches of queries there are, the training data is read once."""
        if len(groups) == 1:
            return groups[0]
        prepared: Prepared = {}
        for name in groups[0].prepared:
            entries = [group.prepared[name] for group in groups]
            low = [entry for entry in entries if isinstance(entry, LowRank)]
            dense = [entry for entry in entries if isinstance(entry, Tensor)]
            prepared[name] = (
                torch.cat(dense)
                if dense
                else LowRank(torch.cat([entry.left for entry in low]), torch.cat([entry.right for entry in low]))
            )
        own = torch.cat([group.self_influence for group in groups])
        return cls(prepared, own, torch.cat([group.measurement for group in groups]), groups[0].rank)


class QueryGradients:
    """A sink: sums each query's gradient in the eigenbasis, then solves and cuts.

    Args:
        count: Queries in this group; memory is ``count`` × the tracked weights until `finish`.
    """

    def __init__(self, curvature: Curvature, layers: Sequence[TrackedLayer], count: int) -> None:
        self.curvature = curvature
        self.layers = {layer.name: layer for layer in layers}
        self.count = count
        self.query: Int64[Tensor, " n"] = torch.empty(0, dtype=torch.int64)
        self.sums: dict[str, Tensor] = {}

    def begin(self, query: Int64[Tensor, " n"]) -> None:
        """Which query each example of the coming batch is a part of."""
        self.query = query

    def update(self, trace: LayerTrace) -> None:
        """Add the batch's gradients of f to their queries."""
        layer = self.layers[trace.layer]
        for rows, grads in rotated_gradients(trace, self.curvature.blocks[trace.layer], layer):
            whose = self.query[rows].tolist()
            if trace.layer not in self.sums:
                if whose == list(range(self.count)):
                    self.sums[trace.layer] = grads  # one part each: nothing to add to
                    continue
                self.sums[trace.layer] = grads.new_zeros(self.count, layer.outputs, layer.inputs)
            for query, gradient in zip(whose, grads, strict=True):
                self.sums[trace.layer][query] += gradient

    def finish(self, measurement: Float[Tensor, " q"], rank: int | None) -> Queries:
        """Solve, keep ``rank`` (None: all) and rotate back; each layer's sum is released as it is used."""
        own = torch.zeros(self.count, dtype=torch.float64)
        prepared: Prepared = {}
        for name in self.layers:
            block, damping = self.curvature.blocks[name], self.curvature.dampings[name]
            grads = self.sums.pop(name)
            solved = grads / block.damped(damping).to(grads)
            own += grads.mul_(solved).flatten(1).sum(1).double().cpu()
            if rank is None:
                prepared[name] = block.rotate_back(solved)
            else:
                cut = LowRank.truncate(solved, rank)
                prepared[name] = LowRank(block.rotate_back_left(cut.left), block.rotate_back_right(cut.right))
        return Queries(prepared, own, measurement.double().cpu(), rank)
