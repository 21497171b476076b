"""Scores of every method on one setting, with what each cost in processor seconds and what its solver reported.

A query is a held-out window, f its log-probability. λ is relative to each layer's mean eigenvalue of EK-FAC, and every
method that inverts G + λI at one damping inverts it at the same λ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.lds.protocol import Setting
from bench.timing import timed
from whence.curvature import Curvature
from whence.curvature.ggn import GaussNewton
from whence.influence.query import Queries
from whence.jobs.fit import fit
from whence.jobs.query import query_gradients
from whence.jobs.refine import make_inverse, query_vectors, refined_queries
from whence.jobs.score import score, self_influence
from whence.solvers.algebra import damped, dot, norm, plus
from whence.solvers.cg import conjugate_gradient
from whence.tasks import CausalLM
from whence.types import Gradients

TASK = CausalLM()
TINY = 1e-30


class Methods:
    """Curvatures of one choice of layers, each fitted once, and the scores ``[q n]`` that they give."""

    def __init__(self, setting: Setting, layers: str | Sequence[str] = "blocks") -> None:
        self.setting, self.layers = setting, layers
        self.seconds: dict[str, float] = {}
        self._fitted: dict[str, tuple[Curvature, float]] = {}

    def curvature(self, name: str, damping: float) -> Curvature:
        """A fitted curvature, at EK-FAC's λ."""
        if name not in self._fitted:
            self._fitted[name] = timed(
                lambda: fit(self.setting.model, self.setting.data, task=TASK, layers=self.layers, curvature=name)
            )
        made = self._fitted[name][0]
        if name == "identity":
            return made
        return made.with_damping(damping if name == "ekfac" else self.curvature("ekfac", damping).dampings)

    def fitted(self, name: str, damping: float, label: str) -> Tensor:
        """Scores by a fitted curvature."""
        curvature = self.curvature(name, damping)
        queries, spent = timed(
            lambda: query_gradients(curvature, self.setting.model, self.setting.queries, task=TASK, rank="full")
        )
        found, more = timed(lambda: self._scored(curvature, queries))
        self.seconds[label] = spent + more + self._fitted[name][1]
        return found

    def own(self, name: str, damping: float, label: str) -> Tensor:
        """√ self-influence of every training window, to divide scores by."""
        found, spent = timed(
            lambda: self_influence(
                self.curvature(name, damping), self.setting.data, model=self.setting.model, task=TASK
            )
        )
        self.seconds[label] = spent
        return found.sqrt().clamp_min(TINY)

    def solved(self, name: str, damping: float, label: str) -> tuple[Tensor, str]:
        """Scores by a solver of the exact G + Λ, preconditioned by EK-FAC, and its report."""
        curvature, model = self.curvature("ekfac", damping), self.setting.model
        inverse = make_inverse(name, curvature, model, task=TASK, data=self.setting.data)
        (queries, reports), spent = timed(
            lambda: refined_queries(inverse, curvature, model, self.setting.queries, task=TASK, rank="full")
        )
        found, more = timed(lambda: self._scored(curvature, queries))
        self.seconds[label] = spent + more + self._fitted["ekfac"][1]
        return found, "; ".join(map(str, reports))

    def conjugate_gradient(self, damping: float, most: int) -> list[dict[str, Any]]:
        """One run of block CG, and its answer after each number of products: scores, residual, epochs, seconds.

        The operator is told each direction p, and the solution its steps α, so that every x = Σ α p is at hand.
        """
        curvature, model = self.curvature("ekfac", damping), self.setting.model
        tracked = curvature.tracked(model)
        operator = GaussNewton(model, tracked, TASK, self.setting.data)
        product = damped(operator.matvec, curvature.dampings)
        directions: list[tuple[Gradients, Gradients, float, float]] = []

        def watched(vector: Gradients) -> Gradients:
            image, spent = timed(lambda: product(vector))
            directions.append((vector, image, operator.epochs, spent))
            return image

        count = 1 + max(int(part.query.max()) for part in self.setting.queries)
        grads, measured = query_vectors(model, tracked, self.setting.queries, range(count), TASK)
        found = conjugate_gradient(watched, grads, precondition=curvature.solve, tolerance=0.0, most=most)
        x = {name: torch.zeros_like(part) for name, part in grads.items()}
        rest, rows, seconds = dict(grads), [], 0.0
        for (vector, image, epochs, spent), alpha in zip(directions, found.alphas, strict=True):
            x, rest, seconds = plus(x, vector, alpha), plus(rest, image, -alpha), seconds + spent
            queries = Queries(x, dot(grads, x).cpu(), measured, None)
            rows.append(
                {
                    "scores": self._scored(curvature, queries),
                    "residual": float((norm(rest) / norm(grads)).median()),
                    "products": len(rows) + 1,
                    "epochs": epochs,
                    "epochs_a_query": epochs / count,
                    "seconds": seconds,
                }
            )
        return rows

    def _scored(self, curvature: Curvature, queries: Queries) -> Tensor:
        found = score(curvature, queries, self.setting.data, model=self.setting.model, task=TASK)
        assert found is not None
        return found.total
