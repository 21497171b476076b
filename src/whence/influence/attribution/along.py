"""Running a causal language model with its tracked weights moved along a direction, θ + αp."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from whence.errors import InvalidSetting
from whence.layers.adapter import TrackedLayer
from whence.tasks.reading import read
from whence.types import Batch

POSITIONS = 1024
"""Positions taken at once, or one sequence: logits are formed whole, and second derivatives keep several like them."""


def parameters_along(
    direction: Mapping[str, Float[Tensor, "o i"]], layers: Iterable[TrackedLayer]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Full name of each moved parameter → (its value, its part of the direction), both in its own shape and dtype.

    A layer without a direction stays where it is.

    Raises:
        InvalidSetting: If a direction names no tracked layer, or is not ``[o i]`` with the bias as last column.
    """
    by_name = {layer.name: layer for layer in layers}
    strangers = direction.keys() - by_name.keys()
    if strangers:
        raise InvalidSetting(
            f"the direction has layers that are not tracked: {', '.join(sorted(strangers))}",
            hint="give the layers that the curvature was fitted on",
        )
    moved: dict[str, tuple[Tensor, Tensor]] = {}
    for name, matrix in direction.items():
        layer = by_name[name]
        if tuple(matrix.shape) != (layer.outputs, layer.inputs):
            raise InvalidSetting(
                f"the direction of {name} is {list(matrix.shape)}, the layer {[layer.outputs, layer.inputs]}",
                hint="a direction is [o, i], with the bias as its last column",
            )
        for part, step in layer.adapter.tensors(matrix, layer.module).items():
            value = getattr(layer.module, part).detach()
            full = f"{layer.path}.{part}" if layer.path else part
            step = step.to(value).contiguous()
            moved[full] = (value, moved[full][1] + step if full in moved else step)  # groups of one weight add up
    return moved


def by_rows(batch: Batch, few: Callable[[Batch], Float[Tensor, "m t"]]) -> Float[Tensor, "n t"]:
    """Apply a function to a few sequences of a batch at a time; one alone, where those of a row see each other."""
    n, t = batch.real.shape
    crossing = batch.layout is not None and batch.layout.position is None
    step = 1 if crossing else max(1, POSITIONS // t)
    slices = [slice(start, start + step) for start in range(0, n, step)]
    return torch.cat([few(batch.rows(rows)) for rows in slices])


def token_log_probabilities(model: nn.Module, weights: dict[str, Tensor], batch: Batch) -> Float[Tensor, "n t"]:
    """The log-probability of each scored token, with some weights replaced; zero where unscored.

    The logits are formed whole: this is for shown documents, not for a training set (see `by_rows`).
    """

    def moved(ids: Tensor, **options: Any) -> Any:
        return functional_call(model, weights, (ids,), options)

    # Fused attention has neither a forward-mode nor a second derivative; the math kernel has both.
    with sdpa_kernel(SDPBackend.MATH):
        logits = read(model, batch, moved)
    # As the loss does: half-precision logits are normalised in float32.
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    per_token = logits.log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]
    return torch.where(batch.scored, per_token, torch.zeros_like(per_token))
