r"""ASTRA on an operator: EK-FAC-preconditioned stochastic Neumann iterations.

    x₀ = (P + Λ)⁻¹ b        m ← 0.9 m + (P + Λ)⁻¹ (b − (G_S + Λ) x)        x ← x + α m        α halved every 50 steps

As published (Wang et al. 2025, arXiv:2507.14740, equation 9 and table 3: 200 steps of 256 sequences), but for α, which
was swept by hand there. Here the rule of `solvers.spectrum` gives it, on the preconditioned matrix: with momentum γ
the steps add up to α/(1 − γ), which is kept below 1/λ_max(M⁻¹A) and below |S| over twice the trace of M⁻¹G, EK-FAC's
effective dimension Σ Λ/(Λ + λ).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from whence.counted import counted
from whence.curvature.inverse.solver import Cost, Report, Solver
from whence.errors import InvalidSetting
from whence.solvers.algebra import residual
from whence.solvers.neumann import neumann, refuse_useless
from whence.solvers.spectrum import top_eigenvalue
from whence.types import Gradients

MOMENTUM = 0.9
HALVE_EVERY = 50


@dataclass(frozen=True)
class Astra(Solver):
    """Momentum descent from the preconditioner's own answer.

    Args:
        steps: Iterations.
        batch: Sequences a step, at most all of them.
        seed: Of the batches, and of the vector that finds the top eigenvalue.

    Raises:
        NumericalError: If it diverges, or ends far from any answer.
    """

    name: str = "astra"
    steps: int = 200
    batch: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or self.batch < 1:
            raise InvalidSetting(f"steps and batch must be at least 1, not {self.steps} and {self.batch}")

    @cached_property
    def step_size(self) -> float:
        """α. Cost: five products of one vector."""
        top = top_eigenvalue(self.product, self.like(), precondition=self.curvature.solve, products=5, seed=self.seed)
        noise = 0.0 if self.batch >= self.operator.data.sequences else 2 * self.effective_dimension / self.batch
        return (1 - MOMENTUM) / max(top, noise)

    @property
    def effective_dimension(self) -> float:
        """Σ Λ/(Λ + λ): how many directions the data decides, rather than the damping."""
        total = 0.0
        for name, block in self.curvature.blocks.items():
            values = block.values.double()
            total += float((values / (values + self.dampings[name])).sum())
        return total

    def cost(self, queries: int, groups: int = 1) -> Cost:
        share = min(self.batch / self.operator.data.sequences, 1.0)
        each = (2 + self.steps * share) * self.operator.product_cost(queries, groups)
        return Cost(self.operator.first_cost + 5 * self.operator.product_cost(1) + each)

    def reported(self, grads: Gradients) -> tuple[Gradients, Report]:
        before, sequences = self.spent, self.operator.data.sequences
        batch, start, step_size = min(self.batch, sequences), self.curvature.solve(grads), self.step_size
        x = neumann(
            self.drawn(batch, self.seed),
            grads,
            self.dampings,
            steps=self.steps,
            step_size=step_size,
            precondition=self.curvature.solve,
            momentum=MOMENTUM,
            halve_every=HALVE_EVERY,
            start=start,
        )
        first = residual(self.product, grads, start)
        left = residual(self.product, grads, x)
        refuse_useless(left, float(first.max()), step_size)
        how = (
            f"step {step_size:.3g}, {counted(batch, 'sequence')} a batch; the preconditioner's own residual was "
            f"{float(first.median()):.2g}"
        )
        products = 2 + self.steps * batch / sequences
        epochs = self.spent - before
        iterations = torch.full_like(left, self.steps, dtype=torch.int64)
        return x, Report(self.name, self.operator.name, left, iterations, products, epochs, (how,))
