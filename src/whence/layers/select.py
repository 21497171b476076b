"""Which layers take part: presets and globs, and an account of what is left out.

    blocks   every Linear/Conv1D inside the transformer blocks (default); in a model without blocks, every one
    mlp      those of the blocks' MLPs: the set of Grosse et al. 2023
    all      every one that is not the output head or tied
    a glob   matched on module names, or a list of globs: ``model.layers.*.mlp.*``

The output head is taken only when a glob names it.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from whence.errors import LayerError
from whence.layers import TrackedLayer, adapter_for
from whence.layers.coverage import Coverage, account

PRESETS = ("blocks", "mlp", "all")
_MLP = re.compile(r"(^|[._])(mlp|ffn|feed_forward|feedforward|fc1|fc2|fc_in|fc_out|block_sparse_moe|experts?)([._]|$)")
_BLOCK = re.compile(r"\.\d+(\.|$)")


@dataclass(frozen=True, slots=True)
class Tracked:
    """The chosen layers, in the model's order, and what was left out."""

    layers: tuple[TrackedLayer, ...]
    coverage: Coverage

    def __len__(self) -> int:
        return len(self.layers)

    def with_reads(self, reads: Mapping[str, str], pooled: Collection[str] = ()) -> Tracked:
        """The same choice, with layers grouped by the tensor they were seen to read, and told how they read it."""
        sizes: dict[str, int] = {}
        for layer in self.layers:
            sizes[reads[layer.name]] = sizes.get(reads[layer.name], 0) + 1
        grouped = (
            replace(layer, reads=reads[layer.name], readers=sizes[reads[layer.name]], pooled=layer.name in pooled)
            for layer in self.layers
        )
        return replace(self, layers=tuple(grouped))


def track(model: nn.Module, layers: str | Sequence[str] = "blocks") -> Tracked:
    """Choose layers by preset or by glob.

    Raises:
        LayerError: If nothing matches (the nearest names are given), if a named layer cannot be tracked
            (tied head, quantised or shared weight), or if a head's vocabulary-square factor would not fit.
    """
    candidates = {name: module for name, module in model.named_modules() if adapter_for(module) is not None}
    if not candidates:
        raise LayerError(
            f"{type(model).__name__} has no Linear or Conv1D module to track",
            hint="influence is computed for the weights of linear layers; a model without any cannot be used",
        )
    head = head_name(model)
    names = _chosen(model, candidates, layers, head)
    tracked = tuple(_tracked(model, name, candidates[name], head) for name in names)
    _refuse_shared_weights(tracked)
    return Tracked(tracked, account(model, tracked, head))


def head_name(model: nn.Module) -> str | None:
    """The name of the module that maps to the vocabulary, where the model says which it is."""
    get = getattr(model, "get_output_embeddings", None)
    head = get() if callable(get) else None
    return next((name for name, module in model.named_modules() if module is head), None) if head is not None else None


def is_tied(model: nn.Module) -> bool:
    """Whether the output head and the token embeddings are one tensor."""
    get_out, get_in = getattr(model, "get_output_embeddings", None), getattr(model, "get_input_embeddings", None)
    if not (callable(get_out) and callable(get_in)):
        return False
    out, into = get_out(), get_in()
    return out is not None and into is not None and getattr(out, "weight", 0) is getattr(into, "weight", 1)


def _chosen(
    model: nn.Module, candidates: dict[str, nn.Module], layers: str | Sequence[str], head: str | None
) -> list[str]:
    chosen: list[str] = []
    for pattern in [layers] if isinstance(layers, str) else layers:
        if pattern in PRESETS:
            chosen += _preset(model, candidates, pattern, head)
            continue
        matches = fnmatch.filter(candidates, pattern)
        if not matches:
            near = difflib.get_close_matches(pattern, [*candidates, *PRESETS], n=4, cutoff=0.3)
            raise LayerError(
                f"no layer matches {pattern!r}",
                hint=f"nearest names: {', '.join(near)}" if near else f"there are {_some(candidates)}",
            )
        chosen += matches
    return [name for name in candidates if name in set(chosen)]


def _preset(model: nn.Module, candidates: dict[str, nn.Module], preset: str, head: str | None) -> list[str]:
    body = [name for name in candidates if name != head]
    in_blocks = [name for name in body if _BLOCK.search(name)] if _has_blocks(model) else body
    chosen = {"all": body, "blocks": in_blocks, "mlp": [name for name in in_blocks if _MLP.search(name)]}[preset]
    if not chosen:
        raise LayerError(
            f"no layer belongs to the preset {preset!r} in {type(model).__name__}",
            hint=f"name layers by glob; there are {_some(candidates)}",
        )
    return chosen


def _has_blocks(model: nn.Module) -> bool:
    return any(isinstance(module, nn.ModuleList) and len(module) > 0 for module in model.modules())


def _tracked(model: nn.Module, name: str, module: nn.Module, head: str | None) -> TrackedLayer:
    adapter = adapter_for(module)
    assert adapter is not None
    weight = module.weight
    if not isinstance(weight, nn.Parameter) or not weight.is_floating_point():
        raise LayerError(
            f"layer {name} ({type(module).__name__}) holds a quantised weight, which has no gradient",
            hint="load the model unquantised, or name only adapter layers with --layers",
        )
    outputs, inputs = adapter.sizes(module)
    if name == head:
        if is_tied(model):
            raise LayerError(
                f"the output head {name} is tied to the token embeddings, which are read by lookup and not tracked",
                hint="leave it out: half a tied tensor's gradient would be missing",
            )
        _refuse_unless_it_fits(name, outputs, weight.device)
    has_bias = getattr(module, "bias", None) is not None
    return TrackedLayer(name, module, adapter, outputs, inputs + has_bias, has_bias, reads=name)


def _refuse_unless_it_fits(name: str, outputs: int, device: torch.device) -> None:
    needed = 3 * 8 * outputs**2  # moment, float64 copy and basis at once
    if device.type == "cuda":
        available = torch.cuda.mem_get_info(device)[0]
    else:
        available = _memory_available()
    if needed > available:
        raise LayerError(
            f"the factor of the output head {name} is {outputs:,} × {outputs:,}: "
            f"{needed / 2**30:.0f} GiB to decompose, {available / 2**30:.0f} GiB available",
            hint="leave the head out of --layers",
        )


def _memory_available() -> int:
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux: no cheap way to ask
        return 2**63


def _refuse_shared_weights(tracked: Iterable[TrackedLayer]) -> None:
    seen: dict[int, str] = {}
    for layer in tracked:
        other = seen.setdefault(id(layer.module.weight), layer.name)
        if other != layer.name:
            raise LayerError(
                f"layers {other} and {layer.name} share one weight: each sees only part of its gradient",
                hint="leave both out with --layers",
            )


def _some(candidates: Iterable[str]) -> str:
    names = list(candidates)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
