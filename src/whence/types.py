"""The words everyone shares.

Axis letters, used in every signature, comment and docstring:
``n`` examples · ``t`` positions · ``i`` layer input (+1 for a bias) · ``o`` layer output · ``q`` queries ·
``r`` rank · ``l`` layers. A tracked layer computes ``y[n,t] = W a[n,t]`` with ``W: [o,i]``. A **positive
score** means training more on that sequence would raise the query's measurement. Nowhere else picks a sign.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved = {name: getattr(self, name).to(device) for name in self.__slots__}
        return replace(self, **moved)


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


@runtime_checkable
class PositionTask(OutputTask, Protocol):
    """An `OutputTask` with an output at every position, of which some are scored."""

    def every_output(self, model: torch.nn.Module, batch: Batch) -> Float[Tensor, "n t c"]:
        """Logits or predictions at every position, scored or not: a shape that does not depend on what is scored,
        as mapping over models needs.
        """
        ...
