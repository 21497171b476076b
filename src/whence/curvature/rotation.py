"""Per-sequence gradients in a block's eigenbasis, by the cheapest route.

    Q_Sᵀ (Σ_t δ_t ā_tᵀ) Q_A

Either side can be rotated on the traces (before the sum over positions) or on the gradient (after it). A
sequence of ``t`` positions pays, on the output side, ``2o²t`` on traces or ``2o²i`` on the gradient; on the
input side ``2i²t`` *once for all readers* of the input, or ``2oi²`` each. The cheaper is taken; the numbers
are the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from whence.capture import LayerTrace
from whence.curvature.block import Block
from whence.layers import TrackedLayer

GRADIENT_ELEMENTS = {"cpu": 2**20, "cuda": 2**27}
"""Gradients formed at once. On a processor: 4 MB, so that a gradient is used while it is in cache."""


def on_traces(positions: int, layer: TrackedLayer) -> tuple[bool, bool]:
    """Whether the output side and the input side are rotated before the sum over positions."""
    return positions < layer.inputs, positions < layer.outputs * layer.readers


def rotated_gradients(
    trace: LayerTrace, block: Block, layer: TrackedLayer
) -> Iterator[tuple[slice, Float[Tensor, "m o i"]]]:
    """Gradients in the eigenbasis, a few sequences at a time: (which rows, ``[m o i]``).

    A yielded tensor is the caller's, to change or to keep.
    """
    inputs, grads = trace.inputs, trace.output_grads
    dtype = torch.promote_types(grads.dtype, torch.float32)  # a sum over positions is a sum
    left, right = on_traces(inputs.shape[1], layer)
    if block.output_basis is not None and left:
        grads = grads @ block.output_basis.to(grads)
    if block.input_basis is not None and right:
        inputs = trace.shared.once("rotated", lambda: _times(trace.inputs, block.input_basis))
    late = Block(block.eigenvalues, None if left else block.output_basis, None if right else block.input_basis)
    for rows in chunks(len(grads), layer.weights, grads.device):
        yield rows, late.rotate(gradient(grads[rows], inputs[rows], dtype))


def gradient(
    grads: Float[Tensor, "n t o"], inputs: Float[Tensor, "n t i"], dtype: torch.dtype
) -> Float[Tensor, "n o i"]:
    """Σ_t δ_t ā_tᵀ, accumulated in float32 or better whatever the traces are in."""
    return torch.bmm(grads.to(dtype).mT, inputs.to(dtype))


def chunks(examples: int, elements: int, device: torch.device, *, budget: int | None = None) -> Iterator[slice]:
    """Slices of so many examples that their gradients of ``elements`` each stay within a budget of elements."""
    step = max(1, (budget or GRADIENT_ELEMENTS.get(device.type, 2**24)) // elements)
    return (slice(start, min(start + step, examples)) for start in range(0, examples, step))


def _times(inputs: Tensor, basis: Tensor | None) -> Tensor:
    assert basis is not None
    return inputs @ basis.to(inputs)
