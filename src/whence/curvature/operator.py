"""A curvature known by its products: G v for many v at once, all layers together, by passes over the data."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.errors import DataError, NumericalError
from whence.layers import TrackedLayer
from whence.types import Batch, Data, Gradients

AT_ONCE = 256
"""Columns of `dense` that are computed together."""


class Operator(ABC):
    """G = RᵀR of the mean loss over the tracked layers jointly: blocks between layers are not dropped.

    Args:
        layers: The tracked layers; every other parameter is taken as fixed.
        data: The training sequences that the mean is over.
    """

    name: str

    def __init__(self, model: nn.Module, layers: Sequence[TrackedLayer], data: Data) -> None:
        if data.sequences == 0:
            raise DataError("there is nothing to read in the data")
        self.model, self.layers, self.data = model, tuple(layers), data
        self.device = layers[0].parameters()[0].device
        self.epochs = 0.0
        """Cost so far in passes of training: forward and backward of all sequences, three multiply-adds a weight and
        position."""
        self.watch: Callable[[], None] = lambda: None
        """Called whenever some of that cost was spent: after each batch."""

    @abstractmethod
    def matvec(self, grads: Gradients, sequences: Sequence[int] | None = None) -> Gradients:
        """G v of each query, undamped; of the mean over some sequences where they are named."""

    @abstractmethod
    def root(self) -> Gradients:
        """R, layer → ``[rows o i]``, in float32 or better."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """How many rows R has: the rank of G is at most that."""

    @abstractmethod
    def product_cost(self, queries: int, groups: int = 1) -> float:
        """Epochs of a product with all of the data for so many queries, solved in so many groups."""

    @property
    def first_cost(self) -> float:
        """Epochs before the first product, of what is kept for all of them."""
        return 0.0

    @property
    @abstractmethod
    def root_cost(self) -> float:
        """Epochs of `root`."""

    def spend(self, epochs: float) -> None:
        """Count a cost."""
        self.epochs += epochs
        self.watch()

    @property
    def parameters(self) -> int:
        """Tracked weights, biases included."""
        return sum(layer.weights for layer in self.layers)

    @property
    def positions(self) -> int:
        """Real positions of all sequences."""
        return sum(unit.tokens for unit in self.data.units)

    def dense(self) -> Float[Tensor, "p p"]:
        """G over the layers' row-major weights, one layer after another. Cost: ``parameters`` products."""
        size = self.parameters
        columns = []
        for start in range(0, size, AT_ONCE):
            unit = torch.zeros(min(AT_ONCE, size - start), size, dtype=self.dtype, device=self.device)
            unit[torch.arange(len(unit)), torch.arange(start, start + len(unit))] = 1
            columns.append(self.flat(self.matvec(self.unflat(unit))))
        return torch.cat(columns)

    def flat(self, grads: Gradients) -> Float[Tensor, "q p"]:
        """All layers side by side."""
        return torch.cat([grads[layer.name].flatten(1) for layer in self.layers], dim=1)

    def unflat(self, vectors: Float[Tensor, "q p"]) -> Gradients:
        """And apart again."""
        parts = vectors.split([layer.weights for layer in self.layers], dim=1)
        return {
            layer.name: part.reshape(len(vectors), layer.outputs, layer.inputs)
            for layer, part in zip(self.layers, parts, strict=True)
        }

    @property
    def dtype(self) -> torch.dtype:
        """What sums over sequences are kept in."""
        return torch.promote_types(self.layers[0].parameters()[0].dtype, torch.float32)

    def zeros(self, queries: int) -> Gradients:
        """Nothing yet, for so many queries."""
        return self.unflat(torch.zeros(queries, self.parameters, dtype=self.dtype, device=self.device))

    def _batches(self, sequences: Sequence[int] | None = None) -> Iterator[Batch]:
        every = itertools.chain.from_iterable(self.data.batches(unit.number) for unit in self.data.units)
        return (batch.to(self.device) for batch in (every if sequences is None else self.data.gather(sequences)))

    def _refuse_nonfinite(self, rows: Tensor, example: Tensor, batch: Batch) -> None:
        """Raise where a row is NaN or inf, naming its example's document."""
        bad = ~torch.isfinite(rows).flatten(1).all(1)
        if bool(bad.any()):
            sequence = int(batch.ids[example[int(bad.nonzero()[0, 0])]])
            raise NumericalError(
                f"NaN or inf in the model's outputs or loss, in {self.data.name(sequence)}",
                hint="run in float32 (`--dtype float32`), or remove the document",
            )
