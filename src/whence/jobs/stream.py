"""One batch through the model into a sink, with what must hold of every pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from whence.capture import LayerTrace, capture
from whence.capture.check import AT_ONCE, refuse_leaks, sensitivity, verified
from whence.capture.hooks import Sink
from whence.capture.slope import slope
from whence.errors import DataError, ModelError, NumericalError
from whence.layers import TrackedLayer
from whence.layers.quantised import is_quantised
from whence.layers.select import Tracked
from whence.tasks.reading import refuse_packing
from whence.types import Batch, Data, Labels, Task


def likelihood_pass(
    model: nn.Module,
    layers: Sequence[TrackedLayer],
    task: Task,
    batch: Batch,
    sink: Sink,
    *,
    data: Data | None = None,
    labels: Labels = "true",
    seed: int = 0,
    sample: int = 0,
    weight: Tensor | None = None,
) -> Tensor:
    """Push traces of each example's log-likelihood, minus its loss, and return it ``[n]``.

    Args:
        weight: ``[n]``; multiplies each example's gradient (contrastive queries).

    Raises:
        NumericalError: If an example's loss is NaN or inf; names the document.
    """
    with capture(model, layers, batch.real, sink, batch.layout):
        loss = task.loss(model, batch, labels=labels, seed=seed, sample=sample)
        _refuse_nonfinite(loss.detach(), batch, data)
        (-loss if weight is None else -loss * weight.to(loss)).sum().backward()
    return -loss.detach()


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are."""
    return next(model.parameters()).device


def small_batch(data: Data) -> Batch:
    """Two sequences of as unlike lengths as share a batch, for the check before a long pass.

    One sequence only where every batch of the data holds one: then it never has batch-mates, nor padding.
    """
    first = next(iter(data.batches(data.units[0].number)), None)
    if first is not None and first.layout is not None and (pair := _shared_row(data)) is not None:
        return pair
    last = None
    for batch in data.batches(data.units[-1].number):
        last = batch
    if first is None or last is None:
        raise DataError("there is nothing to read in the data")
    chosen = sorted({int(first.ids[0]), int(last.ids[-1])})
    batches = list(data.gather(chosen))
    if len(batches) == 1:
        return batches[0]
    # The shortest and the longest do not fit one batch: two that do, as the pass will read them.
    shared = _shared_batch(data)
    return max(batches, key=lambda batch: int(batch.scored.sum())) if shared is None else shared


def _shared_row(data: Data) -> Batch | None:
    """Two sequences of a row that are both scored, of unlike lengths where there are such."""
    alike: list[int] | None = None
    for unit in data.units:
        for batch in data.batches(unit.number):
            assert batch.layout is not None
            lengths, rows = batch.real.sum(1), batch.layout.place[:, 0] // batch.layout.inputs.shape[1]
            for row in rows.unique():
                members = ((rows == row) & batch.scored.any(1)).nonzero()[:, 0]
                if len(members) < 2:
                    continue
                pair = [int(members[lengths[members].argmin()]), int(members[lengths[members].argmax()])]
                if lengths[pair[0]] < lengths[pair[1]]:
                    return next(iter(data.gather(batch.ids[pair].tolist())))
                alike = alike or batch.ids[members[:2]].tolist()
    return None if alike is None else next(iter(data.gather(alike)))


def _shared_batch(data: Data) -> Batch | None:
    """The shortest and the longest of the first batch that holds unlike lengths, or else of one that holds several."""
    alike: Batch | None = None
    for unit in data.units:
        for batch in data.batches(unit.number):
            if len(batch) < 2:
                continue
            lengths = batch.real.sum(1)
            shortest, longest = int(lengths.argmin()), int(lengths.argmax())
            if lengths[shortest] < lengths[longest]:
                return batch.rows([shortest, longest])
            alike = alike or batch.rows([0, 1])
    return alike


def checked_layers(model: nn.Module, tracked: Tracked, task: Task, data: Data, at_once: int = AT_ONCE) -> Tracked:
    """The tracked layers, verified on two of the data's own sequences and grouped by what they read.

    Args:
        at_once: Weights whose gradients may be held together: fewer of them, more passes.

    Raises:
        LayerError: If a layer's gradient is not seen whole.
        ModelError: If a sequence's gradient depends on its batch-mates or on padding; names what mends it.
    """
    device = device_of(model)
    together = small_batch(data).to(device)

    def alone(sequence: int) -> Batch:
        return next(iter(data.gather([sequence]))).to(device)

    if together.layout is not None and together.layout.position is not None:
        refuse_packing(model)
        refuse_leaks(model, task, together, alone)
    checked = verified(model, tracked, task, together, at_once)
    if len(together) > 1:
        found = sensitivity(model, checked, task, together, alone, at_once)
        if found.advice is not None:
            raise ModelError(found.advice)
    if any(is_quantised(module) for module in model.modules()):  # their kernels are made for inference
        _refuse_faulty_backward(model, checked, task, together)
    return checked


def _refuse_faulty_backward(model: nn.Module, checked: Tracked, task: Task, batch: Batch) -> None:
    advice = slope(model, checked.layers, task, batch).advice
    if advice is not None:
        raise ModelError(f"{advice} (the model holds quantised weights)", hint="load it unquantised, or on a GPU")


def find_nonfinite(
    model: nn.Module,
    layers: Sequence[TrackedLayer],
    task: Task,
    batches: Iterable[Batch],
    data: Data,
    *,
    labels: Labels,
    seed: int,
) -> None:
    """Read batches again, looking at every trace: raises `NumericalError` naming the layer and the document."""
    for batch in batches:
        batch = batch.to(device_of(model))

        def look(trace: LayerTrace, batch: Batch = batch) -> None:
            for what, rows in (("input", trace.inputs), ("output gradient", trace.output_grads)):
                bad = ~torch.isfinite(rows).flatten(1).all(1)
                if bool(bad.any()):
                    sequence = int(batch.ids[int(bad.nonzero()[0, 0])])
                    raise NumericalError(
                        f"NaN or inf in the {what} of layer {trace.layer}, in {data.name(sequence)}", hint=_HINT
                    )

        likelihood_pass(model, layers, task, batch, look, data=data, labels=labels, seed=seed)


_HINT = "run in float32 (`--dtype float32`), or remove the document"


def _refuse_nonfinite(loss: Tensor, batch: Batch, data: Data | None) -> None:
    if bool(torch.isfinite(loss).all()):
        return
    row = int((~torch.isfinite(loss)).nonzero()[0, 0])
    name = data.name(int(batch.ids[row])) if data is not None else f"example {int(batch.ids[row])}"
    raise NumericalError(f"the loss of {name} is {float(loss[row])}", hint=_HINT)
