"""The coordinates a proximal objective is solved in: a curvature's eigenbasis, in units of its damping.

    θ_ℓ − θˢ_ℓ = Q_S u_ℓ Q_Aᵀ / √λ_ℓ

Adam adapts to each coordinate by itself, so that it works best where coordinates do not mix: in the basis in which
the curvature is nearly diagonal (Vyas et al. 2024, arXiv:2409.11321). Its eigenvalues are not used: a solve that
trusted them would be slow exactly where they are wrong. All this is a change of variables and nothing else: where a
solve ends, it ends in any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from whence.curvature.block import Block
from whence.evaluate.models import Stack, State
from whence.layers import TrackedLayer, as_parameters


class Coordinates:
    """u of each tracked layer, ``[s o i]``, and the parameters it stands for.

    Args:
        own: The model's parameters θˢ by name.
        dampings: λ of each layer.
        blocks: A curvature's, for their bases; None turns nothing.
    """

    def __init__(
        self,
        layers: Sequence[TrackedLayer],
        own: State,
        dampings: Mapping[str, float],
        blocks: Mapping[str, Block] | None,
    ) -> None:
        like = next(iter(own.values()))
        self.layers, self.blocks = layers, blocks
        self.root = {layer.name: dampings[layer.name] ** -0.5 for layer in layers}
        """1 / √λ of each layer."""
        self.origin = {layer.name: like.new_zeros(layer.outputs, layer.inputs) for layer in layers}
        """Where u is zero."""
        names = self._parameters(self.origin)
        self.theta = {name: own[name].detach().clone() for name in names}
        """θˢ of the tracked parameters."""

    def zeros(self, members: int) -> Stack:
        """θˢ itself, ``members`` times."""
        return {name: zero.expand(members, *zero.shape).clone() for name, zero in self.origin.items()}

    def parameters(self, u: Stack) -> Stack:
        """The tracked parameters θ of each member; differentiable."""
        moved = torch.func.vmap(self._parameters)(u)
        return {name: self.theta[name] + tensor for name, tensor in moved.items()}

    def proximity(self, u: Stack) -> Float[Tensor, " s"]:
        """Σ_ℓ (λ_ℓ/2) ‖θ_ℓ − θˢ_ℓ‖² of each member: rotations keep lengths."""
        return torch.stack([t.square().flatten(1).sum(1) / 2 for t in u.values()]).sum(0)

    def norm(self, grads: Stack) -> Float[Tensor, " s"]:
        """Length in θ of gradients that were taken in u."""
        parts = [(grad / self.root[name]).flatten(1).square().sum(1) for name, grad in grads.items()]
        return torch.stack(parts).sum(0).sqrt()

    def _parameters(self, u: State) -> dict[str, Tensor]:
        """One member's θ − θˢ by parameter."""
        return as_parameters(self.layers, {name: self._turned(name, self.root[name] * t) for name, t in u.items()})

    def _turned(self, name: str, matrix: Tensor) -> Tensor:
        return matrix if self.blocks is None else self.blocks[name].rotate_back(matrix[None])[0]
