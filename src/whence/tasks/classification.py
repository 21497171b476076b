"""One label an example: softmax cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.tasks.outputs import Softmax
from whence.tasks.sampling import draw, uniforms
from whence.types import Batch, Labels


@dataclass(frozen=True)
class Classification:
    """A module that maps inputs ``[n ...]`` to logits ``[n v]``; targets are class numbers ``[n]``.

    A sequence classifier of transformers is given the positions that are real as its attention mask.
    """

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"task": "classification"}

    @property
    def likelihood(self) -> Softmax:
        return Softmax()

    def outputs(self, model: nn.Module, batch: Batch) -> Float[Tensor, "n v"]:
        """The logits."""
        return _logits(model, batch)

    def loss(
        self, model: nn.Module, batch: Batch, *, labels: Labels = "true", seed: int = 0, sample: int = 0
    ) -> Float[Tensor, " n"]:
        """Cross-entropy of each example, in nats; of class ``sample``, times √p of it, where labels are expected."""
        logits = self.outputs(model, batch)
        wide = torch.promote_types(logits.dtype, torch.float32)
        target = batch.targets
        if labels == "sampled":
            target = draw(logits.detach(), uniforms(seed, sample, batch.document, batch.offset))
        if labels == "expected":
            target = torch.full_like(batch.document, sample)
        losses = torch.nn.functional.cross_entropy(logits.to(wide), target, reduction="none")
        if labels == "expected":
            losses = losses * logits.detach().to(wide).softmax(-1)[:, sample].sqrt()
        return losses

    def label_count(self, model: nn.Module, batch: Batch) -> int:
        """The number of classes."""
        with torch.no_grad():
            return self.outputs(model, batch).shape[1]

    def measurement(self, model: nn.Module, batch: Batch) -> Float[Tensor, " n"]:
        """The measurement log p(label | input)."""
        return -self.loss(model, batch)


def _logits(model: nn.Module, batch: Batch) -> Float[Tensor, "n v"]:
    tokens = hasattr(model, "config") and batch.inputs.shape == batch.real.shape
    outputs = model(batch.inputs, attention_mask=batch.real.long()) if tokens else model(batch.inputs)
    return outputs if isinstance(outputs, Tensor) else outputs.logits
