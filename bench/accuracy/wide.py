"""A problem in float64: what the estimators are held against."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.accuracy.exact import Exact
from bench.accuracy.methods import queries_of, scored_by
from bench.accuracy.tasks import Problem
from bench.timing import timed
from whence.curvature import Curvature
from whence.curvature.ggn import GaussNewton
from whence.data.queries import QueryBatch
from whence.data.tensors import TensorData
from whence.evaluate.pbrf import Responses, pbrf
from whence.influence.query import Queries
from whence.jobs.refine import query_vectors
from whence.solvers.algebra import damped, residual
from whence.types import Gradients


@dataclass
class Wide:
    """The problem in float64: the exact solve at any damping, and PBRF in its metric."""

    problem: Problem
    ekfac: Curvature
    unit: Exact
    queries: list[QueryBatch]
    seconds: float
    """What forming the matrix took."""

    @classmethod
    def of(
        cls, problem: Problem, ekfac: Curvature, asked: Sequence[int], *, unit: dict[str, float] | None = None
    ) -> Wide:
        """With a layer's mean eigenvalue as its λ at multiple 1, or what is given."""
        model = copy.deepcopy(problem.model).double()
        wide = replace(
            problem,
            trained=replace(problem.trained, model=model),
            data=_double(problem.data),
            test=_double(problem.test),
        )
        exact, seconds = timed(lambda: Exact.of(wide, ekfac.with_damping(unit or 1.0)))
        return cls(wide, ekfac, exact, queries_of(wide.test, asked), seconds)

    def scores(self, multiple: float) -> Tensor:
        """Exact scores of every training sequence."""
        return self.scored(lambda grads: self.unit.at(multiple).solve(grads))

    def block_scores(self, multiple: float) -> Tensor:
        """The same with what lies between layers left out."""
        sizes = {name: block.eigenvalues.numel() for name, block in self.ekfac.blocks.items()}

        def solve(grads: Gradients) -> Gradients:
            parts = [one.at(multiple).solve(grads) for one in self.unit.blocks(sizes)]
            return {name: solved for part in parts for name, solved in part.items()}

        return self.scored(solve)

    def residual(self, multiple: float) -> float:
        """‖b − (G + Λ) x‖ / ‖b‖ of the exact answer, the worst query's: by whence's own Gauss-Newton products."""
        problem, solve = self.problem, self.unit.at(multiple)
        layers = self.ekfac.tracked(problem.model)
        grads, _ = query_vectors(problem.model, layers, self.queries, range(problem.queries), problem.task)
        product = damped(GaussNewton(problem.model, layers, problem.task, problem.data).matvec, solve.dampings)
        return float(residual(product, grads, solve.solve(grads)).max())

    def scored(self, solve: Callable[[Gradients], Gradients]) -> Tensor:
        """Scores by any solve."""
        problem, count = self.problem, self.problem.queries
        layers = self.ekfac.tracked(problem.model)
        grads, measured = query_vectors(problem.model, layers, self.queries, range(count), problem.task)
        return scored_by(problem, self.ekfac, Queries(solve(grads), torch.zeros(count), measured, None))

    def responses(self, multiple: float, points: list[int], most: int) -> Responses:
        """PBRF, with so many gradients at most."""
        solve = self.unit.at(multiple)
        problem = self.problem
        return pbrf(
            problem.model,
            self.ekfac.tracked(problem.model),
            solve.dampings,
            problem.data,
            problem.task,
            self.queries,
            points,
            inverse=solve,
            tolerance=1e-4,
            most=most,
        )


def _double(data: TensorData) -> TensorData:
    inputs, targets = (t.double() if t.is_floating_point() else t for t in (data.inputs, data.targets))
    return TensorData(inputs, targets, batch_size=data.batch_size, real=data.real, scored=data.scored)
