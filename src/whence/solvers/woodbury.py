r"""A direct solve where G = RᵀR has fewer rows than columns, R being ``[r, parameters]``.

    (Λ + RᵀR)⁻¹ b = Λ⁻¹ b − Λ⁻¹ Rᵀ (I + R Λ⁻¹ Rᵀ)⁻¹ R Λ⁻¹ b

Only the ``r × r`` matrix is factored, in float64: the difference loses digits as λ gets small beside G, about as
many as λ_max/λ has. Cost: r² · parameters once, r · parameters a query.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whence.errors import NumericalError
from whence.types import Gradients


@dataclass(frozen=True)
class Woodbury:
    """(Λ + RᵀR)⁻¹, factored."""

    root: Gradients
    """Layer → ``[r o i]``."""
    dampings: Mapping[str, float]
    factor: Float[Tensor, "r r"]

    @classmethod
    def of(cls, root: Gradients, dampings: Mapping[str, float]) -> Woodbury:
        """Factor I + R Λ⁻¹ Rᵀ.

        Raises:
            NumericalError: If it is not positive definite, which only NaN or inf can bring about.
        """
        first = next(iter(root.values()))
        gram = torch.eye(len(first), dtype=torch.float64, device=first.device)
        for name, part in root.items():
            flat = part.flatten(1).double()
            gram += flat @ flat.T / dampings[name]
        factor, failed = torch.linalg.cholesky_ex(gram)
        if bool(failed) or not bool(torch.isfinite(factor).all()):
            raise NumericalError("the Gram matrix of the gradients is not finite", hint="raise the damping")
        return cls(root, dampings, factor)

    def product(self, vector: Gradients) -> Gradients:
        """RᵀR x, in float64."""
        along = self._into({name: part.double() for name, part in vector.items()})
        return self._out_of(along, vector)

    def solve(self, rhs: Gradients) -> Gradients:
        """(Λ + RᵀR)⁻¹ b, in the dtype of b."""
        scaled = {name: part.double() / self.dampings[name] for name, part in rhs.items()}
        along = torch.cholesky_solve(self._into(scaled).T, self.factor).T
        back = self._out_of(along, scaled)
        return {name: (scaled[name] - back[name] / self.dampings[name]).to(part) for name, part in rhs.items()}

    def _into(self, vector: Gradients) -> Float[Tensor, "q r"]:
        parts = [vector[name].flatten(1) @ part.flatten(1).double().T for name, part in self.root.items()]
        return torch.stack(parts).sum(0)

    def _out_of(self, along: Float[Tensor, "q r"], like: Gradients) -> Gradients:
        return {name: (along @ part.flatten(1).double()).view_as(like[name]) for name, part in self.root.items()}
