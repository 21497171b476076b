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


def verified(model: nn.Module, tracked: Tracked, task: Task, batch: Batch) -> Tracked:
    """Compare each layer's traces with autograd, example by example, and group layers by what they read.

    Catches a module used twice, a flattened input, a routed expert, a subclass with a forward of its own, and
    a checkpointed block.

    Args:
        batch: Two sequences or so, of unlike lengths.

    Raises:
        LayerError: Naming every layer whose gradient the hooks do not see whole.
    """
    mine, reads, pooled = _from_hooks(model, tracked.layers, task, batch)
    theirs = _from_autograd(model, tracked.layers, task, batch)
    tolerance = TOLERANCE.get(next(model.parameters()).dtype, 2e-3)
    wrong = []
    for layer in tracked.layers:
        expected = theirs[layer.name]
        seen = mine.get(layer.name)
        seen = torch.zeros_like(expected) if seen is None else seen.to(expected)
        error = (seen - expected).flatten(1).norm(dim=1).max()
        if error > tolerance * expected.flatten(1).norm(dim=1).max() + 1e-12:
            wrong.append(layer.name)
    if wrong:
        some = ", ".join(wrong[:4]) + (f" and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise LayerError(
            f"the gradient of {some} is not the sum of its output gradients times its inputs "
            "(a module used twice, routed tokens, or a forward of its own)",
            hint="leave it out with --layers",
        )
    return tracked.with_reads(reads, pooled)


def _from_hooks(
    model: nn.Module, layers: Sequence[TrackedLayer], task: Task, batch: Batch
) -> tuple[dict[str, Tensor], dict[str, str], set[str]]:
    """Each layer's gradients ``[n o i]``, what it reads, and which layers see one row an example."""
    grads: dict[str, Tensor] = {}

    def keep(trace: LayerTrace) -> None:
        grads[trace.layer] = trace.gradient()

    reads: dict[str, str] = {}
    pooled: set[str] = set()
    alone = [_alone(layer) for layer in layers]
    with capture(model, alone, batch.real, keep, batch.layout) as seen:
        loss = task.loss(model, batch)
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
        loss.sum().backward()
    return grads, reads, pooled


def _alone(layer: TrackedLayer) -> TrackedLayer:
    return replace(layer, reads=layer.name, readers=1)


def _from_autograd(model: nn.Module, layers: Sequence[TrackedLayer], task: Task, batch: Batch) -> dict[str, Tensor]:
    """Each example's weight gradients, ``[n o i]`` a layer, by an ordinary backward an example."""
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    rows: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
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
                    rows[layer.name].append(layer.adapter.matrix(weight, bias[0] if bias else None))
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)
    return {name: torch.stack(grads) for name, grads in rows.items()}


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
    model: nn.Module, tracked: Tracked, task: Task, together: Batch, alone: Callable[[int], Batch]
) -> Sensitivity:
    """Compare each sequence's gradients in a batch of unlike lengths with those it has by itself, unpadded.

    Args:
        together: A padded batch.
        alone: Sequence number → a batch of that sequence only.
    """
    whole, _, _ = _from_hooks(model, tracked.layers, task, together)
    worst, where = 0.0, ""
    for row, sequence in enumerate(together.ids.tolist()):
        single, _, _ = _from_hooks(model, tracked.layers, task, alone(sequence))
        for name, grads in single.items():
            norm = float(whole[name].flatten(1).norm(dim=1).max())
            difference = float((whole[name][row] - grads[0]).norm()) / norm if norm > 0 else 0.0
            if difference > worst:
                worst, where = difference, name
    config = getattr(model, "config", None)
    kernel = str(getattr(config, "_attn_implementation", None) or "model's own")
    # Checkpoints' norms and rotations compute in float32 whatever the weights: float64 is no finer than that here.
    tolerance = max(TOLERANCE.get(next(model.parameters()).dtype, 2e-3), 1e-5)
    return Sensitivity(worst, where, kernel, tolerance)
