"""What share of a model is tracked, and why the rest is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from whence.layers.adapter import TrackedLayer
from whence.layers.convolution import is_convolution


@dataclass(frozen=True, slots=True)
class CoverageRow:
    """One kind of parameter: how many there are, whether they take part, and why not."""

    kind: str
    parameters: int
    tracked: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Coverage:
    """An account of every parameter of a model."""

    rows: tuple[CoverageRow, ...]
    notes: tuple[str, ...] = ()
    """What else holds of the model's passes."""

    @property
    def total(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def share(self) -> float:
        """Tracked parameters over all parameters."""
        return sum(row.parameters for row in self.rows if row.tracked) / max(self.total, 1)

    def __str__(self) -> str:
        left = ", ".join(
            f"{row.kind} {row.parameters / self.total:.1%} ({row.reason})" for row in self.rows if not row.tracked
        )
        line = f"tracked {self.share:.1%} of {self.total:,} parameters; left out: {left or 'nothing'}"
        return "; ".join([line, *self.notes])


def account(model: nn.Module, tracked: Sequence[TrackedLayer], head: str | None) -> Coverage:
    """Sort every parameter into tracked layers, embeddings, norms, head, and the rest."""
    inside = {id(parameter) for layer in tracked for parameter in layer.parameters()}
    count: dict[tuple[str, bool, str], int] = {}
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            row = (
                ("convolutions" if is_convolution(module) else "linear layers", True, "")
                if id(parameter) in inside
                else _left_out(module_name, module, parameter, head)
            )
            count[row] = count.get(row, 0) + parameter.numel()
    rows = (CoverageRow(kind, size, used, reason) for (kind, used, reason), size in count.items())
    return Coverage(tuple(sorted(rows, key=lambda row: (not row.tracked, -row.parameters))), _notes(model))


def _notes(model: nn.Module) -> tuple[str, ...]:
    count = sum(isinstance(module, _BatchNorm) for module in model.modules())
    return (f"batch norm ({count} of them) runs in eval mode, on the statistics kept from training",) if count else ()


def _left_out(name: str, module: nn.Module, parameter: nn.Parameter, head: str | None) -> tuple[str, bool, str]:
    if isinstance(module, nn.Embedding):
        return "embeddings", False, "read by lookup, not by a linear layer"
    if name == head:
        return "output head", False, "its factor is vocabulary²; name it in --layers to take it"
    if "norm" in type(module).__name__.lower():
        return "norms", False, "not a linear layer"
    from whence.layers import adapters_for

    if adapters_for(module):
        kind = "other convolutions" if is_convolution(module) else "other linear layers"
        return kind, False, "not chosen by --layers"
    if parameter.ndim >= 3 and not isinstance(module, _ConvNd):
        return "stacked experts", False, "a 3-D parameter, not a linear layer"
    return "other", False, f"{type(module).__name__} is not a linear layer"
