"""What every solver of (G + Λ) x = b is given, and what it reports."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from whence.counted import counted
from whence.curvature.blockwise import Curvature
from whence.curvature.operator import Operator
from whence.errors import InvalidSetting
from whence.solvers.algebra import damped
from whence.solvers.neumann import BatchProduct
from whence.types import Gradients


@runtime_checkable
class Inverse(Protocol):
    """Anything that solves (G + Λ) x = b; a fitted `Curvature` is one."""

    @property
    def name(self) -> str: ...

    @property
    def dampings(self) -> dict[str, float]:
        """λ of each layer."""
        ...

    def solve(self, grads: Gradients) -> Gradients:
        """The x of each query."""
        ...


@dataclass(frozen=True)
class Report:
    """How a solve went."""

    inverse: str
    operator: str
    residuals: Float[Tensor, " q"]
    """‖b − (G + Λ) x‖ / ‖b‖ of each query."""
    iterations: Int64[Tensor, " q"]
    """Steps of each query; zero for a direct solve."""
    products: float
    """Passes over all the data, batches counted by their share of it. All queries share each."""
    epochs: float
    """Cost in training epochs (`Operator.epochs`), all queries together."""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        worst, typical = float(self.residuals.max()), float(self.residuals.median())
        queries = len(self.residuals)
        return (
            f"{self.inverse} on the {self.operator}: residual {typical:.2g} (worst {worst:.2g}), "
            f"{counted(int(self.iterations.max()), 'step')}, {counted(self.products, 'product')}, "
            f"{counted(self.epochs, 'epoch')} for {counted(queries, 'query')} ({self.epochs / queries:.3g} each)"
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """What a solve will take, told before it begins."""

    epochs: float
    """Training epochs (`Operator.epochs`), all queries together."""
    most: bool = False
    """Whether that is the most that it may take: it stops when it is done."""

    def __str__(self) -> str:
        return f"{'at most' if self.most else 'about'} {counted(self.epochs, 'epoch')} of training"


@dataclass(frozen=True)
class Solver(ABC):
    """An `Inverse` of an operator.

    Args:
        curvature: Preconditioner, and source of Λ; any fitted one that is damped.
        operator: G.

    Raises:
        InvalidSetting: If the curvature has no damping: G alone is singular.
    """

    curvature: Curvature
    operator: Operator
    name: str = "solver"

    def __post_init__(self) -> None:
        if self.curvature.damping is None:
            raise InvalidSetting(
                f"the {self.curvature.name} curvature has no damping, so G + Λ would be singular",
                hint="fit ekfac, kfac or diagonal to precondition with",
            )

    @property
    def dampings(self) -> dict[str, float]:
        """λ of each layer."""
        return self.curvature.dampings

    def solve(self, grads: Gradients) -> Gradients:
        """The x of each query."""
        return self.reported(grads)[0]

    @abstractmethod
    def cost(self, queries: int, groups: int = 1) -> Cost:
        """What solving so many queries will take, in so many groups one after the other. Computes nothing long."""

    @property
    def operators(self) -> tuple[Operator, ...]:
        """All that it spends passes on."""
        return (self.operator,)

    @property
    def spent(self) -> float:
        """Cost so far, in training epochs."""
        return sum(operator.epochs for operator in self.operators)

    def watch(self, tell: Callable[[], None]) -> None:
        """Have something called whenever more was spent: after each batch."""
        for operator in self.operators:
            operator.watch = tell

    @abstractmethod
    def reported(self, grads: Gradients) -> tuple[Gradients, Report]:
        """The x of each query, and how good it is."""

    def product(self, vector: Gradients) -> Gradients:
        """(G + Λ) x, on all the data."""
        return damped(self.operator.matvec, self.dampings)(vector)

    def drawn(self, batch: int, seed: int) -> BatchProduct:
        """(step, x) → G_S x on so many sequences drawn for the step; the same step draws the same ones."""
        size = self.operator.data.sequences

        def apply(step: int, vector: Gradients) -> Gradients:
            if batch >= size:
                return self.operator.matvec(vector)
            draw = torch.Generator().manual_seed((seed << 32) + step)
            return self.operator.matvec(vector, torch.randperm(size, generator=draw)[:batch].sort()[0].tolist())

        return apply

    def like(self) -> Gradients:
        """A vector of zeros."""
        return self.operator.zeros(1)
