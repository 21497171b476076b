"""Pushing layer traces out of an ordinary backward pass.

    with capture(model, layers, batch.real, sink):
        task.loss(model, batch).sum().backward()        # sink(trace) once a layer, last layer first

A layer called several times in one forward is handed over with its last gradient, all calls in one trace.

A forward hook passes each tracked output through `_Tap`, an identity whose backward hands the trace to the
sink. The tap depends on a scalar that requires a gradient, so the graph starts at the first tracked layers:
weights need no gradient, nothing below is differentiated, and a pass costs a forward and a backward through
activations. A trace is dropped once pushed: what is held is the inputs that backward has not reached yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from whence.capture.trace import LayerTrace, SharedInput
from whence.errors import LayerError
from whence.layers import TrackedLayer
from whence.types import Layout

Sink = Callable[[LayerTrace], None]


@contextmanager
def capture(
    model: nn.Module,
    layers: Sequence[TrackedLayer],
    real: Bool[Tensor, "n t"],
    sink: Sink,
    layout: Layout | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Push a `LayerTrace` of each layer to ``sink`` during every backward in the block.

    The pass runs in eval mode. The model is left as it was found: hooks are removed, ``training`` flags and the
    parameters' ``requires_grad`` restored.

    Args:
        real: Which positions are not padding; the traces are zero elsewhere.
        layout: How sequences lie in the rows that the model reads. Traces are of the sequences, as if each were a row.

    Yields:
        The raw input tensor of each layer seen so far in forward (for `capture.check`).

    Raises:
        LayerError: If some calls of a layer have no gradient, or its input is not one row a position.
    """
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    recorder = _Recorder(layers, real if layout is None else layout.own, sink, layout)
    handles = [
        layer.module.register_forward_hook(recorder.hook(layer), with_kwargs=True, always_call=False)
        for layer in layers
    ]
    training = [module for module in model.modules() if module.training]
    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        for module in training:
            module.training = False  # dropout would make a gradient depend on the draw, batch norm on the batch-mates
        with torch.enable_grad():
            yield recorder.seen
        recorder.refuse_unfinished()
    finally:
        for module in training:
            module.training = True
        for handle in handles:
            handle.remove()
        recorder.forget()  # a forward without its backward would hold its own graph
        for parameter in wanted:
            parameter.requires_grad_(True)


@dataclass(slots=True)
class _Calls:
    """A layer's calls in one forward."""

    layer: TrackedLayer
    inputs: list[SharedInput]
    grads: dict[int, Tensor]
    """Of the calls that backward has reached."""


