"""K-FAC and EK-FAC written out once more, with dense matrices and nothing of the package: the judge between peers.

Every example goes through the model alone; conventions are those of METHOD.md: losses summed over positions,
A = Σ ā āᵀ / P, S = Σ δ δᵀ / N, Λ = mean over sequences of (Q_Sᵀ G Q_A)², a bias as the last column of ``[o i]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Reference:
    """Traces of every example, by layer: inputs ``[t i]`` and gradients of its summed loss ``[t o]``."""

    inputs: dict[str, list[Tensor]]
    grads: dict[str, list[Tensor]]

    @classmethod
    def of(cls, model: nn.Module, names: Sequence[str], losses: Sequence[Callable[[], Tensor]]) -> Reference:
        """Run every example's loss by itself."""
        kept: dict[str, tuple[Tensor, Tensor]] = {}

        def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
            def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
                if not output.requires_grad:
                    output.requires_grad_()
                output.retain_grad()
                kept[name] = (args[0].detach(), output)
                return output

            return keep

        handles = [model.get_submodule(name).register_forward_hook(hook(name)) for name in names]
        inputs: dict[str, list[Tensor]] = {name: [] for name in names}
        grads: dict[str, list[Tensor]] = {name: [] for name in names}
        for loss in losses:
            loss().backward()
            for name, (a, output) in kept.items():
                a = a.reshape(-1, a.shape[-1])
                if model.get_submodule(name).bias is not None:
                    a = torch.cat([a, torch.ones_like(a[:, :1])], 1)
                inputs[name].append(a)
                assert output.grad is not None
                grads[name].append(output.grad.reshape(len(a), -1))
        for handle in handles:
            handle.remove()
        model.zero_grad(set_to_none=True)
        return cls(inputs, grads)

    def gradient(self, name: str) -> Tensor:
        """``[n o i]``: gradients of the summed losses."""
        return torch.stack([d.mT @ a for a, d in zip(self.inputs[name], self.grads[name], strict=True)])

    def factors(self, name: str) -> tuple[Tensor, Tensor]:
        """A over positions, S over sequences."""
        a, d = torch.cat(self.inputs[name]), torch.cat(self.grads[name])
        return a.mT @ a / len(a), d.mT @ d / len(self.inputs[name])

    def basis(self, name: str) -> Tensor:
        """Q_S ⊗ Q_A over row-major ``vec([o i])``."""
        a, s = (torch.linalg.eigh(factor)[1].contiguous() for factor in self.factors(name))
        return torch.kron(s, a)

    def kfac(self, name: str) -> Tensor:
        a, s = self.factors(name)
        return torch.kron(s, a)

    def ekfac(self, name: str) -> Tensor:
        basis = self.basis(name)
        eigenvalues = (self.gradient(name).flatten(1) @ basis).square().mean(0)
        return (basis * eigenvalues) @ basis.mT

    def scores(self, queries: Reference, matrices: dict[str, Tensor], damping: float) -> Tensor:
        """``[q n]``: −∇fᵀ (H + λI)⁻¹ ∇L with f = −L of the query."""
        total = torch.zeros(())
        for name, matrix in matrices.items():
            damped = matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype)
            solved = torch.linalg.solve(damped, queries.gradient(name).flatten(1).mT)
            total = total + solved.mT @ self.gradient(name).flatten(1).mT
        return total
