"""The scored tokens of queries, each as a measurement of its own: which part of an answer does a document move?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from whence.data.queries import QueryBatch


@dataclass(frozen=True, slots=True)
class AnswerTokens:
    """Every scored token of some queries as a measurement of its own, f_k = weight · log p(y_k | all before it).

    The f_k of one query add up to its f, and so do their gradients and every score.
    """

    batches: list[QueryBatch]
    """Queries that run over tokens; padded as the queries' own batches are, and no larger."""
    query: Int64[Tensor, " k"]
    """Which query each token is one of."""
    part: Int64[Tensor, " k"]
    """Which part of all queries' (the ``ids`` of their batches)."""
    position: Int64[Tensor, " k"]
    """Where in its part it is *predicted*; it stands one token further on."""
    token: Int64[Tensor, " k"]
    """Its number in the vocabulary."""

    def __len__(self) -> int:
        return len(self.query)


def by_answer(parts: Sequence[QueryBatch]) -> AnswerTokens:
    """The queries taken apart into their scored tokens, in the order of the queries, their parts and positions."""
    found = []
    for number, part in enumerate(parts):
        for row, position in part.batch.scored.nonzero().tolist():
            at = int(part.batch.ids[row]), position
            found.append((int(part.query[row]), *at, int(part.batch.targets[row, position]), number, row))
    found.sort()
    batches = []
    for number, part in enumerate(parts):
        mine = [(k, row, position) for k, (_, _, position, _, batch, row) in enumerate(found) if batch == number]
        for start in range(0, len(mine), len(part.batch)):
            tokens, rows, positions = map(torch.tensor, zip(*mine[start : start + len(part.batch)], strict=True))
            batch = part.batch.rows(rows)
            scored = torch.zeros_like(batch.scored)
            scored[torch.arange(len(rows)), positions] = True
            batches.append(QueryBatch(replace(batch, scored=scored), tokens, part.weight[rows]))
    columns = torch.tensor([one[:4] for one in found], dtype=torch.int64).reshape(-1, 4).unbind(1)
    return AnswerTokens(batches, *(column.contiguous() for column in columns))
