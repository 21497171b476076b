"""Scores as an object: influence of sequences on queries, and its parts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from whence.counted import counted
from whence.influence.topk import TopK
from whence.jobs.views import View
from whence.report.notebook import Column
from whence.types import Data

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class Scores:
    """Raw influence of every sequence on every query, and its parts. Positive raises the query's measurement.

    NaN, and null in tables, is a sequence that was not scored.
    """

    total: Float[Tensor, "q n"]
    by_layer: Float[Tensor, "l q n"] | None = None
    layers: tuple[str, ...] = ()
    by_token: dict[int, Float[Tensor, "q t"]] | None = None
    """Sequence → scores by position, its padding left off."""
    by_answer: Float[Tensor, "k n"] | None = None
    """Scores of every answer token alone, where they were kept; those of one query's tokens add up to its total."""

    data: Data | None = field(default=None, repr=False, compare=False)
    """What was scored, for the names of its sequences."""

    def per_copy(self, train_size: int | None = None) -> Float[Tensor, "q n"]:
        """Nats of f that one more copy of a sequence adds: raw / N, N the sequences the model was trained on.

        Args:
            train_size: N; those that were scored when not given.
        """
        return self.total / (train_size or self.total.shape[1])

    def numpy(self) -> NDArray[np.float64]:
        """Raw influence, ``[q n]``."""
        return np.asarray(self.total.detach().cpu().double().numpy())

    def top(self, n: int = 10, query: int = 0) -> View:
        """The ``n`` sequences that raise a query's measurement most, highest first."""
        return self._ranking(f"What raises query {query}", query, TopK.of(self.numpy()[query], n).highest)

    def bottom(self, n: int = 10, query: int = 0) -> View:
        """The ``n`` sequences that lower a query's measurement most, lowest first."""
        return self._ranking(f"What lowers query {query}", query, TopK.of(self.numpy()[query], n).lowest)

    def _ranking(self, title: str, query: int, sequences: NDArray[np.int64]) -> View:
        raw, per_copy = self.total[query], self.per_copy()[query]
        rows = [
            {
                "sequence": int(s),
                "raw": float(raw[s]),
                "per_copy": float(per_copy[s]),
                "where": f"sequence {s}" if self.data is None else self.data.name(int(s)),
            }
            for s in sequences
        ]
        columns = [Column("per_copy", "per copy", "influence"), Column("where", "where", "text")]
        return View(title, columns, rows, value="raw")

    def to_arrow(self) -> pa.Table:
        """A line for each query and sequence: query, sequence, raw, and where kept each layer's part by its name."""
        import pyarrow as pa

        q, n = self.total.shape
        parts = {} if self.by_layer is None else dict(zip(self.layers, self.by_layer, strict=True))
        return pa.table(
            {
                "query": np.repeat(np.arange(q), n),
                "sequence": np.tile(np.arange(n), q),
                "raw": pa.array(_flat(self.total), from_pandas=True),
                **{name: pa.array(_flat(part), from_pandas=True) for name, part in parts.items()},
            }
        )

    def to_pandas(self) -> pd.DataFrame:
        """`to_arrow`, as a DataFrame."""
        return self.to_arrow().to_pandas()

    def __repr__(self) -> str:
        q, n = self.total.shape
        by = [f"by layer ({len(self.layers)})"] if self.by_layer is not None else []
        by += ["by token"] if self.by_token is not None else []
        by += [f"by answer ({counted(len(self.by_answer), 'token')})"] if self.by_answer is not None else []
        return f"Scores({', '.join([counted(q, 'query'), counted(n, 'sequence'), *by])})"


def _flat(values: Float[Tensor, "q n"]) -> NDArray[np.float64]:
    """Queries one after another; in double, which holds every dtype's numbers as they are."""
    return np.asarray(values.detach().cpu().double().numpy()).ravel()
