"""The solution of (G + Λ) x = b itself, by a factor of a matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from whence.curvature.inverse.solver import Cost, Report, Solver
from whence.curvature.operator import AT_ONCE, Operator
from whence.errors import InvalidSetting
from whence.solvers.algebra import damped, residual
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
    is used, where there are few weights a Cholesky factor of G + Λ, both in float64 and factored once. Factoring counts
    too: r² multiply-adds a weight.

    Raises:
        InvalidSetting: If there are many of both: what iterates is called otherwise (`ConjugateGradient`).
    """

    name: str = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_large(self.operator)

    def cost(self, queries: int, groups: int = 1) -> Cost:
        operator, size = self.operator, self.operator.parameters
        if _few_rows(operator):
            return Cost(operator.root_cost + self._factor_cost)
        whole, rest = divmod(size, AT_ONCE)
        dense = whole * operator.product_cost(AT_ONCE) + (operator.product_cost(rest) if rest else 0.0)
        return Cost(operator.first_cost + dense + self._factor_cost)

    @property
    def _factor_cost(self) -> float:
        operator = self.operator
        if _few_rows(operator):
            return operator.rows**2 / (3 * operator.positions)
        return operator.parameters**2 / (9 * operator.positions)

    def reported(self, grads: Gradients) -> tuple[Gradients, Report]:
        before = self.spent
        x, left = self.direct(grads)
        none = torch.zeros(len(left), dtype=torch.int64, device=left.device)
        how = f"direct: R is {self.operator.rows:,} rows × {self.operator.parameters:,} weights"
        return x, Report(self.name, self.operator.name, left, none, 0, self.spent - before, (how,))

    @cached_property
    def direct(self) -> Direct:
        """A factored solve."""
        return self._by_rows() if _few_rows(self.operator) else self._by_weights()

    def _by_rows(self) -> Direct:
        factored = Woodbury.of(self.operator.root(), self.dampings)
        self.operator.spend(self._factor_cost)
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
        self.operator.spend(self._factor_cost)

        def solve(grads: Gradients) -> tuple[Gradients, Tensor]:
            flat = self.operator.flat(grads).double()
            solved = torch.cholesky_solve(flat.T, factor).T
            size = flat.norm(dim=1).clamp(min=torch.finfo(torch.float64).tiny)
            x = {name: part.to(grads[name]) for name, part in self.operator.unflat(solved).items()}
            return x, (flat - self.operator.flat(x).double() @ matrix).norm(dim=1) / size

        return solve


def refuse_large(operator: Operator) -> None:
    """Refuse a matrix neither side of which can be factored; told from a pass over one batch.

    Raises:
        InvalidSetting: Saying how large both are.
    """
    if not _few_rows(operator) and operator.parameters > FEW:
        raise InvalidSetting(
            f"an exact solve needs at most {FEW:,} weights, or {FEW:,} rows (one for each output of a scored position) "
            f"of {ROOT_ELEMENTS:,} numbers: here are {operator.parameters:,} weights and {operator.rows:,} rows",
            hint="use --solver cg, which goes on to a residual of 0.001 and says what it reached, or track fewer "
            "layers with --layers",
        )


def _few_rows(operator: Operator) -> bool:
    rows, weights = operator.rows, operator.parameters
    return rows <= min(weights, FEW) and rows * weights <= ROOT_ELEMENTS
