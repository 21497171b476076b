"""`torch.nn.Linear`: the weight is ``[o i]`` as it stands."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.layers.adapter import RowWise


class LinearAdapter(RowWise):
    """``y = x Wᵀ + b``; a subclass is taken too, and `capture.check` refuses it where its forward says otherwise."""

    def sizes(self, module: nn.Module) -> tuple[int, int]:
        assert isinstance(module, nn.Linear)
        return module.out_features, module.in_features

    def matrix(self, weight: Tensor, bias: Tensor | None) -> Float[Tensor, "o i"]:
        return weight if bias is None else torch.cat([weight, bias[:, None]], dim=1)

    def tensors(self, matrix: Float[Tensor, "o i"], module: nn.Module) -> dict[str, Tensor]:
        if module.bias is None:
            return {"weight": matrix}
        return {"weight": matrix[:, :-1], "bias": matrix[:, -1]}
