"""What a layer type owes the rest: its sizes, and weight ↔ ``[o i]``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn


@runtime_checkable
class Adapter(Protocol):
    """One layer type in the form ``y[n,t] = W̄ ā[n,t]``, ā with a 1 appended where there is a bias."""

    def sizes(self, module: nn.Module) -> tuple[int, int]:
        """``(o, i)`` of the weight alone, without the bias column."""
        ...

    def matrix(self, weight: Tensor, bias: Tensor | None) -> Float[Tensor, "o i"]:
        """The module's tensors (or their gradients) as W̄, the bias as its last column."""
        ...

    def tensors(self, matrix: Float[Tensor, "o i"], module: nn.Module) -> dict[str, Tensor]:
        """W̄ (or a direction in it) as the module's own ``weight`` and ``bias``."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TrackedLayer:
    """A module whose weights take part.

    Layers that read the same tensor (q, k, v; gate, up) carry the same ``reads``: they share one input
    moment and one input basis.
    """

    name: str
    module: nn.Module
    adapter: Adapter
    outputs: int
    inputs: int
    """With the bias column."""
    bias: bool
    reads: str
    readers: int = 1
    """How many layers share ``reads``."""
    pooled: bool | None = None
    """Whether it is applied to one row an example rather than one a position; None until `capture.check` has seen."""

    @property
    def weights(self) -> int:
        """Parameters tracked here: o · i, the bias included."""
        return self.outputs * self.inputs

    def parameters(self) -> list[nn.Parameter]:
        """The module's weight, and its bias where there is one."""
        return [p for p in (self.module.weight, self.module.bias if self.bias else None) if isinstance(p, nn.Parameter)]
