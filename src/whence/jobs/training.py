"""One plain training epoch: the unit in which cost is stated."""

from __future__ import annotations

import time

from torch import nn

from whence.jobs.stream import device_of
from whence.types import Data, Task


def epoch_seconds(model: nn.Module, data: Data, task: Task, *, units: range | None = None) -> float:
    """Processor seconds of a forward and a backward with weight gradients over the data (no optimiser step).

    Args:
        units: Only these units, scaled up to all of them by tokens.
    """
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    chosen = list(data.units) if units is None else [data.units[number] for number in units]
    began = time.process_time()
    try:
        for parameter, _ in wanted:
            parameter.requires_grad_(True)
        for unit in chosen:
            for batch in data.batches(unit.number):
                task.loss(model, batch.to(device_of(model))).sum().backward()
    finally:
        model.zero_grad(set_to_none=True)
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)
    spent = time.process_time() - began
    return spent * sum(unit.tokens for unit in data.units) / max(1, sum(unit.tokens for unit in chosen))
