"""Softmax cross-entropy over a large vocabulary, a chunk of positions at a time.

The logits of a batch are its largest tensor, and their loss, probabilities and gradient are three more like
it. Here each chunk of positions goes from hidden state to loss to hidden gradient before the next begins, so
that memory holds one chunk's logits. Only scored positions are projected at all: a prompt costs nothing here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Labeller = Callable[[Tensor, slice], Int64[Tensor, " m"]]
"""(logits of a chunk, which of the scored positions it holds) → labels."""

CHUNK_ELEMENTS = 2**21
"""Logits a chunk holds, at most: 8 MB in float32."""


def scored_loss(
    hidden: Float[Tensor, "n t d"],
    scored: Bool[Tensor, "n t"],
    project: Callable[[Tensor], Tensor],
    labels: Labeller,
    vocabulary: int,
) -> Float[Tensor, " n"]:
    """Cross-entropy of each example, summed over its scored positions, in nats and float32 or better.

    Args:
        hidden: What the head reads (or the logits themselves, with ``project`` the identity).
        project: Hidden rows ``[m d]`` → logits ``[m v]``.
        labels: The labels of a chunk: the data's, or sampled from its logits.
    """
    index = scored.flatten().nonzero()[:, 0]
    rows = hidden.flatten(0, 1).index_select(0, index)
    per_position = _ChunkedCrossEntropy.apply(rows, project, labels, max(16, CHUNK_ELEMENTS // vocabulary))
    spread = per_position.new_zeros(scored.numel())
    return spread.index_copy(0, index, per_position).view(scored.shape).sum(1)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Hidden rows ``[m d]`` → loss of each ``[m]``. The gradient is formed in forward, while the logits are there."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, project: Callable[[Tensor], Tensor], labels: Labeller, chunk: int) -> Tensor:
        wanted = rows.requires_grad
        wide = torch.promote_types(rows.dtype, torch.float32)
        losses = torch.empty(len(rows), dtype=wide, device=rows.device)
        grads = torch.empty_like(rows) if wanted else None
        for start in range(0, len(rows), chunk):
            part = slice(start, min(start + chunk, len(rows)))
            piece = rows[part].detach().requires_grad_(wanted)
            with torch.set_grad_enabled(wanted):
                logits = project(piece)
            target = labels(logits.detach(), part)
            log_p = torch.log_softmax(logits.detach(), -1, dtype=wide)
            losses[part] = torch.nn.functional.nll_loss(log_p, target, reduction="none")
            if grads is not None:
                slope = log_p.exp_()  # ∂loss/∂logits = p − onehot
                slope[torch.arange(len(target), device=slope.device), target] -= 1
                (grads[part],) = torch.autograd.grad(logits, piece, slope.to(logits.dtype))
        ctx.grads = grads
        return losses

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = outer
        return ctx.grads * slope[:, None].to(ctx.grads.dtype), None, None, None
