"""What share of a model is tracked, and why the rest is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from whence.layers.adapter import TrackedLayer
from whence.layers.convolution import is_convolution
from whence.layers.lora import Origin, Params
from whence.layers.quantised import is_quantised, logical_size


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

    @property
    def tracked(self) -> str:
        """The share in words; only the whole is called so: ``all``, ``99.9%``."""
        return "all" if self.share == 1 else f"{min(self.share, 0.999):.1%}"

    def __str__(self) -> str:
        left = ", ".join(
            f"{row.kind} {row.parameters / self.total:.1%} ({row.reason})" for row in self.rows if not row.tracked
        )
        line = f"tracked {self.tracked} of {self.total:,} parameters; left out: {left or 'nothing'}"
        return "; ".join([line, *self.notes])


Row = tuple[str, bool, str]
"""Kind, whether tracked, and the reason if not."""


def account(
    model: nn.Module, tracked: Sequence[TrackedLayer], head: str | None, whose: Mapping[str, Origin], params: Params
) -> Coverage:
    """Sort every parameter into tracked layers, embeddings, norms, head, an adapter's, and the rest.

    Args:
        whose: Module name → whose it is (`layers.lora.origins`).
        params: Whose parameters were to be taken.
    """
    inside = {id(parameter) for layer in tracked for parameter in layer.parameters()}
    count: dict[Row, int] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        origin = whose.get(name, "base")
        if is_quantised(module):
            row, stored = ("quantised weights", False, "rounded, so without a gradient"), _stored(module, seen)
            count[row] = count.get(row, 0) + logical_size(module, stored)
            continue
        for parameter in module.parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if id(parameter) in inside:
                row = _taken(name, module, origin)
            elif origin == "base":
                row = _left_out(name, module, parameter, head, params)
            else:
                row = _left_out_of_adapter(name, module, head, origin, params)
            count[row] = count.get(row, 0) + parameter.numel()
    rows = (CoverageRow(kind, size, used, reason) for (kind, used, reason), size in count.items())
    return Coverage(tuple(sorted(rows, key=lambda row: (not row.tracked, -row.parameters))), _notes(model))


def in_head(name: str, head: str | None) -> bool:
    """Whether a module is the output head, or a part of what an adapter made of it."""
    return head is not None and (name == head or name.startswith(f"{head}."))


def _notes(model: nn.Module) -> tuple[str, ...]:
    count = sum(isinstance(module, _BatchNorm) for module in model.modules())
    return (f"batch norm ({count} of them) runs in eval mode, on the statistics kept from training",) if count else ()


def _stored(module: nn.Module, seen: set[int]) -> int:
    own = list(module.parameters(recurse=False))
    seen.update(map(id, own))
    return sum(tensor.numel() for tensor in [*own, *module.buffers(recurse=False)])


def _taken(name: str, module: nn.Module, origin: Origin) -> Row:
    if origin == "adapter":
        return ("adapter factors" if ".lora_" in name else "layers saved with the adapter"), True, ""
    return ("convolutions" if is_convolution(module) else "linear layers"), True, ""


def _left_out(name: str, module: nn.Module, parameter: nn.Parameter, head: str | None, params: Params) -> Row:
    if isinstance(module, nn.Embedding):
        return "embeddings", False, "read by lookup, not by a linear layer"
    if in_head(name, head):
        return "output head", False, _HEAD
    if "norm" in type(module).__name__.lower():
        return "norms", False, "not a linear layer"
    from whence.layers import adapters_for

    if adapters_for(module):
        if params == "adapter":
            return "base model's linear layers", False, "influence is over the adapter; --params all takes them too"
        kind = "other convolutions" if is_convolution(module) else "other linear layers"
        preset = head is None or not is_convolution(module)  # of a language model, convolutions are named one by one
        return kind, False, "not chosen; --layers all takes them too" if preset else "not chosen by --layers"
    if parameter.ndim >= 3 and not isinstance(module, _ConvNd):
        return "stacked experts", False, "a 3-D parameter, not a linear layer"
    return "other", False, f"{type(module).__name__} is not a linear layer"


def _left_out_of_adapter(name: str, module: nn.Module, head: str | None, origin: Origin, params: Params) -> Row:
    if origin == "idle":
        return "idle modules", False, "replaced by the adapter's, merged or not active: no part in a pass"
    if "lora_embedding" in name or isinstance(module, nn.Embedding):
        return "adapter of the embeddings", False, "read by lookup, not by a linear layer"
    if params == "base":
        return "adapter", False, "influence is over the base model; --params all takes it too"
    if in_head(name, head):
        return "adapter of the output head", False, _HEAD
    from whence.layers import adapters_for

    if adapters_for(module):
        return "other adapter factors", False, "not chosen; --layers all takes them too"
    return "other of the adapter", False, f"{type(module).__name__} is not a linear layer"


_HEAD = "its factor is vocabulary²; name it in --layers to take it"
