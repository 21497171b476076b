"""Real-valued targets: ½‖h − y‖², the negative log-likelihood of a Gaussian of unit variance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.tasks.outputs import Gaussian
from whence.tasks.sampling import uniforms
from whence.types import Batch, Labels


@dataclass(frozen=True)
class Regression:
    """A module that maps inputs ``[n ...]`` to predictions ``[n k]``; targets are ``[n k]``."""

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"task": "regression"}

    @property
    def likelihood(self) -> Gaussian:
        return Gaussian()

    def outputs(self, model: nn.Module, batch: Batch) -> Float[Tensor, "n k"]:
        """The predictions h."""
        return model(batch.inputs).flatten(1)

    def loss(
        self, model: nn.Module, batch: Batch, *, labels: Labels = "true", seed: int = 0, sample: int = 0
    ) -> Float[Tensor, " n"]:
        """½‖h − y‖² of each example; a sampled label is ŷ ~ N(h, I).

        Expected labels are ŷ = h − e_k for each output k in turn: their gradients are those of the outputs, whose
        products sum to E[(h − ŷ)(h − ŷ)ᵀ] = I, and the curvature is the Gauss-Newton matrix itself.
        """
        prediction = self.outputs(model, batch)
        target = batch.targets.view_as(prediction)
        if labels == "sampled":
            target = prediction.detach() + _normals(prediction, batch, seed, sample)
        if labels == "expected":
            target = prediction.detach().clone()
            target[:, sample] -= 1
        return (prediction - target).square().sum(1) / 2

    def label_count(self, model: nn.Module, batch: Batch) -> int:
        """The number of outputs."""
        with torch.no_grad():
            return self.outputs(model, batch).shape[1]

    def measurement(self, model: nn.Module, batch: Batch) -> Float[Tensor, " n"]:
        """−½‖h − y‖²."""
        return -self.loss(model, batch)


def _normals(like: Float[Tensor, "n k"], batch: Batch, seed: int, sample: int) -> Float[Tensor, "n k"]:
    """Standard normals keyed as labels are, the output's index taking the position's place."""
    index = torch.arange(like.shape[1], device=like.device).expand(like.shape[0], -1)
    document = batch.document[:, None].expand_as(index)
    return torch.special.ndtri(uniforms(seed, sample, document, index)).to(like)
