"""Derivatives of a document's log-probabilities along a direction in the weights, by finite differences.

Central, of fourth order, in float64, the direction scaled to unit length first: errors near 1e-8. What the
paper does (Grosse et al. 2023, appendix B) and the package does not: it is here to check what the package does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product

import torch
from torch import Tensor, nn

from whence.testing.dense import Oracle
from whence.types import Batch

STEP = 1e-3
STENCIL = [
    (2 * STEP, -1 / (12 * STEP)),
    (STEP, 8 / (12 * STEP)),
    (-STEP, -8 / (12 * STEP)),
    (-2 * STEP, 1 / (12 * STEP)),
]
"""(step, weight) pairs of f′(0) ≈ Σ weight · f(step)."""


def output_tokens(oracle: Oracle, example: Batch, direction: Mapping[str, Tensor]) -> Tensor:
    """d/dα log p(y_t | θ + αp) at 0 for each position, ``[t]``; zero where unscored."""
    length = norm_of(direction)
    derivative = torch.zeros(example.scored.shape[1], dtype=torch.float64)
    for step, weight in STENCIL:
        with moved(oracle.model, direction, step / length), torch.no_grad():
            derivative[example.scored[0]] -= length * weight * oracle.losses(example)
    return derivative


def input_tokens(oracle: Oracle, example: Batch, direction: Mapping[str, Tensor]) -> Tensor:
    """d/dα d/ds_t log p(scored | θ + αp), s_t scaling the embedding of token t, at α = 0 and s = 1, ``[t]``."""
    length = norm_of(direction)
    derivative = torch.zeros(example.inputs.shape[1], dtype=torch.float64)
    for (alpha, weight), (scale, other) in product(STENCIL, STENCIL):
        with moved(oracle.model, direction, alpha / length), torch.no_grad():
            for t in range(len(derivative)):
                with scaled(oracle.model, t, 1 + scale):
                    derivative[t] += length * weight * other * oracle.measurement(example)
    return derivative


def norm_of(direction: Mapping[str, Tensor]) -> float:
    """‖p‖ over all layers."""
    return float(torch.cat([step.flatten() for step in direction.values()]).norm())


@contextmanager
def moved(model: nn.Module, direction: Mapping[str, Tensor], alpha: float) -> Iterator[None]:
    """θ + αp, for a while. ``direction`` is ``[o i]`` a layer."""
    before = {}
    with torch.no_grad():
        for name, step in direction.items():
            module = model.get_submodule(name)
            before[name] = [p.clone() for p in module.parameters()]
            weight, *bias = module.parameters()
            main = step[:, :-1] if bias else step
            weight.add_(main.T if type(module).__name__ == "Conv1D" else main, alpha=alpha)
            if bias:
                bias[0].add_(step[:, -1], alpha=alpha)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, values in before.items():
                for parameter, value in zip(model.get_submodule(name).parameters(), values, strict=True):
                    parameter.copy_(value)


@contextmanager
def scaled(model: nn.Module, position: int, factor: float) -> Iterator[None]:
    """The embedding of one position times ``factor``, for a while."""

    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        scale = torch.ones_like(output)
        scale[:, position] = factor
        return output * scale

    handle = model.get_input_embeddings().register_forward_hook(hook)  # type: ignore[operator]
    try:
        yield
    finally:
        handle.remove()
