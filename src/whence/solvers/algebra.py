"""Sums and inner products of `Gradients`, a query at a time: layers are parts of one long vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from whence.types import Gradients

Product = Callable[[Gradients], Gradients]
"""A linear map of each query's vector, such as x → (G + Λ) x."""


def dot(left: Gradients, right: Gradients) -> Float[Tensor, " q"]:
    """⟨left, right⟩ of each query over all layers, summed in float64."""
    parts = [(left[name] * right[name]).flatten(1).sum(1, dtype=torch.float64) for name in left]
    return torch.stack(parts).sum(0)


def norm(vector: Gradients) -> Float[Tensor, " q"]:
    """‖vector‖ of each query."""
    return dot(vector, vector).sqrt()


def plus(left: Gradients, right: Gradients, factor: float | Float[Tensor, " q"] = 1.0) -> Gradients:
    """The sum left + factor · right, the factor one number or one a query."""
    if isinstance(factor, Tensor):
        return {name: left[name] + factor[:, None, None].to(right[name]) * right[name] for name in left}
    return {name: left[name] + factor * right[name] for name in left}


def times(vector: Gradients, factor: float) -> Gradients:
    """The vector, so many times as long."""
    return {name: factor * part for name, part in vector.items()}


def rows(vector: Gradients, index: Tensor) -> Gradients:
    """Some of the queries."""
    return {name: part[index.to(part.device)] for name, part in vector.items()}


def damped(product: Product, dampings: Mapping[str, float]) -> Product:
    """The map x → (G + Λ) x, where Λ is λ_ℓ times the identity in layer ℓ."""

    def apply(vector: Gradients) -> Gradients:
        image = product(vector)
        return {name: image[name] + dampings[name] * part for name, part in vector.items()}

    return apply


def residual(product: Product, rhs: Gradients, solution: Gradients) -> Float[Tensor, " q"]:
    """‖b − A x‖ / ‖b‖ of each query, zero where b is. Cost: a product."""
    left = norm(plus(rhs, product(solution), -1.0))
    return left / norm(rhs).clamp(min=torch.finfo(torch.float64).tiny)


def random_like(vector: Gradients, queries: int, seed: int) -> Gradients:
    """Independent standard normals in the layers of ``vector``, from a generator of their own."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(queries, *part.shape[1:], generator=draw, dtype=torch.float64).to(part)
        for name, part in vector.items()
    }
