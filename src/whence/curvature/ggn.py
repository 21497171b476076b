r"""The exact Gauss-Newton matrix of the mean loss, by its products.

    G = (1/N) Σ over sequences Σ over scored positions  Jᵀ H J        J = ∂outputs/∂weights, all tracked layers
                                                                     H = ∂²loss/∂outputs², exact (`Likelihood`)

One batch, for q directions V:

    outputs h, once                       forward
    Jᵀu as a function of u, once          backward, kept as a graph (it is linear in u, whatever the model)
    J v = ∂⟨Jᵀu, v⟩/∂u                    backward through that graph, a query
    Jᵀ (H J v)                            backward, a query

so all queries share the forward and the linearisation. In multiply-adds a weight and position: 1 + 2 shared and 2 + 2
a query; a training pass is 3. A product for q queries costs (3 + 4q)/3 epochs; done one query at a time with
forward-mode duals it would be 5q/3. Nothing is approximated but by rounding, and any differentiable module
will do: no formula for forward mode is asked of its operations.

The **root** R, G = RᵀR, has a row for each sequence, scored position and output: √p_c (e_c − p) drawn back to the
weights. It is formed where it is small (few outputs, few sequences), through the layer traces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor, nn

from whence.capture import LayerTrace, capture
from whence.curvature.operator import Operator
from whence.errors import InvalidSetting
from whence.layers import TrackedLayer
from whence.layers.parameters import as_matrices, as_parameters
from whence.types import Batch, Data, Gradients, OutputTask, Task

TOGETHER = {"cpu": 8, "cuda": 16}
"""Queries that share one vectorised backward, where each is small."""
LARGE = {"cpu": 2**24, "cuda": 2**31}
"""Positions × weights of a batch from which each query's backward fills the machine by itself."""


