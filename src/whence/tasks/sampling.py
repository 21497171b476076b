"""Labels drawn from the model, as a function of (seed, document, position, sample) and nothing else.

No generator is involved: a number is hashed from the key, so a label does not depend on the batch, the order,
the worker or what was drawn before, and the same command run twice draws the same labels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

BLOCK = 64
"""Labels are found in two steps, block then entry, so that no running sum spans the vocabulary."""


def uniforms(seed: int, sample: int, document: Int64[Tensor, " *n"], position: Int64[Tensor, " *n"]) -> Tensor:
    """One number in (0, 1) a key, float64, by SplitMix64 (Steele, Lea & Flood 2014) chained over the key's parts."""
    state = _mix(torch.full_like(document, seed & 0x7FFF_FFFF_FFFF_FFFF) + _GOLDEN)
    for part in (document, position, torch.full_like(document, sample)):
        state = _mix(state + _GOLDEN + _mix(part + _GOLDEN))
    return (_shift(state, 11).double() + 0.5) * 2.0**-53


def draw(logits: Float[Tensor, "m v"], uniform: Float[Tensor, " m"]) -> Int64[Tensor, " m"]:
    """The label where the cumulative probability first exceeds ``uniform``: exact sampling by inversion."""
    wide = logits.float()
    weights = (wide - wide.amax(-1, keepdim=True)).exp_()
    pad = -weights.shape[-1] % BLOCK
    if pad:
        weights = torch.nn.functional.pad(weights, (0, pad))
    blocks = weights.view(len(weights), -1, BLOCK)
    ends = blocks.sum(-1).double().cumsum(-1)
    target = uniform * ends[:, -1]
    block = torch.searchsorted(ends, target[:, None], right=True)[:, 0].clamp_(max=ends.shape[1] - 1)
    row = torch.arange(len(weights), device=weights.device)
    before = torch.where(block > 0, ends[row, (block - 1).clamp(min=0)], 0.0)
    inside = blocks[row, block].double().cumsum(-1)
    entry = torch.searchsorted(inside, (target - before)[:, None], right=True)[:, 0].clamp_(max=BLOCK - 1)
    return (block * BLOCK + entry).clamp_(max=logits.shape[-1] - 1)


_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # as a signed 64-bit number: torch has no unsigned arithmetic
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def _shift(value: Tensor, bits: int) -> Tensor:
    """A logical shift right; torch's is arithmetic."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _mix(value: Tensor) -> Tensor:
    value = (value ^ _shift(value, 30)) * _MIX_1
    value = (value ^ _shift(value, 27)) * _MIX_2
    return value ^ _shift(value, 31)
