"""One small batch before any long pass: are hook gradients the gradients, and of this sequence alone?"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from whence.capture.hooks import capture
from whence.capture.trace import LayerTrace
from whence.errors import LayerError, ModelError
from whence.layers import TrackedLayer
from whence.layers.select import Tracked
from whence.types import Batch, Task

TOLERANCE = {torch.float64: 1e-8, torch.float32: 2e-3, torch.bfloat16: 0.1, torch.float16: 0.05}
"""Of a layer's largest gradient norm in the batch: rounding passes, a missing term does not."""


AT_ONCE = 2**26
"""Weights whose gradients are looked at together (256 MiB of float32 a copy); more layers take several passes."""


def verified(model: nn.Module, tracked: Tracked, task: Task, batch: Batch, at_once: int = AT_ONCE) -> Tracked:
    """Compare each layer's traces with autograd, example by example, and group layers by what they read.

    Catches a call whose output nothing uses, a flattened input, a routed expert, a subclass with a forward of its own,
    and a checkpointed block.

    Args:
        batch: Two sequences or so, of unlike lengths.
        at_once: Weights whose gradients may be held for each example, and once more; at the least one layer's.

    Raises:
        LayerError: Naming every layer whose gradient the hooks do not see whole.
    """
    reads, pooled = _reading(model, tracked.layers, task, batch)
    wrong: list[str] = []
    for some in pieces(tracked.layers, at_once):
        wrong += _unlike_autograd(model, some, task, batch)
    if wrong:
        more = ", ".join(wrong[:4]) + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise LayerError(
            f"the gradient of {more} is not the sum of its output gradients times its inputs "
            "(routed tokens, a forward of its own, or chance in evaluation)",
            hint="leave it out with --layers",
        )
    return tracked.with_reads(reads, pooled)


def pieces(layers: Sequence[TrackedLayer], at_once: int) -> list[list[TrackedLayer]]:
    """Runs of layers with so many weights at the most, or of one layer."""
    found: list[list[TrackedLayer]] = [[]]
    for layer in layers:
        if found[-1] and sum(other.weights for other in found[-1]) + layer.weights > at_once:
            found.append([])
        found[-1].append(layer)
    return found


def _reading(
    model: nn.Module, layers: Sequence[TrackedLayer], task: Task, batch: Batch
) -> tuple[dict[str, str], set[str]]:
    """What each layer reads, and which layers see one row an example: all of a single forward."""
    reads: dict[str, str] = {}
    pooled: set[str] = set()
    alone = [_alone(layer) for layer in layers]
    with capture(model, alone, batch.real, lambda _: None, batch.layout) as seen:
        task.loss(model, batch)
        groups: dict[tuple[int, bool, Hashable], str] = {}
        for layer in alone:
            if layer.name not in seen:
                raise LayerError(
                    f"layer {layer.name} took no part in the forward pass", hint="leave it out with --layers"
                )
            if seen[layer.name].ndim == 2 and len(seen[layer.name]) == len(batch) < batch.real.numel():
                pooled.add(layer.name)
            how = layer.adapter.reading(layer.module)
            reads[layer.name] = groups.setdefault((id(seen[layer.name]), layer.bias, how), layer.name)
    return reads, pooled


def _from_hooks(model: nn.Module, layers: Sequence[TrackedLayer], task: Task, batch: Batch) -> dict[str, Tensor]:
    """Each layer's gradients ``[n o i]``."""
    grads: dict[str, Tensor] = {}

    def keep(trace: LayerTrace) -> None:
        grads[trace.layer] = trace.gradient()

    with capture(model, [_alone(layer) for layer in layers], batch.real, keep, batch.layout):
        task.loss(model, batch).sum().backward()
    return grads


def _alone(layer: TrackedLayer) -> TrackedLayer:
    return replace(layer, reads=layer.name, readers=1)


def _unlike_autograd(model: nn.Module, layers: Sequence[TrackedLayer], task: Task, batch: Batch) -> list[str]:
    """The layers whose gradients from hooks are not those of autograd."""
    mine = _from_hooks(model, layers, task, batch)
    error, norm = dict.fromkeys((layer.name for layer in layers), 0.0), dict[str, float]()

    def compare(row: int, layer: TrackedLayer, expected: Tensor) -> None:
        seen = mine[layer.name][row].to(expected) if layer.name in mine else torch.zeros_like(expected)
        error[layer.name] = max(error[layer.name], float((seen - expected).norm()))  # NaN: the loss says where
        norm[layer.name] = max(norm.get(layer.name, 0.0), float(expected.norm()))

    _by_autograd(model, layers, task, batch, compare)
    tolerance = TOLERANCE.get(next(model.parameters()).dtype, 2e-3)
    return [name for name in error if error[name] > tolerance * norm[name] + 1e-12]


