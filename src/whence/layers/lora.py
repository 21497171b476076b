"""A PEFT adapter's modules inside a model, told by the names of their types, so that peft is not needed to look.

q_proj                     a LoRA layer: y = W x + s · B A x
  base_layer               W, the base model's
  lora_A.default           A, the adapter's: a linear module, which capture takes as it takes any other
  lora_B.default           B; the gradient at its output carries the scale s
score                      a module saved whole beside the factors
  original_module          replaced: it takes no part
  modules_to_save.default  the adapter's
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from torch import nn

from whence.errors import LayerError

Params = Literal["adapter", "base", "all"]
"""Whose parameters influence is taken over."""

Origin = Literal["adapter", "base", "idle"]
"""Whose a module is; ``idle`` takes no part in a pass (replaced, merged, or of an adapter that is not active)."""

_WRAPPED = re.compile(r"\.(base_layer|lora_[AB]\.[^.]+|modules_to_save\.[^.]+)$")


def origins(model: nn.Module) -> dict[str, Origin]:
    """Module name → whose it is, for every module inside one that an adapter wraps; empty without an adapter.

    Raises:
        LayerError: If a LoRA layer is of a variant whose factors are no linear layers of their own (DoRA, …).
    """
    found: dict[str, Origin] = {}
    for name, module in model.named_modules():
        kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__}
        if "peft.tuners.tuners_utils.BaseTunerLayer" in kinds:
            _refuse_variant(name, module)
            found |= {f"{name}.{part}": origin for part, origin in _of_layer(module)}
        elif "peft.utils.other.ModulesToSaveWrapper" in kinds:
            found |= {f"{name}.{part}": origin for part, origin in _of_saved(module)}
    return found


def resolve(params: Params | None, whose: dict[str, Origin]) -> Params:
    """Whose parameters to take: the adapter's where there is one, unless told.

    Raises:
        LayerError: If the adapter's are asked for and there is none.
    """
    there = "adapter" in whose.values()
    if params in ("adapter", "all") and not there:
        idle = "the adapter takes no part in a pass: it is merged, disabled or not the active one"
        raise LayerError(
            idle if whose else f"influence over {params} parameters is asked for, and the model has no adapter",
            hint="unmerge and enable it" if whose else "give --adapter FOLDER, or leave --params out",
        )
    return params or ("adapter" if there else "base")


def wrapped_name(name: str) -> str:
    """The name that a layer's module has in the base model.

    Example:
        >>> wrapped_name("layers.0.q_proj.lora_A.default"), wrapped_name("layers.0.q_proj.base_layer")
        ('layers.0.q_proj', 'layers.0.q_proj')
    """
    return _WRAPPED.sub("", name)


def _of_layer(module: Any) -> Iterator[tuple[str, Origin]]:
    live = set() if module.merged or module.disable_adapters else set(module.active_adapters)
    for part, _ in module.named_modules():
        kind, *rest = part.split(".")
        if kind == "base_layer":
            yield part, "base"
        elif kind:  # lora_A and its like hold a part for each adapter by its name
            yield part, "adapter" if live and (not rest or rest[0] in live) else "idle"


def _of_saved(module: Any) -> Iterator[tuple[str, Origin]]:
    live = set() if module.disable_adapters else set(module.active_adapters)
    for part, _ in module.named_modules():
        kind, *rest = part.split(".")
        if kind == "original_module":
            yield part, "idle" if live else "base"
        elif rest:
            yield part, "adapter" if rest[0] in live else "idle"


def _refuse_variant(name: str, module: Any) -> None:
    for adapter, variant in getattr(module, "lora_variant", {}).items():
        if adapter in module.active_adapters:
            raise LayerError(
                f"{name} carries a LoRA variant ({type(variant).__name__}) whose factors are no linear layers of their "
                "own, so that their gradients are not what goes in times what comes back",
                hint="plain LoRA is supported (rank-stabilised too); merge the adapter to ask about the whole model",
            )
