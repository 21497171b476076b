"""Where a query meets a training trace.

Traces here are of the *log-likelihood* of the training sequence, so a score is a plain inner product,

    raw = ⟨(G+λI)⁻¹∇f, ∇log p(z)⟩ = −∇fᵀ (G+λI)⁻¹ ∇L(z)

and positive where training more on z raises f. The order of contraction is chosen by operation count, per
layer and batch, and never changes the numbers beyond rounding:

    factors    2qr(o+i) a token                        few queries, or scores by token
    dense      2oi a token for G, then 2oiq a sequence
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from whence.capture import LayerTrace
from whence.curvature.rotation import chunks, gradient
from whence.influence.lowrank import LowRank
from whence.influence.query import Queries
from whence.layers import TrackedLayer
from whence.types import Batch

EXPANDED_ELEMENTS = 2**28
"""Multiplied-out factors are kept between batches up to this many elements in all (1 GiB of float32)."""

MEETING_ELEMENTS = 2**23
"""Gradients that meet the queries in one product: enough rows that the product is not a thin one."""


def meets_as_factors(positions: int, queries: int, rank: int, layer: TrackedLayer) -> bool:
    """Whether rank-r factors should meet the trace as they are, rather than multiplied out."""
    factors = 2 * queries * rank * (layer.outputs + layer.inputs) * positions
    dense = 2 * layer.weights * (positions + queries)
    return factors <= dense


class Scorer:
    """A sink: the scores of one batch against all queries.

    After each backward, ``by_layer [l q n]`` holds the parts and `total` their sum; ``by_token [q n t]``
    is filled on request.
    """

    def __init__(self, queries: Queries, layers: Sequence[TrackedLayer], *, by_token: bool = False) -> None:
        self.queries = queries
        self.layers = {layer.name: layer for layer in layers}
        self.row = {layer.name: row for row, layer in enumerate(layers)}
        self.tokens = by_token
        self.by_layer = torch.empty(0)
        self.by_token: Tensor | None = None
        self.layer_tokens = False
        self.by_layer_token: dict[str, Tensor] = {}
        self._expanded: dict[str, Tensor] = {}
        wanted = len(queries) * sum(layer.weights for layer in layers)
        self._keep = wanted <= EXPANDED_ELEMENTS

    def begin(self, batch: Batch) -> None:
        """Forget the last batch."""
        entry = next(iter(self.queries.prepared.values()))
        like = entry.left if isinstance(entry, LowRank) else entry
        dtype = torch.promote_types(like.dtype, torch.float32)
        n, t = batch.real.shape
        self.by_layer = torch.zeros(len(self.layers), len(self.queries), n, dtype=dtype, device=batch.real.device)
        if self.tokens:
            self.by_token = torch.zeros(len(self.queries), n, t, dtype=dtype, device=batch.real.device)

    @property
    def total(self) -> Float[Tensor, "q n"]:
        return self.by_layer.sum(0)

    def update(self, trace: LayerTrace) -> None:
        """Add one layer."""
        part = self.by_layer[self.row[trace.layer]]
        entry = self.queries.prepared[trace.layer]
        if self.tokens:
            per_token = entry.per_token(trace) if isinstance(entry, LowRank) else dense_per_token(entry, trace)
            per_token = trace.folded(per_token)
            assert self.by_token is not None
            self.by_token += per_token
            if self.layer_tokens:
                self.by_layer_token[trace.layer] = per_token
            part += per_token.sum(-1)
        elif isinstance(entry, LowRank) and self._as_factors(entry, trace):
            part += entry.per_token(trace).sum(-1)
        else:
            self._meet_dense(part, trace)

    def _as_factors(self, entry: LowRank, trace: LayerTrace) -> bool:
        positions = trace.inputs.shape[1]
        return meets_as_factors(positions, len(self.queries), entry.rank, self.layers[trace.layer])

    def _meet_dense(self, part: Tensor, trace: LayerTrace) -> None:
        query = self._dense(trace.layer).flatten(1)
        layer = self.layers[trace.layer]
        for rows in chunks(len(trace.output_grads), layer.weights, query.device, budget=MEETING_ELEMENTS):
            grads = gradient(trace.output_grads[rows], trace.inputs[rows], part.dtype).flatten(1)
            part[:, rows] += query.to(grads) @ grads.mT

    def _dense(self, layer: str) -> Tensor:
        entry = self.queries.prepared[layer]
        if isinstance(entry, Tensor):
            return entry
        if layer in self._expanded:
            return self._expanded[layer]
        dense = entry.dense()
        if self._keep:
            self._expanded[layer] = dense
        return dense


def dense_per_token(query: Float[Tensor, "q o i"], trace: LayerTrace) -> Float[Tensor, "q n t"]:
    """⟨query, δ_t ā_tᵀ⟩ at every position, a query at a time. Cost: 2oiq a token."""
    wide = torch.promote_types(trace.inputs.dtype, torch.float32)
    inputs, grads = trace.inputs.to(wide), trace.output_grads.to(wide)
    return torch.stack([((grads @ one.to(grads)) * inputs).sum(-1) for one in query])
