"""The words everyone shares.

Axis letters, used in every signature, comment and docstring:
``n`` examples · ``t`` positions · ``i`` layer input (+1 for a bias) · ``o`` layer output · ``q`` queries ·
``r`` rank · ``l`` layers. A tracked layer computes ``y[n,t] = W a[n,t]`` with ``W: [o,i]``. A **positive
score** means training more on that sequence would raise the query's measurement. Nowhere else picks a sign.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Labels = Literal["true", "sampled", "expected"]
"""Whose labels a loss is taken at: the data's, labels drawn from the model itself (Fisher), or each label in turn,
weighted by its probability (the Fisher without sampling; only where labels are few)."""

Gradients = dict[str, Tensor]
"""Layer name → ``[q o i]``: the space that curvatures, queries and scores act on."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the sequences of a batch lie in the rows that the model reads, several to a row.

    The batch holds its sequences ``[n t]`` as any other does. Only the model sees rows ``[r w]``; what it did at a
    position is handed back to the sequence that the position is of (`unpack`).
    """

    inputs: Int64[Tensor, "r w"]
    """Token ids of the rows, padded on the right."""
    position: Int64[Tensor, "r w"] | None
    """Where sequences do not see each other: positions, from 0 again with each. None where attention crosses."""
    place: Int64[Tensor, "n t"]
    """Which position of the rows, counted through all of them, each position of a sequence is; padding, its first."""
    own: Bool[Tensor, "n t"]
    """Positions that are of this sequence: real, and not where it is the next one's first token that is predicted."""
    targets: Int64[Tensor, "r w"] | None = None
    scored: Bool[Tensor, "r w"] | None = None
    """Of whole rows, where attention crosses: the loss of what comes later in a row is part of what arises here."""

    @property
    def rest(self) -> Bool[Tensor, "r w"] | None:
        """Scored positions of the rows that are of none of these sequences; None where there are none."""
        if self.scored is None:
            return None
        rest = self.scored.flatten().index_fill(0, self.place[self.own], False).view_as(self.scored)
        return rest if bool(rest.any()) else None

    def unpack(self, rows: Tensor) -> Tensor:
        """Rows ``[r w …]`` as sequences ``[n t …]``; what is not a sequence's own is left for the caller to mask."""
        return rows.flatten(0, 1)[self.place]

    def select(self, sequences: Tensor) -> Layout:
        """Some of the sequences, and the rows that they lie in."""
        width = self.inputs.shape[1]
        place = self.place[sequences]
        kept, row = torch.unique(place[:, 0] // width, return_inverse=True)
        position, targets, scored = (
            None if rows is None else rows[kept] for rows in (self.position, self.targets, self.scored)
        )
        place = row[:, None] * width + place % width
        return Layout(self.inputs[kept], position, place, self.own[sequences], targets, scored)

    def to(self, device: torch.device | str) -> Layout:
        """The same on another device."""
        position, targets, scored = (
            None if rows is None else rows.to(device) for rows in (self.position, self.targets, self.scored)
        )
        return Layout(self.inputs.to(device), position, self.place.to(device), self.own.to(device), targets, scored)


TENSORS = ("ids", "inputs", "targets", "real", "scored", "document", "offset")
"""What a batch holds of each of its sequences."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A few examples on their way through the model.

    ``real`` marks what is not padding; ``scored`` marks the positions that carry loss. Position ``t``
    of a language model is scored when its *output* is: it predicts ``targets[:, t]``, token ``t + 1``.
    An example without positions (an image, a table row) has ``t = 1``.
    """

    ids: Int64[Tensor, " n"]
    """Sequence numbers in the store: the rows of a score file."""
    inputs: Tensor
    """``[n t]`` token ids, or whatever the model eats, examples first."""
    targets: Tensor
    """``[n t]`` next tokens (0 where unscored), or labels ``[n ...]`` of another task."""
    real: Bool[Tensor, "n t"]
    scored: Bool[Tensor, "n t"]
    document: Int64[Tensor, " n"]
    """Document numbers; label samples are keyed by (seed, document, position)."""
    offset: Int64[Tensor, " n"]
    """Position in its document of a sequence's first token."""
    layout: Layout | None = None
    """How they lie in the model's rows, where that is several to a row."""

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        layout = None if self.layout is None else self.layout.to(device)
        return replace(Batch.of(*(getattr(self, name).to(device) for name in TENSORS)), layout=layout)

    def rows(self, chosen: Tensor | Sequence[int] | slice) -> Batch:
        """Some of the sequences, by place or by mask, padded as they were."""
        index = torch.arange(len(self), device=self.ids.device)[chosen]
        layout = None if self.layout is None else self.layout.select(index)
        return replace(Batch.of(*(getattr(self, name)[index] for name in TENSORS)), layout=layout)

    @classmethod
    def of(cls, *tensors: Tensor) -> Batch:
        """A batch of `TENSORS`, in that order, each sequence a row."""
        ids, inputs, targets, real, scored, document, offset = tensors
        return cls(ids, inputs, targets, real, scored, document, offset)


@dataclass(frozen=True, slots=True)
class Unit:
    """A work unit: what is computed, kept, resumed and handed to a worker as one."""

    number: int
    sequences: int
    tokens: int


@runtime_checkable
class Data(Protocol):
    """A training stream cut into work units. `data.store.TokenStore` is the one for text.

    Batches depend on the plan alone, never on who asks: the same unit gives the same bits everywhere.
    """

    @property
    def units(self) -> Sequence[Unit]: ...

    @property
    def sequences(self) -> int:
        """How many sequences there are; their numbers are ``0 .. sequences - 1``."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of the content: other data, other fingerprint."""
        ...

    def batches(self, unit: int) -> Iterator[Batch]:
        """The batches of one unit, in the plan's order."""
        ...

    def gather(self, sequences: Sequence[int]) -> Iterator[Batch]:
        """Batches of chosen sequences, in any convenient order (rows are told by ``Batch.ids``)."""
        ...

    def name(self, sequence: int) -> str:
        """Where a sequence came from, for a message: ``train.jsonl, line 12``."""
        ...


@runtime_checkable
class Task(Protocol):
    """What turns a model's outputs into numbers: a loss, labels to sample, a measurement.

    All three are per example, ``[n]``, and differentiable; nothing is averaged over positions.
    """

    @property
    def settings(self) -> Mapping[str, Any]:
        """What a manifest records, so that artifacts of another task are refused."""
        ...

    def loss(
        self, model: torch.nn.Module, batch: Batch, *, labels: Labels = "true", seed: int = 0, sample: int = 0
    ) -> Float[Tensor, " n"]:
        """Loss of each example summed over its scored positions, in nats.

        Args:
            labels: ``"sampled"`` takes labels drawn from the model, keyed by (seed, document, position, sample).
                ``"expected"`` takes label number ``sample`` of `label_count`, the loss multiplied by the square
                root of the label's probability: products of two gradients, *summed* over ``sample``, are then
                their exact expectation over labels.
        """
        ...

    def label_count(self, model: torch.nn.Module, batch: Batch) -> int:
        """How many labels the exact expectation runs over.

        Raises:
            InvalidSetting: If they are too many to take one by one.
        """
        ...

    def measurement(self, model: torch.nn.Module, batch: Batch) -> Float[Tensor, " n"]:
        """What a query asks about, minus the loss at the true labels: log p(completion | prompt)."""
        ...


@runtime_checkable
class Likelihood(Protocol):
    """A loss as a function of the model's outputs: a row a scored position, rows independent of one another."""

    def hessian(self, outputs: Float[Tensor, "m c"], directions: Float[Tensor, "q m c"]) -> Float[Tensor, "q m c"]:
        """The second derivative of each row's loss in its outputs, applied to directions."""
        ...

    def root(self, outputs: Float[Tensor, "m c"], column: int) -> Float[Tensor, "m c"]:
        """One column, of each row, of a matrix whose product with its transpose is `hessian`."""
        ...


@runtime_checkable
class OutputTask(Task, Protocol):
    """A task whose loss can be taken apart at the model's outputs, as the Gauss-Newton matrix needs."""

    @property
    def likelihood(self) -> Likelihood: ...

    def outputs(self, model: torch.nn.Module, batch: Batch) -> Float[Tensor, "m c"]:
        """Logits or predictions: a row for each scored position in the order of ``batch.scored.nonzero()``, or for
        each example where an example has one output.
        """
        ...


Progress = Callable[[int, int], None]
"""Told how many of how many are done."""


@runtime_checkable
class PositionTask(OutputTask, Protocol):
    """An `OutputTask` with an output at every position, of which some are scored."""

    def every_output(self, model: torch.nn.Module, batch: Batch) -> Float[Tensor, "n t c"]:
        """Logits or predictions at every position, scored or not: a shape that does not depend on what is scored,
        as mapping over models needs.
        """
        ...
