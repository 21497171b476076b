"""The models that laws and oracle tests run on, each with its layers, its examples and its task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from whence.layers import adapters_for
from whence.tasks import CausalLM, Classification, Regression
from whence.testing import convnets, dense, tiny, toys
from whence.testing.lora import with_lora
from whence.types import Batch


@dataclass(frozen=True)
class Case:
    """A model in float64, the names of its tracked layers, its training examples, and how they are scored."""

    model: nn.Module
    layers: list[str]
    examples: list[Batch]
    kind: dense.Kind
    exact: bool = True
    """Whether the model computes in float64 throughout; most Hugging Face ones do norms in float32."""

    @property
    def task(self) -> Any:
        return {"tokens": CausalLM, "classes": Classification, "numbers": Regression}[self.kind]()

    @property
    def tolerance(self) -> dict[str, float]:
        return {"rtol": 1e-8, "atol": 1e-10} if self.exact else {"rtol": 2e-4, "atol": 2e-5}

    def oracle(self, **settings: Any) -> dense.Oracle:
        return dense.Oracle(self.model, self.layers, self.examples, self.kind, **settings)


def lm(count: int = 6, **shape: Any) -> Case:
    model = tiny.language_model(**shape)
    return Case(model, linears(model.layers, "layers."), toys.sequences(count), "tokens")


def lora(targets: Sequence[str] = ("q", "v", "down"), **shape: Any) -> Case:
    """A LoRA adapter whose scale is not one; its dropout must not show, nor what it wraps."""
    settings = {"lora_alpha": 3, "use_rslora": True, "lora_dropout": 0.5, "fan_in_fan_out": bool(shape.get("fused"))}
    model = with_lora(tiny.language_model(**shape), list(targets), **settings)
    return Case(model, [name for name in linears(model) if ".lora_" in name], toys.sequences(6), "tokens")


def table(*sizes: int, bias: bool = True, regression: bool = False) -> Case:
    sizes = sizes or (4, 5, 3)
    model = tiny.mlp(*sizes, bias=bias)
    rows = toys.rows(regression=regression, inputs=sizes[0], classes=sizes[-1])
    return Case(model, linears(model), rows, "numbers" if regression else "classes")


def pictures(model: nn.Module) -> Case:
    return Case(model, linears(model), toys.images(), "classes")


def architecture(name: str, tied: bool | None = None) -> Case:
    model = tiny.huggingface(name, tied=tied)
    blocks = next(key for key, part in model.named_modules() if isinstance(part, nn.ModuleList))
    layers = linears(model.get_submodule(blocks), f"{blocks}.")
    return Case(model, layers, toys.sequences(4, vocab=11), "tokens", exact=False)


def linears(model: nn.Module, prefix: str = "") -> list[str]:
    """Every layer that can be tracked, the groups of a convolution one by one."""
    return [prefix + name + a.suffix for name, part in model.named_modules() for a in adapters_for(part)]


OURS: dict[str, Callable[[], Case]] = {
    "lm": lm,
    "lm without bias": lambda: lm(bias=False),
    "lm with Conv1D": lambda: lm(fused=True),
    "lm with LoRA": lora,
    "mlp": lambda: table(4, 5, 3),
    "mlp without bias": lambda: table(4, 5, 3, bias=False),
    "regression": lambda: table(4, 5, 2, regression=True),
    "resnet": lambda: pictures(convnets.tiny_resnet()),
    "odd convolutions": lambda: pictures(convnets.odd_convolutions()),
}
THEIRS: dict[str, Callable[[], Case]] = {
    f"{name}{' tied' if tied else ''}": lambda name=name, tied=tied: architecture(name, tied)  # type: ignore[misc]
    for name in tiny.ARCHITECTURES
    for tied in (None, True)
}


class Interrupted(toys.TinyData):
    """Data whose reader is killed at the start of a unit."""

    def killed_after(self, count: int) -> Interrupted:
        """How many units can be read before it happens; the check before a pass reads the first and the last."""
        object.__setattr__(self, "left", count)
        return self

    def batches(self, unit: int) -> Iterator[Batch]:
        if self.left == 0:
            raise KeyboardInterrupt
        object.__setattr__(self, "left", self.left - 1)
        yield from super().batches(unit)
