"""Query gradients cut to rank r a layer: small to keep, and cheap to meet a trace position by position."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whence.capture import LayerTrace
from whence.linalg.lowrank import truncated


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """``left [q o r] @ right [q r i]``, a pair a query."""

    left: Float[Tensor, "q o r"]
    right: Float[Tensor, "q r i"]

    @classmethod
    def truncate(cls, grads: Float[Tensor, "q o i"], rank: int) -> LowRank:
        """The best approximation of that rank, to the accuracy of `linalg.lowrank`."""
        return cls(*truncated(grads, rank))

    @property
    def rank(self) -> int:
        return self.left.shape[2]

    def dense(self) -> Float[Tensor, "q o i"]:
        """Multiplied out."""
        return self.left @ self.right

    def per_token(self, trace: LayerTrace) -> Float[Tensor, "q n t"]:
        """⟨query, δ_t ā_tᵀ⟩ at every position. Cost: 2qr(o + i) a token."""
        queries, _, rank = self.left.shape
        grads = trace.output_grads @ self.left.permute(1, 0, 2).flatten(1).to(trace.output_grads)
        inputs = trace.inputs @ self.right.flatten(0, 1).mT.to(trace.inputs)
        product = grads.float().mul_(inputs) if grads.dtype in _HALF else grads.mul_(inputs)
        return product.view(*product.shape[:2], queries, rank).sum(-1).permute(2, 0, 1)


_HALF = (torch.bfloat16, torch.float16)