class GaussNewton(Operator):
    """G by products.

    Args:
        task: One whose outputs can be looked at: classification, regression, language modelling.

    Raises:
        InvalidSetting: If the task has no ``outputs``.
    """

    name = "gauss-newton"

    def __init__(self, model: nn.Module, layers: Sequence[TrackedLayer], task: Task, data: Data) -> None:
        super().__init__(model, layers, data)
        if not isinstance(task, OutputTask):
            raise InvalidSetting(
                f"{type(task).__name__} does not show its outputs, so its Gauss-Newton matrix cannot be formed",
                hint="give it `outputs` and `likelihood` (see whence.types.OutputTask), or use the sampled Fisher",
            )
        self.task = task

    def matvec(self, grads: Gradients, sequences: Sequence[int] | None = None) -> Gradients:
        queries = len(next(iter(grads.values())))
        total = self.zeros(queries)
        count = 0
        for batch in self._batches(sequences):
            count += len(batch)
            for rows, image in self._batch(batch, grads, queries):
                for name, part in image.items():
                    total[name][rows] += part
            self.spend(self.product_cost(queries) * len(batch) / self.data.sequences)
        return {name: (part / count).to(grads[name]) for name, part in total.items()}

    def _batch(self, batch: Batch, grads: Gradients, queries: int) -> Iterator[tuple[slice, Gradients]]:
        """Σ Jᵀ H J v over a batch, a few queries at a time."""
        with _differentiable(self.model, self.layers) as weights:
            outputs = self.task.outputs(self.model, batch)
            self._refuse_nonfinite(outputs.detach(), _examples(outputs, batch), batch)
            slope = torch.zeros_like(outputs, requires_grad=True)
            tensors = list(weights.values())
            pulled = torch.autograd.grad(outputs, tensors, slope, create_graph=True, materialize_grads=True)
            linear = {name: pull for name, pull in zip(weights, pulled, strict=True) if pull.requires_grad}
            step = self._together(batch)
            for start in range(0, queries, step):
                rows = slice(start, min(start + step, queries))
                moved = {name: part[rows].to(outputs.dtype) for name, part in grads.items()}
                directions = torch.func.vmap(lambda one: as_parameters(self.layers, one))(moved)
                (along,) = _pull(list(linear.values()), [slope], [directions[name] for name in linear])
                bent = self.task.likelihood.hessian(outputs.detach(), along)
                image = dict(zip(weights, _pull([outputs], tensors, [bent]), strict=True))
                yield rows, torch.func.vmap(lambda one: as_matrices(self.layers, one))(image)

    def _together(self, batch: Batch) -> int:
        kind = self.device.type
        large = batch.real.numel() * self.parameters >= LARGE.get(kind, 2**24)
        return 1 if large else TOGETHER.get(kind, 8)

    # --- the root ------------------------------------------------------------------------------------------------

    @cached_property
    def columns(self) -> int:
        """Outputs at a position: classes, vocabulary, or numbers predicted."""
        return self._shape[1]

    @cached_property
    def rows(self) -> int:
        at_each, columns = self._shape
        return columns * (sum(int(batch.scored.sum()) for batch in self._batches()) if at_each else self.data.sequences)

    @cached_property
    def _shape(self) -> tuple[bool, int]:
        """Whether outputs are those of scored positions, and how wide they are."""
        batch = next(self._batches())
        with _differentiable(self.model, self.layers), torch.no_grad():
            outputs = self.task.outputs(self.model, batch)
        return len(outputs) == int(batch.scored.sum()), int(outputs.shape[1])

    def root(self) -> Gradients:
        """R. Cost: an epoch for each output and scored position of a sequence."""
        parts: dict[str, list[Tensor]] = {layer.name: [] for layer in self.layers}
        for batch in self._batches():
            slots = self._slots(batch)
            for slot, column in ((s, c) for s in range(slots) for c in range(self.columns)):
                for name, rows in self._root_rows(batch, slot, column).items():
                    parts[name].append(rows)
            self.spend(slots * self.columns * len(batch) / self.data.sequences)
        return {name: torch.cat(rows) / self.data.sequences**0.5 for name, rows in parts.items()}

    @cached_property
    def root_cost(self) -> float:
        return self.columns * sum(self._slots(batch) * len(batch) for batch in self._batches()) / self.data.sequences

    def product_cost(self, queries: int, groups: int = 1) -> float:
        return (3 * groups + 4 * queries) / 3

    def _slots(self, batch: Batch) -> int:
        """Most outputs that an example of a batch has."""
        return int(batch.scored.sum(1).max()) if self._shape[0] else 1

    def _root_rows(self, batch: Batch, slot: int, column: int) -> Gradients:
        """One output's rows at each example's scored position number ``slot``, of the examples that have as many."""
        found: Gradients = {}

        def keep(trace: LayerTrace) -> None:
            found[trace.layer] = trace.gradient().to(self.dtype)

        with capture(self.model, self.layers, batch.real, keep, batch.layout):
            outputs = self.task.outputs(self.model, batch)
            example = _examples(outputs, batch)
            self._refuse_nonfinite(outputs.detach(), example, batch)
            first = torch.searchsorted(example, torch.arange(len(batch), device=example.device))
            chosen = torch.arange(len(example), device=example.device) - first[example] == slot
            slope = self.task.likelihood.root(outputs.detach(), column) * chosen[:, None]
            (outputs * slope).sum().backward()
        return {name: rows[example[chosen]] for name, rows in found.items()}


def _examples(outputs: Tensor, batch: Batch) -> Tensor:
    """Which example each row of outputs belongs to."""
    rows = batch.scored.nonzero()[:, 0]
    return rows if len(rows) == len(outputs) else torch.arange(len(outputs), device=outputs.device)


def _pull(outputs: Sequence[Tensor], inputs: Sequence[Tensor], slopes: Sequence[Tensor]) -> list[Tensor]:
    """Vector-Jacobian products for slopes ``[q …]``; one query goes without the overhead of vectorising."""
    kept = {"retain_graph": True, "materialize_grads": True}
    if len(slopes[0]) > 1:
        return list(torch.autograd.grad(outputs, inputs, slopes, is_grads_batched=True, **kept))
    single = torch.autograd.grad(outputs, inputs, [slope[0] for slope in slopes], **kept)
    return [pull[None] for pull in single]


@contextmanager
def _differentiable(model: nn.Module, layers: Sequence[TrackedLayer]) -> Iterator[dict[str, nn.Parameter]]:
    """The tracked parameters by name, everything else fixed; eval mode; all as it was afterwards."""
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    tracked = {id(parameter) for layer in layers for parameter in layer.parameters()}
    try:
        for parameter, _ in wanted:
            parameter.requires_grad_(id(parameter) in tracked)
        model.eval()
        with torch.enable_grad():
            yield {name: parameter for name, parameter in model.named_parameters() if id(parameter) in tracked}
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)
