"""Scores of several methods for one model, its data and its questions: what the checks compare with the truth."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from whence.curvature import Curvature
from whence.influence.query import Queries
from whence.jobs.chosen import few_batches
from whence.jobs.fit import fit
from whence.jobs.refine import make_inverse, refined_queries
from whence.jobs.score import score, self_influence
from whence.jobs.solved import Solved, announced
from whence.jobs.validation.judged import Judged
from whence.types import Data


@dataclass(frozen=True)
class Estimates:
    """What several methods say of the same questions and data, the judged estimator first."""

    scores: dict[str, Tensor]
    """Raw, ``[q n]``."""
    seconds: dict[str, float]
    solved: list[Solved]
    """How well the judged estimator solved its questions; nothing of a fitted curvature."""

    def to_dict(self) -> dict[str, Any]:
        """JSON's types only, without the scores."""
        return {"seconds": self.seconds, "solved": [one.to_dict() for one in self.solved]}


def estimates(judged: Judged, data: Data) -> Estimates:
    """Scores of the judged estimator, gradient dot product and cosine."""
    model, task, name = judged.model, judged.task, judged.method
    (queries, reports), seconds_solve = _timed(judged.directions)
    own, seconds_own = _timed(lambda: _scored(judged, judged.curvature, queries, data))
    layers = list(judged.curvature.blocks)
    plain = fit(model, data, task=task, layers=layers, params=judged.params, curvature="identity")
    dot, seconds_dot = _timed(lambda: _scored(judged, plain, judged.asked(plain), data))
    norms, seconds_norms = _timed(lambda: self_influence(plain, data, model=model, task=task))
    assert norms is not None
    scores = {name: own, "gradient dot": dot, "cosine": dot / norms.sqrt().clamp_min(1e-30)}  # a row's scale is free
    seconds = {name: seconds_solve + seconds_own, "gradient dot": seconds_dot, "cosine": seconds_dot + seconds_norms}
    return Estimates(scores, seconds, [Solved.of(report) for report in reports])


def linearised(judged: Judged, data: Data) -> tuple[Tensor, list[Solved]]:
    """Scores by conjugate gradient on the exact Gauss-Newton matrix, and how well it was solved."""
    curvature, model, task = judged.curvature, judged.model, judged.task
    inverse = make_inverse("cg", curvature, model, task=task, data=few_batches(judged.data))
    with announced(inverse, judged.parts, judged.log):
        queries, reports = refined_queries(inverse, curvature, model, judged.parts, task=task, rank="full")
    return _scored(judged, curvature, queries, data), [Solved.of(report) for report in reports]


def _scored(judged: Judged, curvature: Curvature, queries: Queries, data: Data) -> Tensor:
    found = score(curvature, queries, data, model=judged.model, task=judged.task)
    assert found is not None
    return found.total


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    return call(), time.perf_counter() - began
