"""The model: its weights, what of it is tracked, that a pass repeats, and that gradients are those of the loss."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from whence.capture.check import verified
from whence.capture.slope import TOLERANCE, slope
from whence.counted import counted
from whence.jobs.check.findings import Finding, some
from whence.jobs.check.rows import Rows
from whence.jobs.explain import in_float32
from whence.jobs.stream import device_of
from whence.layers.coverage import Coverage
from whence.layers.lora import Params
from whence.layers.select import Tracked, is_tied, track
from whence.types import Task

SMALL = 0.3
"""Share of a model below which it is said that most of it is left out."""


def weights(model: nn.Module) -> Iterator[Finding]:
    """Whether every number of it is one."""
    bad = [
        name
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
    size = sum(parameter.numel() for parameter in model.parameters())
    if bad:
        text = f"NaN or inf in {some(bad)}"
        yield Finding("weights", "wrong", text, len(bad), "save the checkpoint again, or take an earlier one")
    else:
        yield Finding("weights", "ok", f"all {size:,} are finite numbers", 0)


def layers(model: nn.Module, chosen: tuple[str, ...], params: Params | None) -> tuple[Tracked, list[Finding]]:
    """What would be tracked, and what is to be said of it.

    Raises:
        LayerError: As `track` does.
    """
    tracked = track(model, chosen, params)
    return tracked, list(_coverage(tracked.coverage, model))


def _coverage(coverage: Coverage, model: nn.Module) -> Iterator[Finding]:
    over_adapter = any(row.tracked and row.kind == "adapter factors" for row in coverage.rows)
    little = coverage.share < SMALL and not over_adapter
    yield Finding(
        "layers",
        "note" if little else "ok",
        str(coverage),
        coverage.share,
        "most of the model is left out: scores speak of the tracked layers alone" if little else None,
    )
    for row in coverage.rows:
        if row.kind == "stacked experts":
            share = row.parameters / coverage.total
            text = f"{share:.1%} of the parameters are fused experts, 3-D parameters that are not tracked"
            yield Finding("experts", "note", text, share, "scores leave out what the experts learned")
        if row.kind == "quantised weights":
            share = row.parameters / coverage.total
            yield Finding("quantised weights", "note", f"{share:.1%} of the parameters are rounded and held", share)
    if is_tied(model):
        yield Finding(
            "tied embeddings",
            "note",
            "embeddings and output head share one tensor, which is read by lookup and left out",
        )


def whole_gradients(model: nn.Module, tracked: Tracked, task: Task, rows: Rows) -> tuple[Tracked, list[Finding]]:
    """Hooks against autograd on one row, whose company is another check's, and both against the loss itself.

    Raises:
        LayerError: If a layer is routed, or its gradient is not seen whole.
    """
    longest = max(range(rows.sequences), key=lambda row: rows.alone[row].real.shape[1])
    batch = next(rows.gather([longest])).to(device_of(model))
    checked = verified(model, tracked, task, batch)
    found = [Finding("hooks", "ok", f"the gradients of {counted(len(checked), 'layer')} are autograd's")]
    with in_float32(model):
        followed = slope(model, checked.layers, task, batch)
    if followed.advice is not None:
        advice = "use another attention kernel, an unquantised model or another machine; leave a dead layer out"
        found.append(Finding("gradients", "wrong", followed.advice, followed.error, advice))
    else:
        text = f"a step along them changes the loss as they say, to {followed.error:.1%} ({TOLERANCE:.0%} is allowed)"
        found.append(Finding("gradients", "ok", text, followed.error))
    return checked, found


def losses(model: nn.Module, task: Task, rows: Rows) -> Iterator[Finding]:
    """Whether every row has one, and the same when asked again."""
    first, again = _losses(model, task, rows), _losses(model, task, rows)
    bad = [number for number, value in enumerate(first) if not torch.isfinite(value)]
    if bad:
        names = some(rows.name(number) for number in bad)
        text = f"NaN or inf in {counted(len(bad), 'row')} of {len(first)}: {names}"
        yield Finding("losses", "wrong", text, len(bad), "run in float32, or remove the rows")
        return
    scored = sum(int(one.scored.sum()) for one in rows.alone)
    mean = float(torch.stack(first).sum()) / scored
    yield Finding("losses", "ok", f"{mean:.4f} nats a token over the first {counted(len(first), 'row')}", mean)
    apart = max(abs(float(a - b)) for a, b in zip(first, again, strict=True))
    random = [name for name, module in model.named_modules() if module.training]
    if apart > 0 or random:
        text = (
            f"two passes over the same rows differ by {apart:.2g} nats"
            if apart > 0
            else f"in training mode: {some(random)}"
        )
        advice = "something random is left in evaluation mode (dropout, noise): a row has no gradient of its own"
        yield Finding("repeatable", "wrong", text, apart, advice)
    else:
        yield Finding("repeatable", "ok", "two passes over the same rows give the same losses, bit for bit", 0)


def _losses(model: nn.Module, task: Task, rows: Rows) -> list[torch.Tensor]:
    with torch.no_grad():
        return [task.loss(model, batch.to(device_of(model)))[0].cpu().double() for batch in rows.batches(0)]
