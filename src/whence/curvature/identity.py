"""No curvature: scores are gradient dot products (and with normalisation, cosines)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from whence.curvature.block import Block
from whence.curvature.estimator import Estimator, Stage


class IdentityEstimator(Estimator):
    """H = I, undamped: solving changes nothing."""

    name = "identity"
    damped = False

    def stages(self) -> Iterator[Stage]:
        return iter(())

    def blocks(self) -> dict[str, Block]:
        ones = torch.ones((), dtype=self.dtype, device=self.device)
        return {name: Block(ones.expand(layer.outputs, layer.inputs)) for name, layer in self.layers.items()}
