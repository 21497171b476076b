"""Next-token prediction: loss summed over the scored positions of a sequence, f = log p(completion | prompt)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.errors import InvalidSetting
from whence.tasks.chunked import Labeller, scored_loss
from whence.tasks.outputs import Softmax
from whence.tasks.reading import in_sequences, read, read_body, read_rows
from whence.tasks.sampling import draw, uniforms
from whence.types import Batch, Labels

MOST_LABELS = 4096
"""Passes over the data that the exact expectation over labels may take: one for each word at each position."""

Split = tuple[nn.Module, Callable[[Tensor], Tensor]]
"""A model as (body → hidden states, head → logits)."""


@dataclass(frozen=True)
class CausalLM:
    """A causal language model of transformers, or any module that maps ``[n t]`` ids to logits ``[n t v]``.

    A sequence's numbers depend neither on how much padding its batch gives it, nor on which others share its row where
    they are packed (`tasks.reading`).

    Where the model is a body and a head, the head is applied to a chunk of scored positions at a time. A
    model that does more after its head (soft-capping, scaling) is found out on first use, and its own logits
    are used whole.
    """

    _splits: WeakKeyDictionary[nn.Module, Split | None] = field(
        default_factory=WeakKeyDictionary, repr=False, compare=False
    )

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"task": "causal_lm"}

    @property
    def likelihood(self) -> Softmax:
        return Softmax()

    def outputs(self, model: nn.Module, batch: Batch) -> Float[Tensor, "m v"]:
        """The logits of the scored positions; only those are projected where the head stands apart."""
        split = self._split(model, batch)
        if split is None:
            return read(model, batch)[batch.scored]
        body, head = split
        return head(in_sequences(batch, read_body(body, batch))[batch.scored])

    def every_output(self, model: nn.Module, batch: Batch) -> Float[Tensor, "n t v"]:
        """The logits of every position, padding included."""
        return read(model, batch)

    def loss(
        self, model: nn.Module, batch: Batch, *, labels: Labels = "true", seed: int = 0, sample: int = 0
    ) -> Float[Tensor, " n"]:
        """Cross-entropy in nats, summed over each sequence's scored positions.

        Labels at different positions are drawn apart, and each one's gradient is zero in expectation: products of two
        gradients are then a sum over positions of expectations, and ``expected`` takes one word at one position.
        """
        if labels == "expected":
            return _at_one_word(read(model, batch), batch, sample)
        rows, project, vocabulary = self._before_the_head(model, batch)
        choose = _true(batch) if labels == "true" else _sampled(batch, seed, sample)
        losses = scored_loss(in_sequences(batch, rows), batch.scored, project, choose, vocabulary)
        rest = None if batch.layout is None else batch.layout.rest
        if rest is None:
            return losses
        assert labels == "true", "labels are sampled for whole windows"
        assert batch.layout is not None
        assert batch.layout.targets is not None
        targets = batch.layout.targets[rest]
        others = scored_loss(rows, rest, project, lambda _, part: targets[part], vocabulary).sum()
        first = torch.arange(len(losses), device=losses.device) == 0
        return losses + (others - others.detach()) * first  # their gradient, once, and nothing of their value

    def _before_the_head(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Callable[[Tensor], Tensor], int]:
        """The model's rows, what makes logits of them, and how many: logits themselves where the head is not apart."""
        split = self._split(model, batch)
        if split is None:
            logits = read_rows(model, batch)
            return logits, _identity, logits.shape[-1]
        body, head = split
        return read_body(body, batch), head, model.get_output_embeddings().weight.shape[0]  # type: ignore[operator]

    def measurement(self, model: nn.Module, batch: Batch) -> Float[Tensor, " n"]:
        """The measurement log p(completion | prompt), in nats."""
        return -self.loss(model, batch)

    def label_count(self, model: nn.Module, batch: Batch) -> int:
        """Words of the vocabulary × scored positions of the batch's longest sequence.

        Raises:
            InvalidSetting: If they are more than `MOST_LABELS`.
        """
        with torch.no_grad():
            words = read_rows(model, _few(batch, 1)).shape[-1]
        positions = int(batch.scored.sum(1).max())
        if words * positions > MOST_LABELS:
            raise InvalidSetting(
                f"the exact expectation over labels takes a pass over the data for each word at each position: a "
                f"vocabulary of {words:,} × {positions:,} positions = {words * positions:,} passes, more than "
                f"{MOST_LABELS:,}",
                hint='use labels = "sampled", one pass of the same expectation; more samples leave less noise',
            )
        return words * positions

    def _split(self, model: nn.Module, batch: Batch) -> Split | None:
        """Body and head, where the one after the other is the whole model and the head is not being watched."""
        if model not in self._splits:
            self._splits[model] = _body_and_head(model, batch)
        split = self._splits[model]
        # An adapter makes several modules of a head: any of them may be tracked.
        watched = split is not None and any(part._forward_hooks for part in split[1].modules())  # type: ignore[attr-defined]
        trained = split is not None and any(p.requires_grad for p in split[1].parameters())  # type: ignore[attr-defined]
        return None if watched or trained else split  # then the head must be called once, on every position


def _body_and_head(model: nn.Module, batch: Batch) -> Split | None:
    unwrap = getattr(model, "get_base_model", None)  # a PeftModel's body is the whole language model
    inner = unwrap() if callable(unwrap) else model
    body, get_head = getattr(inner, "base_model", None), getattr(inner, "get_output_embeddings", None)
    head = get_head() if callable(get_head) else None
    if not isinstance(body, nn.Module) or body is inner or not isinstance(head, nn.Module):
        return None
    few = _few(batch, 8)
    with torch.no_grad():
        ours, theirs = head(read_body(body, few)), read_rows(model, few)
    # The same operations in the same order: anything beyond rounding is a soft cap, a scale or a second head.
    slack = 16 * torch.finfo(theirs.dtype).eps
    same = ours.shape == theirs.shape and torch.allclose(ours.to(theirs.dtype), theirs, rtol=slack, atol=slack)
    return (body, head) if same else None


def _few(batch: Batch, positions: int) -> Batch:
    """The beginning of one sequence, by itself."""
    return replace(batch.rows([0]), inputs=batch.inputs[:1, :positions], layout=None)


def _at_one_word(logits: Float[Tensor, "n t v"], batch: Batch, sample: int) -> Float[Tensor, " n"]:
    """√p(w) · −log p(w) of one word w at each sequence's k-th scored position, both told by ``sample``; 0 where it has
    no such position.
    """
    position, word = divmod(sample, logits.shape[-1])
    place = batch.scored & (batch.scored.cumsum(1) == position + 1)
    wide = torch.promote_types(logits.dtype, torch.float32)
    log_p = logits[place].to(wide).log_softmax(-1)[:, word]
    losses = log_p.new_zeros(len(batch))
    return losses.index_put((place.any(1).nonzero()[:, 0],), -log_p * log_p.detach().exp().sqrt())


def _identity(rows: Tensor) -> Tensor:
    return rows


def _true(batch: Batch) -> Labeller:
    targets = batch.targets[batch.scored]
    return lambda _, part: targets[part]


def _sampled(batch: Batch, seed: int, sample: int) -> Labeller:
    position = batch.offset[:, None] + torch.arange(batch.scored.shape[1], device=batch.scored.device)
    document = batch.document[:, None].expand_as(position)
    numbers = uniforms(seed, sample, document[batch.scored], position[batch.scored])
    return lambda logits, part: draw(logits, numbers[part])
