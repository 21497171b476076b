r"""Are the gradients those of the loss? A step along them against what the loss then does.

    L(θ + εg) − L(θ − εg)  ≈  2ε ‖g‖²

`check.verified` compares traces with autograd, and is content where both go through the same faulty backward: a kernel
made for inference alone, whose output is right and whose gradient is zero, or a fused attention that is wrong. Only the
loss itself can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whence.capture.hooks import capture
from whence.capture.trace import LayerTrace
from whence.layers import TrackedLayer, as_parameters
from whence.types import Batch, Task

SHARE = 0.004
"""Of the loss, that a step should change it by: far above rounding in float32, and straight enough."""
TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class Slope:
    """How far the loss follows its gradients."""

    error: float
    """The difference between what the loss does and what its gradients say, over the latter."""
    dead: tuple[str, ...]
    """Layers whose gradient is exactly zero, where others have one."""

    @property
    def advice(self) -> str | None:
        """What is wrong, or None."""
        if self.error > TOLERANCE:
            return (
                f"the loss does not follow its gradients: a step along them changes it by {self.error:.0%} more or "
                "less than they say, so that some kernel's backward is not that of its forward"
            )
        if self.dead:
            more = f" and {len(self.dead) - 1} more" if len(self.dead) > 1 else ""
            return f"layer {self.dead[0]}{more} receives no gradient at all"
        return None


def slope(model: nn.Module, layers: Sequence[TrackedLayer], task: Task, batch: Batch) -> Slope:
    """Compare gradients with finite differences of the loss along them, in float32 or better.

    The weights come back bit for bit. Cost: a pass, and two to six forwards; memory: the tracked weights twice.
    """
    gradients: dict[str, Tensor] = {}

    def keep(trace: LayerTrace) -> None:
        gradients[trace.layer] = trace.gradient().sum(0)

    with capture(model, layers, batch.real, keep, batch.layout):
        loss = task.loss(model, batch).sum()
        loss.backward()
    squared = sum(float(g.double().square().sum()) for g in gradients.values())
    dead = tuple(layer.name for layer in layers if not bool(gradients[layer.name].any()))
    if squared == 0 or not torch.isfinite(loss):
        return Slope(float("inf") if squared == 0 else 0.0, dead)
    direction = as_parameters(layers, gradients)
    step = SHARE * abs(float(loss.detach())) / squared
    return Slope(min(_error(model, task, batch, direction, step / 8**k, squared) for k in range(2)), dead)


def _error(
    model: nn.Module, task: Task, batch: Batch, direction: dict[str, Tensor], step: float, squared: float
) -> float:
    owners = dict(model.named_parameters())
    before = {name: owners[name].detach().clone() for name in direction}

    def at(side: float) -> float:
        with torch.no_grad():
            for name, towards in direction.items():
                owners[name].copy_(before[name] + side * step * towards.to(before[name]))
            return float(task.loss(model, batch).double().sum())

    try:
        return abs(_central(at, step) / squared - 1)
    finally:
        with torch.no_grad():
            for name, value in before.items():
                owners[name].copy_(value)


def _central(at: Callable[[float], float], step: float) -> float:
    return (at(1.0) - at(-1.0)) / (2 * step)
