"""One label an example: softmax cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.tasks.sampling import draw, uniforms
from whence.types import Batch, Labels


@dataclass(frozen=True)
class Classification:
    """A module that maps inputs ``[n ...]`` to logits ``[n v]``; targets are class numbers ``[n]``."""

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"task": "classification"}

    def loss(
        self, model: nn.Module, batch: Batch, *, labels: Labels = "true", seed: int = 0, sample: int = 0
    ) -> Float[Tensor, " n"]:
        """Cross-entropy of each example, in nats."""
        logits = model(batch.inputs)
        target = batch.targets
        if labels == "sampled":
            target = draw(logits.detach(), uniforms(seed, sample, batch.document, batch.offset))
        wide = torch.promote_types(logits.dtype, torch.float32)
        return torch.nn.functional.cross_entropy(logits.to(wide), target, reduction="none")

    def measurement(self, model: nn.Module, batch: Batch) -> Float[Tensor, " n"]:
        """The measurement log p(label | input)."""
        return -self.loss(model, batch)
