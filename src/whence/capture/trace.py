"""A layer's part of a pass: what went in, and what the loss wanted changed at its output."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whence.errors import LayerError


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

    A layer that a pass calls several times has one trace: the positions of each call, one after the other. Its weight
    gradient is the sum over calls as it is over positions.
    """

    layer: str
    shared: SharedInput
    output_grads: Float[Tensor, "n t o"]
    first: bool = True
    """Whether no other reader of the same input has been traced in this pass."""
    calls: tuple[int, ...] = ()
    """Positions of each call, where there are several."""

    @property
    def inputs(self) -> Float[Tensor, "n t i"]:
        return self.shared.inputs

    def folded(self, per_position: Float[Tensor, "q n p"]) -> Float[Tensor, "q n t"]:
        """What stands at each position of all calls, added up over the calls.

        Raises:
            LayerError: If the calls have positions of their own, which are not the same ones.
        """
        if not self.calls:
            return per_position
        if len(set(self.calls)) > 1:
            raise LayerError(
                f"layer {self.layer} is called with {', '.join(map(str, self.calls))} positions in one pass, so that "
                "its part has no place by token",
                hint="leave it out with --layers",
            )
        return torch.stack(per_position.split(self.calls, dim=-1)).sum(0)

    def gradient(self) -> Float[Tensor, "n o i"]:
        """Each example's weight gradient, summed over positions. Memory: n · o · i."""
        return torch.bmm(self.output_grads.mT, self.inputs.to(self.output_grads.dtype))
