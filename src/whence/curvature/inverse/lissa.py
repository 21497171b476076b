"""LiSSA on an operator, tuned by its spectrum (`solvers.spectrum`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from whence.counted import counted
from whence.curvature.inverse.solver import Cost, Report, Solver
from whence.errors import InvalidSetting
from whence.solvers.algebra import residual
from whence.solvers.neumann import neumann, refuse_useless
from whence.solvers.spectrum import Rule, rule, top_eigenvalue
from whence.types import Gradients

PRODUCTS = 10
"""Of one vector, for the top eigenvalue."""


@dataclass(frozen=True)
class Lissa(Solver):
    """x ← x + η (b − (G_S + Λ) x) from zero, S a random batch.

    Args:
        depth: Steps; None: what the rule asks for, and at most the number of sequences, as in Grosse et al. 2023.
        seed: Of the batches, and of the vector that finds the top eigenvalue.

    Raises:
        NumericalError: If it diverges, or ends far from any answer.
    """

    name: str = "lissa"
    depth: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth is not None and self.depth < 1:
            raise InvalidSetting(f"depth must be at least 1, not {self.depth}")

    @cached_property
    def rule(self) -> Rule:
        """Step, batch and depth. Cost: `PRODUCTS` of one vector; the trace is the fitted eigenvalues' sum."""
        return self._ruled(top_eigenvalue(self.product, self.like(), products=PRODUCTS, seed=self.seed))

    def _ruled(self, top: float) -> Rule:
        trace = sum(float(block.eigenvalues.double().sum()) for block in self.curvature.blocks.values())
        return rule(top, trace, self.dampings, self.operator.data.sequences)

    def cost(self, queries: int, groups: int = 1) -> Cost:
        """Told by the largest fitted eigenvalue until that of the operator is known."""
        blocks = self.curvature.blocks
        plan: Rule = self.__dict__.get("rule") or self._ruled(
            max(float(block.values.max()) + self.dampings[name] for name, block in blocks.items())
        )
        sequences = self.operator.data.sequences
        steps = self.depth or min(plan.depth, sequences)
        each = (1 + steps * plan.batch / sequences) * self.operator.product_cost(queries, groups)
        return Cost(self.operator.first_cost + PRODUCTS * self.operator.product_cost(1) + each)

    def reported(self, grads: Gradients) -> tuple[Gradients, Report]:
        before, plan, sequences = self.spent, self.rule, self.operator.data.sequences
        steps = self.depth or min(plan.depth, sequences)
        batches = self.drawn(plan.batch, self.seed)
        x = neumann(batches, grads, self.dampings, steps=steps, step_size=plan.step)
        left = residual(self.product, grads, x)
        refuse_useless(left, 1.0, plan.step)
        how = (
            f"step {plan.step:.3g}, {counted(plan.batch, 'sequence')} a batch, {counted(steps, 'step')} where the "
            f"rule asks for {plan.depth} (top eigenvalue {plan.top:.3g}, trace {plan.trace:.3g})"
        )
        products = 1 + steps * plan.batch / sequences
        epochs = self.spent - before
        return x, Report(
            self.name,
            self.operator.name,
            left,
            torch.full_like(left, steps, dtype=torch.int64),
            products,
            epochs,
            (how,),
        )
