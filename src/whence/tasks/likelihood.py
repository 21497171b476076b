"""Losses as functions of the model's outputs: their second derivatives, and square roots of those.

    softmax cross-entropy    H = diag(p) − p pᵀ    root: column c is √p_c (e_c − p)
    ½‖h − y‖²                H = I                 root: column c is e_c

A column of the softmax root is √p_c times minus the gradient at label c, so H = E over labels of the gradient's
outer product: the Fisher in output space. Neither depends on the label.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Softmax:
    """−log softmax(outputs)[label]."""

    def hessian(self, outputs: Float[Tensor, "m c"], directions: Float[Tensor, "q m c"]) -> Float[Tensor, "q m c"]:
        """(diag(p) − p pᵀ) v; nothing of size ``c × c`` is formed."""
        p = outputs.softmax(-1, dtype=torch.promote_types(outputs.dtype, torch.float32)).to(directions)
        return p * (directions - (p * directions).sum(-1, keepdim=True))

    def root(self, outputs: Float[Tensor, "m c"], column: int) -> Float[Tensor, "m c"]:
        """√p_c (e_c − p)."""
        p = outputs.softmax(-1, dtype=torch.promote_types(outputs.dtype, torch.float32)).to(outputs)
        label = torch.zeros_like(p)
        label[:, column] = 1
        return p[:, column, None].sqrt() * (label - p)


@dataclass(frozen=True)
class Gaussian:
    """½‖outputs − y‖²."""

    def hessian(self, outputs: Float[Tensor, "m c"], directions: Float[Tensor, "q m c"]) -> Float[Tensor, "q m c"]:
        """The identity."""
        return directions

    def root(self, outputs: Float[Tensor, "m c"], column: int) -> Float[Tensor, "m c"]:
        """e_c."""
        unit = torch.zeros_like(outputs)
        unit[:, column] = 1
        return unit
