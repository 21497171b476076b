"""A layer's part of a pass: what went in, and what the loss wanted changed at its output."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


class SharedInput:
    """The input of one layer, or of several that read the same tensor, for one pass.

    Held by its readers' traces alone, and dropped by each once backward has passed it: an input and
    whatever was computed from it (`once`) live until the last reader is done.

    Args:
        inputs: The rows, or what makes them when first asked (patches are many times what they are cut from).
    """

    __slots__ = ("_inputs", "_memo", "name", "readers")

    def __init__(self, name: str, inputs: Tensor | Callable[[], Tensor], readers: int = 1) -> None:
        self.name, self.readers = name, readers
        self._inputs = inputs
        self._memo: dict[Hashable, Tensor] = {}

    @property
    def inputs(self) -> Float[Tensor, "n t i"]:
        if not isinstance(self._inputs, Tensor):
            self._inputs = self._inputs()
        return self._inputs

    def once(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """The result of ``compute``, computed for the first reader and kept for the others."""
        if self.readers == 1:
            return compute()
        if key not in self._memo:
            self._memo[key] = compute()
        return self._memo[key]


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """The two halves of a per-example gradient, before they are multiplied.

    Padding is zero in both, so no sum taken over a trace depends on the batch it came in. Where the
    layer has a bias, ``inputs`` ends in a column of ones (zero on padding).
    """

    layer: str
    shared: SharedInput
    output_grads: Float[Tensor, "n t o"]
    first: bool = True
    """Whether no other reader of the same input has been traced in this pass."""

    @property
    def inputs(self) -> Float[Tensor, "n t i"]:
        return self.shared.inputs

    def gradient(self) -> Float[Tensor, "n o i"]:
        """Each example's weight gradient, summed over positions. Memory: n · o · i."""
        return torch.bmm(self.output_grads.mT, self.inputs.to(self.output_grads.dtype))
