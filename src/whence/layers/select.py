"""Which layers take part: presets and globs, and an account of what is left out.

    blocks   every Linear/Conv1D inside the transformer blocks (default); in a model without blocks, every one,
             convolutions included
    mlp      those of the blocks' MLPs: the set of Grosse et al. 2023
    all      every one that is not the output head or tied
    a glob   matched on module names, or a list of globs: ``model.layers.*.mlp.*``

The output head is taken only when a glob names it, and so are a language model's convolutions: their locations need
not be its positions. A grouped convolution is taken whole or not at all.

Of a model with a LoRA adapter only the adapter's own modules take part, unless ``params`` says otherwise; a glob may
name a factor (``*.lora_A.*``) or the module that it wraps (``*.q_proj``).
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
from torch.nn.modules.batchnorm import _BatchNorm

from whence.errors import LayerError
from whence.layers import Adapter, TrackedLayer, adapters_for
from whence.layers.convolution import is_convolution
from whence.layers.coverage import Coverage, account, in_head
from whence.layers.linear import LinearAdapter
from whence.layers.lora import Origin, Params, origins, resolve, wrapped_name
from whence.layers.quantised import is_quantised

PRESETS = ("blocks", "mlp", "all")
_MLP = re.compile(r"(^|[._])(mlp|ffn|feed_forward|feedforward|fc1|fc2|fc_in|fc_out|block_sparse_moe|experts?)([._]|$)")
_BLOCK = re.compile(r"\.\d+(\.|$)")


Candidates = dict[str, tuple[nn.Module, Adapter]]
"""Layer name → its module and adapter."""


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


def track(model: nn.Module, layers: str | Sequence[str] = "blocks", params: Params | None = None) -> Tracked:
    """Choose layers by preset or by glob.

    Args:
        params: Whose: an adapter's, the base model's, or both. None is the adapter's where there is one.

    Raises:
        LayerError: If nothing matches (the nearest names are given), if a named layer cannot be tracked
            (tied head, quantised or shared weight), if a head's vocabulary-square factor would not fit, or if a
            batch norm makes one example's gradient depend on the others of its batch.
    """
    whose = origins(model)
    params = resolve(params, whose)
    every = _candidates(model)
    if not every:
        raise LayerError(
            f"{type(model).__name__} has no Linear, Conv1D, Conv1d or Conv2d module to track",
            hint="influence is computed for the weights of linear layers and convolutions",
        )
    _refuse_statistics_of_the_batch(model)
    head = head_name(model)
    candidates = _of(params, every, whose)
    names = _chosen(model, candidates, every, layers, head)
    tracked = tuple(_tracked(model, name, *candidates[name], head, whose) for name in names)
    _refuse_shared_weights(tracked)
    return Tracked(tracked, account(model, tracked, head, whose, params))


def named(model: nn.Module, names: Sequence[str]) -> Tracked:
    """Layers by their exact names, whosever they are: those that a curvature was fitted on.

    Raises:
        LayerError: As `track` does.
    """
    whose = origins(model)
    taken = {whose.get(name, "base") for name in names} & {"adapter", "base"}
    return track(model, names, "all" if len(taken) == 2 else "adapter" if "adapter" in taken else "base")


def _candidates(model: nn.Module) -> Candidates:
    """What can be tracked, and quantised modules, so that naming one is refused with the reason."""
    found: Candidates = {}
    for name, module in model.named_modules():
        adapters = adapters_for(module) or ((LinearAdapter(),) if is_quantised(module) else ())
        found |= {name + adapter.suffix: (module, adapter) for adapter in adapters}
    return found


def _of(params: Params, every: Candidates, whose: Mapping[str, Origin]) -> Candidates:
    """The candidates whose parameters are asked for; what takes no part in a pass is never among them."""
    wanted = ("adapter", "base") if params == "all" else (params,)
    found = {
        name: (module, adapter)
        for name, (module, adapter) in every.items()
        if whose.get(name.removesuffix(adapter.suffix), "base") in wanted
    }
    if not found:
        raise LayerError(
            f"no layer is left to track over {params} parameters",
            hint="an adapter of embeddings alone has no linear layers; see --params",
        )
    return found


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
    model: nn.Module, candidates: Candidates, every: Candidates, layers: str | Sequence[str], head: str | None
) -> list[str]:
    chosen: list[str] = []
    for pattern in [layers] if isinstance(layers, str) else layers:
        if pattern in PRESETS:
            chosen += _preset(model, candidates, pattern, head)
            continue
        matches = [name for name in candidates if _matches(name, candidates[name][1], pattern)]
        if not matches:
            raise LayerError(f"no layer matches {pattern!r}", hint=_near(pattern, candidates, every))
        chosen += matches
    modules = {id(candidates[name][0]) for name in chosen}  # of a grouped convolution, every group
    return [name for name, (module, _) in candidates.items() if id(module) in modules]


def _near(pattern: str, candidates: Candidates, every: Candidates) -> str:
    if any(_matches(name, adapter, pattern) for name, (_, adapter) in every.items()):
        return "it is not among the parameters that influence is taken over; see --params"
    near = difflib.get_close_matches(pattern, [*candidates, *PRESETS], n=4, cutoff=0.3)
    return f"nearest names: {', '.join(near)}" if near else f"there are {_some(candidates)}"


def _matches(name: str, adapter: Adapter, pattern: str) -> bool:
    """A glob may name the layer, the module that it is a group of, or the one that an adapter wraps."""
    names = (name, name.removesuffix(adapter.suffix), wrapped_name(name))
    return any(fnmatch.fnmatchcase(one, pattern) for one in names)


def _preset(model: nn.Module, candidates: Candidates, preset: str, head: str | None) -> list[str]:
    body = [
        name
        for name, (module, _) in candidates.items()
        if not in_head(name, head) and not (head and is_convolution(module))
    ]
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


def _tracked(
    model: nn.Module, name: str, module: nn.Module, adapter: Adapter, head: str | None, whose: Mapping[str, Origin]
) -> TrackedLayer:
    weight = module._parameters.get("weight")
    if is_quantised(module) or weight is None:
        raise LayerError(
            f"layer {name} ({type(module).__name__}) holds a quantised weight: it was rounded, and has no gradient",
            hint="load the model unquantised, or ask about a LoRA adapter on top of it: --adapter FOLDER",
        )
    outputs, inputs = adapter.sizes(module)
    if in_head(name, head):
        if whose.get(name, "base") == "base" and is_tied(model):
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
        other = seen.setdefault(id(layer.module.weight), layer.path)
        if other != layer.path:
            raise LayerError(
                f"layers {other} and {layer.path} share one weight: each sees only part of its gradient",
                hint="leave both out with --layers",
            )


def _refuse_statistics_of_the_batch(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise LayerError(
                f"{name} keeps no running statistics: it normalises by its batch even in eval mode, so that an "
                "example's gradient depends on the others of its batch",
                hint="train with track_running_stats=True, or use a norm of one example (GroupNorm, LayerNorm)",
            )


def _some(candidates: Iterable[str]) -> str:
    names = list(candidates)
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
