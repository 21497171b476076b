"""Scores of the first rows, as a run would make them; what could change them is then changed, and they are compared.

The curvature is the diagonal of the empirical Fisher of these rows: it takes one pass and no eigenvectors, and damping
divides by it as a run's does, so that what is small in a gradient counts here as much as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from whence.curvature import CURVATURES, Curvature, Damping
from whence.curvature.noise import as_questions
from whence.data.queries import QueryBatch
from whence.evaluate.statistics import spearman
from whence.influence.query import Queries
from whence.jobs.check.rows import Rows
from whence.jobs.query import query_gradients
from whence.jobs.score import score
from whence.jobs.stream import device_of, likelihood_pass
from whence.layers.select import Tracked
from whence.types import Task

QUESTIONS = 4
"""How many questions are asked of the rows: the first given, or else ends of the first rows."""


@dataclass(frozen=True)
class Trial:
    """A model ready to score the rows: curvature fitted, questions asked, each sequence by itself."""

    model: nn.Module
    task: Task
    curvature: Curvature
    queries: Queries

    @classmethod
    def of(
        cls, model: nn.Module, tracked: Tracked, task: Task, rows: Rows, questions: Sequence[QueryBatch], damping: str
    ) -> Trial:
        """Fit and ask.

        Args:
            damping: As `Damping.parse` reads it; ``none`` takes plain gradients.
        """
        name = "identity" if damping == "none" else "diagonal"
        estimator = CURVATURES[name](tracked.layers)
        for stage in estimator.stages():
            part = stage.empty()
            for batch in rows.batches(0):
                batch = batch.to(device_of(model))
                part.begin(batch, 0)
                likelihood_pass(model, tracked.layers, task, batch, part.update, data=rows)
            stage.finish(part.sums)
        curvature = Curvature(
            name=name,
            blocks=estimator.blocks(),
            reads={layer.name: layer.reads for layer in tracked.layers},
            pooled=tuple(layer.name for layer in tracked.layers if layer.pooled),
            damping=Damping.parse(damping) if estimator.damped else None,
        )
        parts = list(questions) or _ends_of(rows)
        return cls(model, task, curvature, query_gradients(curvature, model, parts, task=task, rank=None))

    def scores(self, rows: Rows, task: Task | None = None) -> NDArray[np.float64]:
        """Raw scores ``[q n]`` of the rows, in their order whatever company they are in."""
        found = score(self.curvature, self.queries, rows, model=self.model, task=task or self.task)
        assert found is not None
        total = found.total.double().numpy()
        order = np.argsort([int(one.ids[0]) for one in rows.alone])
        return total[:, order]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How near scores come to others of the same rows."""

    difference: float
    """The largest difference, over the largest score of its question."""
    ranks: float
    """Spearman correlation, the least over questions."""
    kept: int
    """Of the top ``of`` rows, how many are still there, the fewest over questions."""
    of: int

    @classmethod
    def between(cls, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Agreement:
        """Compare ``[q n]`` with ``[q n]``."""
        scale = np.abs(theirs).max(axis=1, keepdims=True)
        difference = np.abs(ours - theirs) / np.where(scale > 0, scale, 1.0)
        top = max(1, min(10, theirs.shape[1] // 2))
        kept = min(
            len(set(np.argsort(-a)[:top].tolist()) & set(np.argsort(-b)[:top].tolist()))
            for a, b in zip(ours, theirs, strict=True)
        )
        found = spearman(ours, theirs) if theirs.shape[1] > 1 else np.ones(1)
        ranks = found[np.isfinite(found)]
        return cls(float(difference.max()), float(ranks.min()) if len(ranks) else 1.0, kept, top)


def _ends_of(rows: Rows) -> list[QueryBatch]:
    """The last tokens of the first rows, given the rest of each."""
    return [
        QueryBatch(as_questions(one), torch.tensor([number]), torch.ones(1))
        for number, one in enumerate(rows.alone[:QUESTIONS])
    ]
