"""What a layer type owes the rest: its sizes, weight ↔ ``[o i]``, and what it reads as rows."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn


@runtime_checkable
class Adapter(Protocol):
    """One layer type in the form ``y[n,t] = W̄ ā[n,t]``, ā with a 1 appended where there is a bias."""

    @property
    def suffix(self) -> str:
        """What a layer's name adds to its module's: nothing, unless one module is several layers."""
        ...

    @property
    def unfolds(self) -> bool:
        """Whether `rows` is larger than what the module reads; then it is formed only when backward needs it."""
        ...

    def sizes(self, module: nn.Module) -> tuple[int, int]:
        """``(o, i)`` of the weight alone, without the bias column."""
        ...

    def matrix(self, weight: Tensor, bias: Tensor | None) -> Float[Tensor, "o i"]:
        """The module's tensors (or their gradients) as W̄, the bias as its last column."""
        ...

    def tensors(self, matrix: Float[Tensor, "o i"], module: nn.Module) -> dict[str, Tensor]:
        """W̄ (or a direction in it) as the module's own ``weight`` and ``bias``; zero where other layers own them."""
        ...

    def rows(self, module: nn.Module, source: Tensor) -> Tensor:
        """What the module was called with as rows a, one a position (`capture.hooks.positions` finds the axes)."""
        ...

    def output_rows(self, module: nn.Module, grads: Tensor) -> Tensor:
        """Its output's gradient as rows δ, one for each of `rows`."""
        ...

    def reading(self, module: nn.Module) -> Hashable:
        """How rows are made: two layers share their rows where they read one tensor, and read it alike."""
        ...


class RowWise:
    """A module applied to the last axis of what it reads: its rows are its input as it is."""

    suffix = ""
    unfolds = False

    def rows(self, module: nn.Module, source: Tensor) -> Tensor:
        return source

    def output_rows(self, module: nn.Module, grads: Tensor) -> Tensor:
        return grads

    def reading(self, module: nn.Module) -> Hashable:
        return None


@dataclass(frozen=True, slots=True, eq=False)
class TrackedLayer:
    """A module whose weights take part, or a group of a grouped convolution.

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
    def path(self) -> str:
        """The module's name in the model."""
        return self.name.removesuffix(self.adapter.suffix)

    @property
    def weights(self) -> int:
        """Parameters tracked here: o · i, the bias included."""
        return self.outputs * self.inputs

    def parameters(self) -> list[nn.Parameter]:
        """The module's weight, and its bias where there is one (whole, if this is one group of several)."""
        return [p for p in (self.module.weight, self.module.bias if self.bias else None) if isinstance(p, nn.Parameter)]
