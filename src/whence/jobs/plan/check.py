"""The check that opens a run, on made-up tokens: what it takes, and whether the run would be refused there."""

from __future__ import annotations

import time
from dataclasses import replace

from torch import nn

from whence.capture.check import sensitivity, verified
from whence.errors import ModelError
from whence.jobs.plan.costs import Shape
from whence.jobs.plan.machine import Machine
from whence.jobs.plan.probe import CountOperations, Seconds, made_up, wait
from whence.jobs.plan.workload import Workload
from whence.layers.select import Tracked
from whence.types import Batch, Task

PASSES = 6
"""Of two sequences, about, that the check comes to: what decides how long the sequences on trial may be."""


def grouped(model: nn.Module, tracked: Tracked, task: Task) -> Tracked:
    """The tracked layers, verified on a few tokens and grouped by what they read.

    Raises:
        LayerError: If a layer's gradient is not seen whole.
    """
    return verified(model, tracked, task, _two(16, model))


def check(machine: Machine, tracked: Tracked, train: Workload, at_once: int) -> tuple[Shape, float, Seconds]:
    """The two sequences that a run checks, and the operations and seconds that it takes.

    Sequences too long to try are tried shorter, and scaled as a plain pass scales.

    Raises:
        ModelError: If a sequence's gradient depends on its batch-mates or on padding; names what mends it.
    """
    model, plain = machine.model, machine.plain
    longest = max(shape.t for shape in train.batches)
    whole = Shape.of(_two(longest, model))
    cut = min(1.0, 10 * plain.budget / (PASSES * plain.counted.of(whole)))
    together = _two(max(min(longest, 16), int(longest * cut)), model)
    began, worked = time.perf_counter(), time.process_time()
    with CountOperations() as counter:
        checked = verified(model, tracked, machine.task, together, at_once)
        found = sensitivity(model, checked, machine.task, together, lambda row: _alone(together, row), at_once)
    wait(machine.device)
    took = Seconds(time.perf_counter() - began, time.process_time() - worked)
    if found.advice is not None:
        raise ModelError(found.advice)
    scale = plain.counted.of(whole) / plain.counted.of(Shape.of(together))
    return whole, counter.total * scale, took * scale


def _two(t: int, model: nn.Module) -> Batch:
    """Two sequences of ``t`` positions, one of them padded from half of that on."""
    batch = made_up(Shape(2, t, 2 * (t - 1)), model)
    real, scored = batch.real.clone(), batch.scored.clone()
    half = max(2, t // 2)
    real[0, half:] = False
    scored[0, half - 1 :] = False
    return replace(batch, real=real, scored=scored, targets=batch.targets * scored)


def _alone(batch: Batch, row: int) -> Batch:
    """One sequence by itself, unpadded."""
    length, rows = int(batch.real[row].sum()), slice(row, row + 1)
    cut = {name: getattr(batch, name)[rows, :length] for name in ("inputs", "targets", "real", "scored")}
    return replace(batch, ids=batch.ids[rows], document=batch.document[rows], offset=batch.offset[rows], **cut)
