r"""One layer's curvature: a diagonal in a Kronecker basis.

    H = (Q_S ⊗ Q_A) diag(Λ) (Q_S ⊗ Q_A)ᵀ        (H + λI)⁻¹ V = Q_S [ (Q_Sᵀ V Q_A) ⊘ (Λ + λ) ] Q_Aᵀ

EK-FAC and K-FAC differ in Λ alone; the diagonal and the identity have no basis (Q_S = Q_A = I).
Nothing of size ``oi × oi`` is formed outside `dense`, which is for tests and toys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whence.errors import InvalidSetting


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The curvature of one layer's weights ``[o i]`` (bias column included).

    Units: squared gradient of one sequence's summed loss, averaged over sequences.
    """

    eigenvalues: Float[Tensor, "o i"]
    output_basis: Float[Tensor, "o o"] | None = None
    """Q_S, eigenvectors in columns; None for the identity."""
    input_basis: Float[Tensor, "i i"] | None = None
    """Q_A; one tensor for all layers that read the same input."""

    @property
    def shape(self) -> tuple[int, int]:
        outputs, inputs = self.eigenvalues.shape
        return outputs, inputs

    @property
    def values(self) -> Float[Tensor, "o i"]:
        """The eigenvalues in float32 or better, whatever they are kept in."""
        return self.eigenvalues.to(torch.promote_types(self.eigenvalues.dtype, torch.float32))

    def kept_as(self, dtype: torch.dtype | None) -> Block:
        """The same block with bases and eigenvalues rounded to ``dtype``; None leaves them as they are."""
        if dtype is None:
            return self
        cut = (None if basis is None else basis.to(dtype) for basis in (self.output_basis, self.input_basis))
        return Block(self.eigenvalues.to(dtype), *cut)

    def rotate(self, grads: Float[Tensor, "q o i"]) -> Float[Tensor, "q o i"]:
        """Into the eigenbasis: Q_Sᵀ V Q_A."""
        if self.output_basis is not None:
            grads = self.output_basis.to(grads).mT @ grads
        return grads if self.input_basis is None else grads @ self.input_basis.to(grads)

    def rotate_back(self, grads: Float[Tensor, "q o i"]) -> Float[Tensor, "q o i"]:
        """Out of the eigenbasis: Q_S V Q_Aᵀ."""
        return self.rotate_back_left(self.rotate_back_right(grads))

    def rotate_back_left(self, columns: Float[Tensor, "q o r"]) -> Float[Tensor, "q o r"]:
        """Output directions out of the eigenbasis: Q_S L."""
        return columns if self.output_basis is None else self.output_basis.to(columns) @ columns

    def rotate_back_right(self, rows: Float[Tensor, "q r i"]) -> Float[Tensor, "q r i"]:
        """Input directions out of the eigenbasis: R Q_Aᵀ."""
        return rows if self.input_basis is None else rows @ self.input_basis.to(rows).mT

    def solve(self, grads: Float[Tensor, "q o i"], damping: float) -> Float[Tensor, "q o i"]:
        """Precondition gradients with the damped inverse, (H + λI)⁻¹ g.

        Cost: O(q·o·i·(o + i)). Damping is added to a copy: two calls give the same numbers.

        Args:
            grads: Gradients summed over positions.
            damping: λ, in the units of ``eigenvalues``. `Damping` turns "a tenth of the mean" into this number.

        Returns:
            Preconditioned gradients, in the dtype and on the device of ``grads``.

        Raises:
            InvalidSetting: If ``damping`` is negative, or zero where an eigenvalue is zero: H is singular
                when a direction never occurred, as when a layer saw fewer positions than it is wide.

        Example:
            >>> block = Block(torch.ones(2, 3))
            >>> block.solve(torch.ones(1, 2, 3), damping=1.0)[0, 0]
            tensor([0.5000, 0.5000, 0.5000])
        """
        return self.rotate_back(self.rotate(grads) / self.damped(damping).to(grads))

    def damped(self, damping: float) -> Float[Tensor, "o i"]:
        """Λ + λ, checked to be invertible."""
        if not damping >= 0 or (damping == 0 and bool((self.eigenvalues <= 0).any())):
            raise InvalidSetting(
                f"damping {damping:g} leaves the curvature singular", hint="give a positive damping, such as 0.1"
            )
        return self.values + damping

    def matvec(self, grads: Float[Tensor, "q o i"]) -> Float[Tensor, "q o i"]:
        """H g, undamped."""
        return self.rotate_back(self.rotate(grads) * self.values.to(grads))

    def dense(self) -> Float[Tensor, "oi oi"]:
        """The whole matrix over row-major ``vec([o i])``: the oracle of the tests."""
        outputs, inputs = self.shape
        values = self.values
        left = torch.eye(outputs).to(values) if self.output_basis is None else self.output_basis.to(values)
        right = torch.eye(inputs).to(values) if self.input_basis is None else self.input_basis.to(values)
        basis = torch.kron(left.contiguous(), right.contiguous())
        return (basis * values.flatten()) @ basis.mT
