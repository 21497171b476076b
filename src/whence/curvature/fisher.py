r"""The Fisher at sampled labels, by its products: a cheaper stand-in for the Gauss-Newton matrix.

    F̂ = (1/Nk) Σ over sequences and samples  g gᵀ        g = ∇L at labels drawn from the model

Its mean over draws is G; its rank is at most N·k, where G's is the number of scored outputs. A product is a backward
pass for the g and 2 + 2 multiply-adds a weight and *sequence* for each query, where the Gauss-Newton product pays
4 a weight and *position*. Where all the g fit in memory they are kept: every later product is two matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from whence.capture import LayerTrace, capture
from whence.curvature.operator import Operator
from whence.errors import InvalidSetting
from whence.layers import TrackedLayer
from whence.types import Data, Gradients, Task

KEPT_ELEMENTS = 2**27
"""Gradients are kept between products up to this many elements in all (512 MiB of float32)."""


class SampledFisher(Operator):
    """F̂ by products.

    Args:
        samples: k, label draws a sequence.
        seed: Labels are a function of it, of document and position: every product sees the same ones.
    """

    name = "sampled-fisher"

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[TrackedLayer],
        task: Task,
        data: Data,
        *,
        samples: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(model, layers, data)
        if samples < 1:
            raise InvalidSetting(f"samples must be at least 1, not {samples}")
        self.task, self.samples, self.seed = task, samples, seed
        self.keeps = self.rows * self.parameters <= KEPT_ELEMENTS
        self._kept: list[tuple[Tensor, Gradients]] | None = None

    @property
    def rows(self) -> int:
        return self.data.sequences * self.samples

    def matvec(self, grads: Gradients, sequences: Sequence[int] | None = None) -> Gradients:
        total = self.zeros(len(next(iter(grads.values()))))
        count = 0
        for ids, part in self._gradients(sequences):
            count += len(ids)
            along = torch.stack(
                [grads[name].flatten(1).to(rows) @ rows.flatten(1).T for name, rows in part.items()]
            ).sum(0)
            for name, rows in part.items():
                total[name] += (along @ rows.flatten(1)).view_as(total[name])
            self.spend(4 * len(along) / 3 * len(ids) / self.positions)
        return {name: (part / count).to(grads[name]) for name, part in total.items()}

    def product_cost(self, queries: int, groups: int = 1) -> float:
        again = 0.0 if self.keeps else groups * self.root_cost
        return again + 4 * queries / 3 * self.rows / self.positions

    @property
    def first_cost(self) -> float:
        return self.root_cost if self.keeps and self._kept is None else 0.0

    @property
    def root_cost(self) -> float:
        return 4 / 3 * self.samples

    def root(self) -> Gradients:
        """R: every sequence's gradient over √(Nk)."""
        parts = [part for _, part in self._gradients(None)]
        return {layer.name: torch.cat([part[layer.name] for part in parts]) / self.rows**0.5 for layer in self.layers}

    def _gradients(self, sequences: Sequence[int] | None) -> Iterator[tuple[Tensor, Gradients]]:
        """(sequence numbers, their gradients at sampled labels), a batch at a time."""
        if not self.keeps:
            yield from self._computed(sequences)
            return
        if self._kept is None:
            self._kept = list(self._computed(None))
        if sequences is None:
            yield from self._kept
            return
        wanted = torch.tensor(list(sequences), device=self.device)
        for ids, part in self._kept:
            chosen = torch.isin(ids, wanted)
            if bool(chosen.any()):
                yield ids[chosen], {name: rows[chosen] for name, rows in part.items()}

    def _computed(self, sequences: Sequence[int] | None) -> Iterator[tuple[Tensor, Gradients]]:
        for batch in self._batches(sequences):
            for sample in range(self.samples):
                part: Gradients = {}

                def keep(trace: LayerTrace, part: Gradients = part) -> None:
                    part[trace.layer] = trace.gradient().to(self.dtype)

                with capture(self.model, self.layers, batch.real, keep, batch.layout):
                    loss = self.task.loss(self.model, batch, labels="sampled", seed=self.seed, sample=sample)
                    self._refuse_nonfinite(loss.detach()[:, None], torch.arange(len(batch)), batch)
                    loss.sum().backward()
                self.spend(4 / 3 * len(batch) / self.data.sequences)
                yield batch.ids, part
