"""How a method is run here: a curvature fitted, a query solved, all training sequences scored, and what that took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from bench.accuracy.tasks import Problem
from bench.timing import timed
from whence.curvature import Curvature
from whence.data.queries import QueryBatch
from whence.data.tensors import TensorData
from whence.influence.query import Queries
from whence.jobs.fit import fit
from whence.jobs.query import query_gradients
from whence.jobs.refine import refined_queries
from whence.jobs.score import score

DAMPING = 0.1
"""The paper's, times the mean eigenvalue of a layer."""


@dataclass(frozen=True)
class Estimate:
    """What a method said, and what it took."""

    scores: Tensor
    """Raw scores of every training sequence ``[q n]``."""
    seconds: float
    report: dict[str, Any] | None = None
    """Of a solver: residuals, steps, epochs."""


def fitted(problem: Problem, curvature: str, labels: Literal["sampled", "expected"] = "sampled") -> Curvature:
    """A curvature at the paper's damping."""
    return fit(
        problem.model,
        problem.data,
        task=problem.task,
        layers=problem.layers,
        curvature=curvature,
        damping=DAMPING,
        labels=labels,
    )


def scored_by(problem: Problem, curvature: Curvature, queries: Queries) -> Tensor:
    """Raw scores of every training sequence ``[q n]``."""
    found = score(curvature, queries, problem.data, model=problem.model, task=problem.task)
    assert found is not None
    return found.total.double()


def asked_of(problem: Problem, curvature: Curvature, queries: list[QueryBatch]) -> Queries:
    """The queries solved by a fitted curvature."""
    return query_gradients(curvature, problem.model, queries, task=problem.task, rank="full")


def solved_by(problem: Problem, inverse: Any, ekfac: Curvature, queries: list[QueryBatch]) -> Estimate:
    """The scores by a solver, and its report."""

    def run() -> tuple[Tensor, list[Any]]:
        solved, reports = refined_queries(inverse, ekfac, problem.model, queries, task=problem.task, rank="full")
        return scored_by(problem, ekfac, solved), reports

    (scores, (report,)), spent = timed(run)
    residuals = report.residuals.double()
    kept = {
        "residual": {"median": float(residuals.median()), "largest": float(residuals.max())},
        "steps": int(report.iterations.max()),
        "epochs": report.epochs,
        "text": str(report),
    }
    return Estimate(scores, spent, kept)


def queries_of(test: TensorData, asked: Sequence[int]) -> list[QueryBatch]:
    """Each of some examples as a query; f is its log-likelihood."""
    place = {sequence: number for number, sequence in enumerate(asked)}
    return [
        QueryBatch(batch, torch.tensor([place[int(one)] for one in batch.ids]), torch.ones(len(batch)))
        for batch in test.gather(asked)
    ]
