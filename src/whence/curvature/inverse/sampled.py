r"""The sampled Fisher, inverted exactly, in place of EK-FAC.

    F̂ = RᵀR, a row for each sequence and label sample        (F̂ + Λ)⁻¹ by the Woodbury identity

EK-FAC spreads each layer's curvature over all of its directions; where there are fewer sequences than weights, G has
none in most of them, and it is there that EK-FAC is furthest from it. F̂ keeps G's null space, the correlations between
layers and those inside them, and pays with noise. It is for training sets of some thousand sequences: R is as large as
that many gradients. Where G has far more rows than R (a language model) its answers rank well and are much too long,
since it lets Λ alone decide outside its rows; CG on G mends the length with its first product, and preconditioned so
it needs about half of the products that it needs with EK-FAC.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from whence.curvature.blockwise import Curvature
from whence.curvature.fisher import SampledFisher
from whence.curvature.ggn import GaussNewton
from whence.curvature.inverse import exact
from whence.curvature.inverse.cg import FEW, ConjugateGradient
from whence.curvature.inverse.solver import Cost, Report, Solver
from whence.curvature.operator import Operator
from whence.errors import InvalidSetting
from whence.solvers.algebra import residual
from whence.types import Gradients

ROWS = 1024
"""Rows of R that are aimed at where sequences are few: factoring costs their square."""


@dataclass(frozen=True)
class Sampled(Solver):
    """(F̂ + Λ)⁻¹; residuals are those of the exact operator.

    Args:
        samples: Label draws a sequence; None: as many as make about a thousand rows, at least one.
        seed: Of the labels.

    Raises:
        InvalidSetting: If there are too many sequences to invert F̂ through its rows.
    """

    name: str = "sampled"
    samples: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.operator, GaussNewton):
            raise InvalidSetting(f"{self.name} samples labels by itself", hint="use operator = exact, or `exact`")
        refuse_many(self.operator, self.samples or 1)

    def cost(self, queries: int, groups: int = 1) -> Cost:
        return Cost(self.inverse.cost(queries, groups).epochs + self.operator.product_cost(queries, groups))

    @property
    def operators(self) -> tuple[Operator, ...]:
        return (self.operator, *self.inverse.operators)

    @classmethod
    def refined(cls, curvature: Curvature, operator: Operator) -> ConjugateGradient:
        """Five products on G, preconditioned by it: `sampled_refined`."""
        own = cls(curvature, operator)
        return ConjugateGradient(curvature, operator, "sampled_refined", most=FEW, preconditioner=own.inverse)

    @cached_property
    def inverse(self) -> exact.Exact:
        """The exact inverse of F̂ + Λ."""
        operator = self.operator
        assert isinstance(operator, GaussNewton)
        samples = self.samples or max(1, ROWS // operator.data.sequences)
        fisher = SampledFisher(
            operator.model, operator.layers, operator.task, operator.data, samples=samples, seed=self.seed
        )
        return exact.Exact(self.curvature, fisher)

    def reported(self, grads: Gradients) -> tuple[Gradients, Report]:
        before = self.spent
        x = self.inverse.solve(grads)
        left = residual(self.product, grads, x)
        epochs = self.spent - before
        none = torch.zeros_like(left, dtype=torch.int64)
        how = f"direct: {self.inverse.operator.rows:,} gradients at sampled labels; one product is for the residual"
        return x, Report(self.name, self.operator.name, left, none, 1, epochs, (how,))


def refuse_many(operator: Operator, samples: int = 1) -> None:
    """Refuse more gradients at sampled labels than can be inverted through; computes nothing.

    Raises:
        InvalidSetting: Saying how many there would be.
    """
    rows, limit = operator.data.sequences * samples, exact.FEW
    if rows > limit or rows * operator.parameters > exact.ROOT_ELEMENTS:
        raise InvalidSetting(
            f"{rows:,} gradients of {operator.parameters:,} weights are too many to invert the sampled Fisher "
            f"directly (at most {limit:,}, and {exact.ROOT_ELEMENTS:,} numbers)",
            hint="use `ekfac_refined`",
        )
