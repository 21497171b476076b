"""What a run holds and what it keeps, in bytes, from the sizes of its layers.

Held are sums, bases, eigenvalues and queries, and the activations of one batch (which `probe` measures); kept are
the files of the run's folder. Half-precision models have float32 sums: see `Estimator.dtype`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from whence.influence.score import EXPANDED_ELEMENTS, meets_as_factors
from whence.jobs import costs
from whence.jobs.query import DENSE_ELEMENTS
from whence.jobs.workload import Workload
from whence.layers import TrackedLayer

HEADER = 300
"""Bytes of a safetensors file besides its numbers, about."""
SHOWN, DOCUMENT = 17, 2300
"""Bytes of a shown token in the report and of a shown document besides, all views packed, about."""
PAGE = 120_000
"""Bytes of a report without documents, about."""


@dataclass(frozen=True)
class Memory:
    """Bytes above the loaded model, by pass; bytes on disk, by folder."""

    layers: Sequence[TrackedLayer]
    dtype: torch.dtype
    train: Workload
    queries: int
    rank: int | None
    by: Sequence[str]
    curvature: str

    @property
    def item(self) -> int:
        """Bytes of a number in a sum."""
        return torch.promote_types(self.dtype, torch.float32).itemsize

    @property
    def bases(self) -> int:
        return self.item * costs.bases(self.layers) if self.curvature in ("kfac", "ekfac") else 0

    @property
    def weights(self) -> int:
        return self.item * costs.weights(self.layers)

    @property
    def widest(self) -> int:
        return max(max(layer.outputs, layer.inputs) for layer in self.layers)

    @property
    def largest(self) -> int:
        """Bytes of the largest layer's weights, in the precision of sums."""
        return self.item * max(layer.weights for layer in self.layers)

    @property
    def fitted(self) -> int:
        """A curvature in memory."""
        eigenvalues = 0 if self.curvature == "identity" else self.weights
        return self.bases + eigenvalues

    @property
    def prepared(self) -> int:
        """All queries as they meet the training data."""
        if self.rank is None:
            return self.queries * self.weights
        return self.queries * self.item * costs.factors(self.layers, self.rank)

    # --- held, at the height of each pass ---------------------------------------------------------------------

    def check(self) -> int:
        """Hook gradients and autograd's of two sequences, the latter twice while they are stacked."""
        two = 2 * sum(layer.weights for layer in self.layers) * self.dtype.itemsize
        return 3 * two

    def moments(self, batch: int) -> int:
        """While a batch runs, or while two partial sums become one."""
        return max(self.bases + batch, 3 * self.bases)

    def eigenbases(self) -> int:
        """Sums turning into bases; the widest in float64 with LAPACK's workspace, about five copies."""
        return self.bases + 5 * 8 * self.widest**2 + self.weights

    def squares(self, batch: int) -> int:
        """The eigenvalues kept in two halves, beside the bases and the K-FAC eigenvalues they replace."""
        held = self.fitted if self.curvature == "ekfac" else 0
        return held + max(2 * self.weights + batch, 4 * self.weights)

    def query(self, batch: int, batches: int) -> int:
        """A group's gradients beside a batch, then beside their solved form and three more of one layer.

        With one batch alone, gradients come as activations go.
        """
        group = min(self.queries, max(1, DENSE_ELEMENTS * self.item // self.weights))
        sums = group * self.weights
        passing = max(sums, batch) if batches == 1 else sums + batch
        return self.fitted + max(passing, sums + 3 * group * self.largest)

    def score(self, batch: int) -> int:
        wanted = self.queries * costs.weights(self.layers)
        expanded = 0
        if self.rank is not None:
            kept = wanted <= EXPANDED_ELEMENTS
            expanded = self.item * wanted if kept and self._multiplies_out() else self.queries * self.largest
        totals = 2 * 4 * self.queries * self.train.sequences * (1 + ("layer" in self.by) * len(self.layers))
        totals += 4 * self.queries * self.train.tokens * ("token" in self.by)
        return self.fitted + self.prepared + expanded + totals + batch

    def report(self, batch: int) -> int:
        """One question at full rank beside all of them, and its direction."""
        return self.fitted + self.prepared + 2 * self.weights + 3 * self.largest + batch

    def _multiplies_out(self) -> bool:
        """Whether any low-rank query meets a trace as a dense matrix."""
        longest = max(shape.t for shape in self.train.batches)
        assert self.rank is not None
        return "token" not in self.by and any(
            not meets_as_factors(longest, self.queries, min(self.rank, e.outputs, e.inputs), e) for e in self.layers
        )

    # --- kept -----------------------------------------------------------------------------------------------------

    def disk(self, report: bool, top: int) -> dict[str, int]:
        """Bytes of each folder when the run is done."""
        files = len(self.layers) + (len(costs.groups(self.layers)) if self.bases else 0)
        kept = {"data": self.train.disk, "curvature": self.fitted + HEADER * files + 4096}
        if self.curvature == "identity":
            kept["curvature"] += self.weights
        if self.queries:
            kept["queries"] = self.prepared + HEADER * len(self.layers) // 2 + 2048
            a_sequence = 8 + 4 * self.queries * (1 + ("layer" in self.by) * len(self.layers))
            tokens = 4 * self.queries * self.train.tokens * ("token" in self.by)
            kept["scores"] = a_sequence * self.train.sequences + tokens + (HEADER + 100) * self.train.units + 2048
        if report:
            documents = self.queries * min(2 * top, self.train.documents)
            mean = self.train.tokens / max(self.train.documents, 1)
            kept["report"] = PAGE + round(documents * (mean * SHOWN + DOCUMENT))
        return kept

    def disk_while_fitting(self) -> int:
        """The most that partial sums take: a node a level of the tree, and a parent before its children go."""
        nodes = math.ceil(math.log2(max(2, self.train.units))) + 1
        moments = nodes * self.bases
        squares = nodes * 2 * self.weights + self.bases if self.curvature in ("ekfac", "diagonal") else 0
        return max(moments, squares)
