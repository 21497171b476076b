"""Hugging Face's ``Conv1D`` (GPT-2): a linear layer that keeps its weight as ``[i o]``."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.layers.adapter import RowWise


def is_conv1d(module: nn.Module) -> bool:
    """Told by name and shape, so that transformers need not be imported to look at a model."""
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__}
    return "transformers.pytorch_utils.Conv1D" in kinds


class Conv1DAdapter(RowWise):
    """``y = x W + b`` with ``W [i o]``."""

    def sizes(self, module: nn.Module) -> tuple[int, int]:
        weight = module.weight
        assert isinstance(weight, Tensor)
        return weight.shape[1], weight.shape[0]

    def matrix(self, weight: Tensor, bias: Tensor | None) -> Float[Tensor, "o i"]:
        return weight.T if bias is None else torch.cat([weight.T, bias[:, None]], dim=1)

    def tensors(self, matrix: Float[Tensor, "o i"], module: nn.Module) -> dict[str, Tensor]:
        if module.bias is None:
            return {"weight": matrix.T}
        return {"weight": matrix[:, :-1].T, "bias": matrix[:, -1]}
