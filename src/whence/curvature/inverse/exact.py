"""The solution of (G + Λ) x = b itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from whence.curvature.inverse.cg import ConjugateGradient
from whence.curvature.inverse.solver import Report, Solver
from whence.errors import NumericalError
from whence.solvers.algebra import damped, norm, plus, residual
from whence.solvers.woodbury import Woodbury
from whence.types import Gradients

FEW = 4096
"""Rows of R, or weights, up to which a matrix of that size is factored."""
ROOT_ELEMENTS = 2**28
"""Elements of R, at most (1 GiB of float32)."""

Direct = Callable[[Gradients], tuple[Gradients, Tensor]]
"""b → x and its residuals."""


@dataclass(frozen=True)
class Exact(Solver):
    """x to the digits that the dtype allows.

    R (G = RᵀR) has a row for each sequence, scored position and output. Where there are few rows the Woodbury identity
    is used, where there are few weights a Cholesky factor of G + Λ, both in float64 and factored once; elsewhere CG,
    until its true residual is at the tolerance. Factoring counts too: r² multiply-adds a weight.

    Args:
        tolerance: Relative residual of CG; None: 1e-9 in float64, 1e-4 in float32.
        most: Products of CG at most.

    Raises:
        NumericalError: If CG does not get there.
    """

    name: str = "exact"
    tolerance: float | None = None
    most: int = 1000

    def reported(self, grads: Gradients) -> tuple[Gradients, Report]:
        before = self.operator.epochs
        if self.direct is None:
            x, left, iterations, products, how = self._iterated(grads)
        else:
            x, left = self.direct(grads)
            iterations, products = torch.zeros(len(left), dtype=torch.int64, device=left.device), 0
            how = f"direct: R is {self.operator.rows:,} rows × {self.operator.parameters:,} weights"
        epochs = self.operator.epochs - before
        return x, Report(self.name, self.operator.name, left, iterations, products, epochs, (how,))

    @cached_property
    def direct(self) -> Direct | None:
        """A factored solve; None where neither side of R is small."""
        rows, weights = self.operator.rows, self.operator.parameters
        if rows <= min(weights, FEW) and rows * weights <= ROOT_ELEMENTS:
            return self._by_rows()
        return self._by_weights() if weights <= FEW else None

    def _by_rows(self) -> Direct:
        factored = Woodbury.of(self.operator.root(), self.dampings)
        self.operator.epochs += self.operator.rows**2 / (3 * self.operator.positions)
        product = damped(factored.product, self.dampings)

        def solve(grads: Gradients) -> tuple[Gradients, Tensor]:
            x = factored.solve(grads)
            return x, residual(product, grads, x)

        return solve

    def _by_weights(self) -> Direct:
        matrix = self.operator.dense().double()
        matrix = (matrix + matrix.T) / 2
        matrix.diagonal().add_(
            torch.cat([matrix.new_full((one.weights,), self.dampings[one.name]) for one in self.operator.layers])
        )
        factor = torch.linalg.cholesky(matrix)
        self.operator.epochs += len(matrix) ** 2 / (9 * self.operator.positions)

        def solve(grads: Gradients) -> tuple[Gradients, Tensor]:
            flat = self.operator.flat(grads).double()
            solved = torch.cholesky_solve(flat.T, factor).T
            size = flat.norm(dim=1).clamp(min=torch.finfo(torch.float64).tiny)
            x = {name: part.to(grads[name]) for name, part in self.operator.unflat(solved).items()}
            return x, (flat - self.operator.flat(x).double() @ matrix).norm(dim=1) / size

        return solve

    def _iterated(self, grads: Gradients) -> tuple[Gradients, Tensor, Tensor, int, str]:
        """CG, begun again from the true residual until that is small: in float32 the recurrence runs ahead of it."""
        wide = next(iter(grads.values())).dtype == torch.float64
        tolerance = self.tolerance or (1e-9 if wide else 1e-4)
        inner = ConjugateGradient(self.curvature, self.operator, self.name, tolerance, self.most)
        x = {name: torch.zeros_like(part) for name, part in grads.items()}
        left, products = torch.ones_like(norm(grads)), 0
        iterations = torch.zeros(len(left), dtype=torch.int64, device=left.device)
        while products < self.most:
            rest = plus(grads, self.product(x), -1.0) if products else grads
            size = norm(rest) / norm(grads).clamp(min=torch.finfo(torch.float64).tiny)
            products += 1 if products else 0
            stalled = products > 0 and not bool((size < 0.5 * left).any())
            left = size
            if bool((left <= tolerance).all()) or stalled:
                break
            aim = tolerance / float(left.max()) / 2
            found = replace(inner, tolerance=aim, most=self.most - products).run(rest)
            x, products, iterations = plus(x, found.x), products + found.products, iterations + found.iterations
        if not bool((left <= tolerance).all()):
            raise NumericalError(
                f"the exact solve stopped at a relative residual of {float(left.max()):.2g}, short of {tolerance:g}, "
                f"after {products} products",
                hint="use float64, more damping, or `cg`, which reports what it reached",
            )
        return x, left, iterations, products, f"CG to a true residual of {tolerance:g}"
