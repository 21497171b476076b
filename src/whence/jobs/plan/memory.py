"""What a run holds, in bytes, at the height of each of its passes.

Held are sums, bases, eigenvalues and queries, which follow from the sizes of layers, and the activations of one
batch, which are measured (`machine`) and come here as ``batch``. Half-precision models have float32 sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from whence.capture.check import pieces
from whence.curvature.estimator import Part
from whence.curvature.moments import Moments
from whence.curvature.noise import PROBES, TRACE_ELEMENTS
from whence.curvature.rotation import GRADIENT_ELEMENTS
from whence.curvature.squares import Squares
from whence.influence.score import EXPANDED_ELEMENTS, meets_as_factors
from whence.jobs.plan import costs
from whence.jobs.plan.workload import Workload
from whence.jobs.query import DENSE_ELEMENTS, resolve_rank
from whence.jobs.report.question import BESIDE_ELEMENTS
from whence.jobs.stored_curvature import STORED
from whence.layers import TrackedLayer


@dataclass(frozen=True)
class Memory:
    """Bytes above the loaded model, by pass.

    Args:
        dtype: The model's.
        parameters: Of the model, tracked or not.
        sums: What sums and queries are kept in.
        stored: What bases and eigenvalues are kept in.
    """

    layers: Sequence[TrackedLayer]
    dtype: torch.dtype
    parameters: int
    sums: torch.dtype
    stored: torch.dtype
    curvature: str
    train: Workload
    queries: int
    """What meets the data: the questions, or their answers' tokens."""
    questions: int
    rank: int | None
    by: Sequence[str]
    mapped: bool = False
    """Whether a finished curvature, and queries, are read from their files as they are used, and not held."""

    @classmethod
    def of(
        cls,
        model: nn.Module,
        layers: Sequence[TrackedLayer],
        train: Workload,
        queries: Workload | None,
        asked: Workload | None,
        curvature: str,
        store: str,
        rank: int | str | None,
        by: Sequence[str],
        *,
        mapped: bool = False,
    ) -> Memory:
        """Of a model and what it will read.

        Args:
            asked: What meets the data: the questions, or their answers' tokens.
            mapped: Whether what is finished stays in its files; an accelerator has to load it.
        """
        first = next(model.parameters())
        sums = torch.promote_types(first.dtype, torch.float32)
        count = asked.documents if asked else 0
        return cls(
            layers=layers,
            dtype=first.dtype,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            sums=sums,
            stored=STORED[store] or sums,
            curvature=curvature,
            train=train,
            queries=count,
            questions=queries.documents if queries else 0,
            rank=resolve_rank(rank, count, costs.weights(layers)) if count else None,
            by=by,
            mapped=mapped and first.device.type == "cpu",
        )

    @property
    def bases(self) -> int:
        """Finished bases."""
        return self.stored.itemsize * costs.bases(self.layers) if self.curvature in ("kfac", "ekfac") else 0

    @property
    def moments_sum(self) -> int:
        """One partial sum of the first stage, asked of the stage itself."""
        return _bytes(Moments(self._named, 1, self.sums, torch.device("meta")))

    @property
    def squares_sum(self) -> int:
        """One of the second."""
        return _bytes(Squares(self._named, {}, 1, self.sums, torch.device("meta")))

    @property
    def half(self) -> int:
        """What half of the draws give, held until the noise has been looked at: Q_S and eigenvalues of its own."""
        if self.curvature == "identity":
            return 0
        own = self.sums.itemsize * costs.output_bases(self.layers) if self.curvature in ("kfac", "ekfac") else 0
        return own + self.weights

    @property
    def weights(self) -> int:
        """As many numbers as tracked weights, in the precision of sums."""
        return self.sums.itemsize * costs.weights(self.layers)

    @property
    def widest(self) -> int:
        return max(max(layer.outputs, layer.inputs) for layer in self.layers)

    @property
    def largest(self) -> int:
        """Bytes of the largest layer's weights, in the precision of sums."""
        return self.sums.itemsize * max(layer.weights for layer in self.layers)

    @property
    def fitted(self) -> int:
        """A curvature in memory."""
        return self.bases + (0 if self.curvature == "identity" else self.stored.itemsize * costs.weights(self.layers))

    @property
    def kept(self) -> int:
        """What is there of a curvature once it is fitted."""
        return 0 if self.mapped else self.fitted

    @property
    def prepared(self) -> int:
        """All queries as they meet the training data."""
        if self.rank is None:
            return self.queries * self.weights
        return self.queries * self.sums.itemsize * costs.factors(self.layers, self.rank)

    @property
    def met(self) -> int:
        """What is there of the queries while they meet the data."""
        return 0 if self.mapped else self.prepared

    def check(self, batch: int, at_once: int) -> int:
        """Two sequences' gradients from hooks, and one by autograd with the graph of the batch beside them, which is
        about three quarters of what the batch takes at its height (0.72–0.80 of Llamas of several shapes).

        Args:
            at_once: Weights that are looked at together.
        """
        some = max(sum(layer.weights for layer in piece) for piece in pieces(self.layers, at_once))
        return max(batch, 3 * self.dtype.itemsize * some + 3 * batch // 4)

    def moments(self, batch: int) -> int:
        """While a batch runs, or while two partial sums become one."""
        return self.moments_sum + max(batch, self.moments_sum + 2 * self.sums.itemsize * self.widest**2)

    def eigenbases(self) -> int:
        """Sums turning into bases; the widest in float64 with LAPACK's workspace, about five copies."""
        return self.moments_sum + 5 * 8 * self.widest**2 + 2 * self.weights

    def squares(self, batch: int) -> int:
        """The eigenvalues in two halves, beside the bases and the K-FAC eigenvalues they replace."""
        held = self.fitted + self.half if self.curvature == "ekfac" else 0
        return held + self.squares_sum + max(batch, self.squares_sum + 2 * self.largest)

    def noise(self, positions: int, height: int, batch: int) -> int:
        """Traces of all probes but the batch that runs; or all of them, and one layer's turned into a basis.

        Args:
            positions: Of all probes together.
            height: Of the batch that takes most.
        """
        a_position = min(costs.traces(self.layers), TRACE_ELEMENTS / positions) * self.dtype.itemsize
        turned = positions * self.dtype.itemsize * max(layer.inputs + layer.outputs for layer in self.layers)
        rows = min(GRADIENT_ELEMENTS["cpu"], PROBES * max(layer.weights for layer in self.layers))
        formed = self.sums.itemsize * rows * 4 // 3  # gradients of all probes, and of the third asked about once more
        passing, meeting = (positions - height) * a_position + batch, positions * a_position + turned + formed
        return self.fitted + self.half + round(max(passing, meeting))

    def query(self, batch: int, batches: int) -> int:
        """A group's gradients beside a batch, then beside their solved form and three more of one layer.

        With one batch alone, gradients come as activations go.
        """
        group = min(self.queries, max(1, DENSE_ELEMENTS // costs.weights(self.layers)))
        sums, before = group * self.weights, self.prepared * (self.queries - group) // self.queries
        passing = max(sums, batch) if batches == 1 else sums + batch
        solving = sums + 3 * group * self.largest
        return self.kept + max(before + max(passing, solving), 2 * self.prepared if before else 0)

    def score(self, batch: int) -> int:
        """All queries, multiplied out where that is cheaper, beside a batch; or all scores put together."""
        wanted = self.queries * costs.weights(self.layers)
        expanded = 0
        if self.rank is not None and self._multiplies_out():
            expanded = self.sums.itemsize * wanted if wanted <= EXPANDED_ELEMENTS else self.queries * self.largest
        totals = 2 * 4 * self.questions * self.train.asked.sequences * (1 + ("layer" in self.by) * len(self.layers))
        totals += 2 * 4 * self.queries * self.train.asked.sequences * ("answer" in self.by)
        totals += 4 * self.questions * self.train.tokens * ("token" in self.by)
        return self.kept + self.met + max(expanded + batch, totals)

    def one_question(self, batch: int, beside: int = 0, met: int = 0) -> int:
        """One question at full rank beside all of them, and its direction; in float32 whatever the pass was in.

        Args:
            beside: What else its documents are met with, answer tokens and other dampings: some at a time, dense, twice
                while they are put together and with the next one made.
            met: Of the batch that they then meet.
        """
        wider = max(self.dtype.itemsize, 4)
        held = self.kept + self.met + (wider - self.dtype.itemsize) * self.parameters
        explained = 2 * self.weights + max(batch * wider // self.dtype.itemsize, 3 * self.largest)
        some = self.at_once(beside)
        together, after = some * self.weights, (some < beside) * self.weights
        twice = together if some > 1 else 0
        return held + max(explained, together + after + max(twice, met * wider // self.dtype.itemsize))

    def at_once(self, beside: int) -> int:
        """How many of them are met together."""
        return min(beside, max(1, BESIDE_ELEMENTS // costs.weights(self.layers)))

    @property
    def _named(self) -> dict[str, TrackedLayer]:
        return {layer.name: layer for layer in self.layers}

    def _multiplies_out(self) -> bool:
        """Whether any low-rank query meets a trace as a dense matrix."""
        longest = max(shape.t for shape in self.train.asked.batches)
        assert self.rank is not None
        return "token" not in self.by and any(
            not meets_as_factors(longest, self.queries, min(self.rank, e.outputs, e.inputs), e) for e in self.layers
        )


def _bytes(part: Part) -> int:
    return sum(total.nbytes for total in part.sums.values())