class _Recorder:
    """Inputs seen in forward, waiting for their output gradients."""

    def __init__(self, layers: Sequence[TrackedLayer], real: Tensor, sink: Sink, layout: Layout | None = None) -> None:
        self.real, self.layout = real, layout
        self.padded = not bool(real.all())
        self.sink = sink
        self.anchor = torch.zeros((), device=real.device, requires_grad=True)
        self.waiting: dict[str, _Calls] = {}
        self.raw: dict[str, tuple[Tensor, SharedInput]] = {}
        """Reads-group → its tensor and the prepared input, until every reader has met it in forward."""
        self.seen: dict[str, Tensor] = {}

    def forget(self) -> None:
        """Let go of every tensor."""
        for held in (self.waiting, self.raw, self.seen):
            held.clear()

    def hook(self, layer: TrackedLayer) -> Callable[..., Tensor | None]:
        def on_forward(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
            if not torch.is_grad_enabled():
                return None  # a look at the model, not a pass
            source = args[0] if args else kwargs.get("input", kwargs.get("x"))
            if not isinstance(source, Tensor) or not isinstance(output, Tensor):
                raise LayerError(
                    f"layer {layer.name} was not called with one tensor", hint="leave it out with --layers"
                )
            calls = self.waiting.setdefault(layer.name, _Calls(layer, [], {}))
            if calls.grads:
                raise _split(layer.name, len(calls.inputs) + 1, len(calls.grads))
            calls.inputs.append(self._shared(layer, source))
            return _Tap.apply(output, self.anchor, (layer.name, len(calls.inputs) - 1), self)

        return on_forward

    def refuse_unfinished(self) -> None:
        """Refuse a layer some of whose calls have no gradient: its trace was not handed over."""
        for name, calls in self.waiting.items():
            if calls.grads:
                raise _split(name, len(calls.inputs), len(calls.grads))

    def _shared(self, layer: TrackedLayer, source: Tensor) -> SharedInput:
        if layer.readers == 1:
            again = layer.name in self.seen  # it reads several tensors, and shares none of them with another layer
            self.seen[layer.name] = source.view_as(source) if again else source
            return SharedInput(layer.reads, self._input(layer, source.detach()))
        if layer.reads not in self.raw:
            self.raw[layer.reads] = (
                source,
                SharedInput(layer.reads, self._input(layer, source.detach()), layer.readers),
            )
        known, shared = self.raw[layer.reads]
        if known is not source:
            raise LayerError(
                f"layer {layer.name} no longer reads the tensor it shared with {layer.reads} when it was checked",
                hint="the model's forward depends on its input; track fewer layers with --layers",
            )
        self.seen[layer.name] = source
        return shared

    def _input(self, layer: TrackedLayer, source: Tensor) -> Tensor | Callable[[], Tensor]:
        return (lambda: self._prepared(layer, source)) if layer.adapter.unfolds else self._prepared(layer, source)

    def _prepared(self, layer: TrackedLayer, source: Tensor) -> Tensor:
        rows = self._positions(layer.adapter.rows(layer.module, source), layer)
        masked = self.padded and rows.shape[:2] == self.real.shape
        real = self.real[..., None].to(rows.dtype)
        if masked:
            rows = rows * real
        if layer.bias:
            ones = real if masked else rows.new_ones(1).expand(*rows.shape[:2], 1)
            rows = torch.cat([rows, ones], dim=-1)
        return rows

    def _positions(self, rows: Tensor, layer: TrackedLayer) -> Tensor:
        if self.layout is None:
            return positions(rows, self.real, layer)
        return self.layout.unpack(positions(rows, self.layout.inputs >= 0, replace(layer, pooled=False)))

    def push(self, name: str, call: int, grad: Tensor) -> None:
        """Called in backward, once a call: with a layer's last one makes the trace, hands it over, and forgets it."""
        calls = self.waiting[name]
        layer = calls.layer
        grads = self._positions(layer.adapter.output_rows(layer.module, grad), layer)
        if self.padded and grads.shape[:2] == self.real.shape:
            grads = grads * self.real[..., None].to(grads.dtype)
        self.seen.clear()
        calls.grads[call] = grads
        if len(calls.grads) < len(calls.inputs):
            return
        del self.waiting[name]
        if len(calls.inputs) > 1:
            self.sink(_joined(calls))
            return
        (shared,) = calls.inputs
        first = self.raw.pop(shared.name, None) is not None or shared.readers == 1
        self.sink(LayerTrace(name, shared, grads, first))


def _joined(calls: _Calls) -> LayerTrace:
    """The positions of each call, one after the other."""
    layer, inputs = calls.layer, calls.inputs
    if layer.readers > 1:
        raise LayerError(
            f"layer {layer.name} is called {len(inputs)} times, and was called once when it was checked",
            hint="the model's forward depends on its input; track fewer layers with --layers",
        )
    grads = [calls.grads[call] for call in range(len(inputs))]
    whole = SharedInput(layer.reads, lambda: torch.cat([one.inputs for one in inputs], dim=1))
    return LayerTrace(layer.name, whole, torch.cat(grads, dim=1), calls=tuple(one.shape[1] for one in grads))


def _split(name: str, calls: int, reached: int) -> LayerError:
    return LayerError(
        f"layer {name} was called {calls} times before one backward, which reached {reached} of them (a checkpointed "
        "block, or an output that nothing uses): its gradient would not be whole",
        hint="turn gradient checkpointing off, or leave the layer out with --layers",
    )


def positions(rows: Tensor, real: Bool[Tensor, "n t"], layer: TrackedLayer) -> Tensor:
    """A layer's rows as ``[n t ·]``: as they are, unflattened where the model put all positions in one axis, or
    ``[n 1 ·]`` where it works on one row an example (seen in the check, and insisted on from then).
    """
    n, t = real.shape
    if rows.ndim == 3 and rows.shape[:2] == (n, t):
        return rows
    if rows.ndim == 2 and t > 1 and rows.shape[0] == n * t:
        return rows.view(n, t, -1)
    if rows.ndim >= 2 and rows.shape[0] == n and (t == 1 or (rows.ndim == 2 and layer.pooled is not False)):
        return rows.reshape(n, -1, rows.shape[-1])
    raise LayerError(
        f"layer {layer.name} works on rows of shape {tuple(rows.shape)}, which are not {n} examples of {t} positions "
        "(a routed expert, positions that were gathered, or a convolution with fewer locations)",
        hint="leave it out with --layers",
    )


class _Tap(torch.autograd.Function):
    """The identity; its backward hands the output's gradient to the recorder."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, anchor: Tensor, call: tuple[str, int], recorder: _Recorder) -> Tensor:
        ctx.call, ctx.recorder = call, recorder
        return output.detach()  # not a view as autograd counts them: an in-place ReLU may follow

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, None]:
        (grad,) = grads
        ctx.recorder.push(*ctx.call, grad)
        ctx.recorder = None
        return (grad if ctx.needs_input_grad[0] else None), None, None, None
