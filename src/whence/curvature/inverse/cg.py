"""Preconditioned conjugate gradient on an operator."""

from __future__ import annotations

from dataclasses import dataclass

from whence.curvature.blockwise import Curvature
from whence.curvature.inverse.solver import Cost, Report, Solver
from whence.curvature.operator import Operator
from whence.solvers.cg import Solution, conjugate_gradient
from whence.types import Gradients

FEW = 5
"""Products of `ekfac_refined`: at (3 + 4q)/3 epochs each, seven epochs a query or less."""


@dataclass(frozen=True)
class ConjugateGradient(Solver):
    """CG whose first direction is the preconditioner's own answer (see `solvers.cg`).

    Args:
        tolerance: Relative residual at which a query stops.
        most: Products at most; what was reached by then is reported.
        preconditioner: Another solver; None: the fitted curvature itself.
    """

    name: str = "cg"
    tolerance: float = 1e-3
    most: int = 100
    preconditioner: Solver | None = None

    @classmethod
    def few(cls, curvature: Curvature, operator: Operator) -> ConjugateGradient:
        """Five products at most: `ekfac_refined`."""
        return cls(curvature, operator, "ekfac_refined", most=FEW)

    def reported(self, grads: Gradients) -> tuple[Gradients, Report]:
        before = self.spent
        found = self.run(grads)
        epochs = self.spent - before
        short = found.products >= self.most > FEW and bool((found.residuals > self.tolerance).any())
        notes = (f"stopped at {self.most} products, short of the tolerance of {self.tolerance:g}",) if short else ()
        return found.x, Report(
            self.name, self.operator.name, found.residuals, found.iterations, found.products, epochs, notes
        )

    def run(self, grads: Gradients, start: Gradients | None = None) -> Solution:
        """The solution with all that CG knows about it."""
        return conjugate_gradient(
            self.product,
            grads,
            precondition=(self.preconditioner or self.curvature).solve,
            start=start,
            tolerance=self.tolerance,
            most=self.most,
        )

    def cost(self, queries: int, groups: int = 1) -> Cost:
        first = 0.0 if self.preconditioner is None else self.preconditioner.cost(queries, groups).epochs
        products = self.most * self.operator.product_cost(queries, groups)
        return Cost(first + self.operator.first_cost + products, most=True)

    @property
    def operators(self) -> tuple[Operator, ...]:
        return (self.operator, *(() if self.preconditioner is None else self.preconditioner.operators))