def _by_autograd(
    model: nn.Module,
    layers: Sequence[TrackedLayer],
    task: Task,
    batch: Batch,
    look: Callable[[int, TrackedLayer, Tensor], None],
) -> None:
    """Show each example's weight gradients, ``[o i]`` a layer, by an ordinary backward an example."""
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    try:
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        flat = list({id(parameter): parameter for layer in layers for parameter in layer.parameters()}.values())
        for parameter in flat:
            parameter.requires_grad_(True)
        model.eval()
        with torch.enable_grad():
            losses = task.loss(model, batch)
            for index in range(len(batch)):
                last = index == len(batch) - 1
                grads = torch.autograd.grad(losses[index], flat, retain_graph=not last, allow_unused=True)
                found = {id(p): torch.zeros_like(p) if g is None else g for g, p in zip(grads, flat, strict=True)}
                for layer in layers:
                    weight, *bias = (found[id(parameter)] for parameter in layer.parameters())
                    look(index, layer, layer.adapter.matrix(weight, bias[0] if bias else None))
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)


def refuse_leaks(model: nn.Module, task: Task, together: Batch, alone: Callable[[int], Batch]) -> None:
    """Compare the loss of sequences that share a row with what each has by itself.

    Raises:
        ModelError: If they see each other, or are told other positions than they have alone.
    """
    with torch.no_grad():
        shared = task.loss(model, together)
        apart = torch.cat([task.loss(model, alone(sequence)) for sequence in together.ids.tolist()])
    error = float((shared - apart).abs().max() / apart.abs().max().clamp_min(1e-12))
    # Norms and softmaxes of checkpoints compute in float32 whatever the weights.
    if error > max(TOLERANCE.get(next(model.parameters()).dtype, 2e-3), 1e-5):
        raise ModelError(
            f"{type(model).__name__} does not keep documents of one row apart: the loss of one differs by {error:.1%} "
            "from what it is alone",
            hint="leave packing out (pack = none): scores are the same",
        )


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How much a sequence's gradient changes with its company: largest relative difference over layers."""

    batch_mates: float
    layer: str
    kernel: str
    tolerance: float = 2e-3
    """What rounding alone may come to, in the model's dtype."""

    @property
    def advice(self) -> str | None:
        """What to do, or None where nothing need be done."""
        if self.batch_mates <= self.tolerance:
            return None
        mend = (
            "something in the model mixes the examples of a batch, so no document has a gradient of its own"
            if self.kernel == "eager"
            else 'load the model with attention = "eager" in a settings file (attn_implementation="eager" in Python)'
        )
        return (
            f"gradients depend on batch-mates and padding by up to {self.batch_mates:.1%} (at {self.layer}) with the "
            f"{self.kernel} attention kernel; {mend}"
        )


def sensitivity(
    model: nn.Module,
    tracked: Tracked,
    task: Task,
    together: Batch,
    alone: Callable[[int], Batch],
    at_once: int = AT_ONCE,
) -> Sensitivity:
    """Compare each sequence's gradients in a batch of unlike lengths with those it has by itself, unpadded.

    Args:
        together: A padded batch.
        alone: Sequence number → a batch of that sequence only.
        at_once: As `verified` takes it.
    """
    worst, where = 0.0, ""
    for some in pieces(tracked.layers, at_once):
        whole = _from_hooks(model, some, task, together)
        for row, sequence in enumerate(together.ids.tolist()):
            for name, grads in _from_hooks(model, some, task, alone(sequence)).items():
                norm = float(whole[name].flatten(1).norm(dim=1).max())
                difference = float((whole[name][row] - grads[0]).norm()) / norm if norm > 0 else 0.0
                if difference > worst:
                    worst, where = difference, name
    config = getattr(model, "config", None)
    kernel = str(getattr(config, "_attn_implementation", None) or "model's own")
    # Checkpoints' norms and rotations compute in float32 whatever the weights: float64 is no finer than that here.
    tolerance = max(TOLERANCE.get(next(model.parameters()).dtype, 2e-3), 1e-5)
    return Sensitivity(worst, where, kernel, tolerance)
