"""The model on this machine: what a way of running it takes, and what each sink adds, over some work.

Operations are counted on tiny batches and follow for any; seconds and bytes are tried. For seconds a few batches
stand for all: of lengths that hold equal shares of the positions, each tried once. For bytes it is the heaviest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn

from whence.influence.attribution import input_tokens, output_tokens
from whence.influence.attribution.along import POSITIONS
from whence.jobs.plan.costs import Shape
from whence.jobs.plan.probe import (
    TRIAL,
    Seconds,
    made_up,
    operations,
    peak,
    timed,
    tried,
    weights_wanted,
)
from whence.jobs.plan.sinks import Extra, extra
from whence.jobs.plan.workload import Workload
from whence.jobs.stream import device_of, likelihood_pass
from whence.layers import TrackedLayer
from whence.types import Batch, Labels, Task

STANDING = 3
"""Batches of so many lengths stand for all."""


class Rehearsal:
    """One way of running a batch.

    Args:
        rate: Operations a second, about: what decides how large a trial is.
    """

    def __init__(self, run: Callable[[Batch], Any], model: nn.Module, rate: float) -> None:
        self.run, self.model, self.device = run, model, device_of(model)
        self.counted = operations(run, model)
        self.budget = TRIAL * rate
        self._seconds: dict[Shape, Seconds] = {}
        self._bytes: dict[Shape, int] = {}

    def operations(self, work: Workload) -> float:
        """Over all batches."""
        return sum(count * self.counted.of(shape.read) for shape, count in work.batches.items())

    def seconds(self, work: Workload) -> Seconds:
        """Over all batches."""
        return self.over(work.read, self._timed)

    def over(self, work: Workload, once: Callable[[Shape], Seconds]) -> Seconds:
        """Some work's seconds from those of the few batches that stand for it."""
        parts = min(STANDING, sum(work.batches.values()))
        chosen = Counter(self.trial(shape) for shape in work.typical(parts))
        return sum(
            (once(few) * (work.padded * count / parts / few.positions) for few, count in chosen.items()), Seconds()
        )

    def memory(self, work: Workload) -> int:
        """Bytes alive at the height of the batch that takes most, above those alive before it."""
        return max(self.memory_of(shape) for shape in work.read.heaviest)

    def memory_of(self, shape: Shape) -> int:
        """The same of one batch."""
        return self.scaled(shape.read, self._peak)

    def trial(self, shape: Shape) -> Shape:
        """What stands for a batch of that shape."""
        return tried(shape, self.counted.of(shape.rows(1)), self.budget)

    def scaled(self, shape: Shape, measure: Callable[[Shape], int]) -> int:
        """Bytes at a shape from a trial of fewer sequences, part of which (a chunk of logits) does not grow."""
        few = self.trial(shape)
        whole = measure(few)
        if few == shape or few.t < shape.t:
            return round(whole * shape.positions / few.positions)
        less = few.rows(max(1, few.n // 2))
        slope = (whole - measure(less)) / (few.n - less.n) if few.n > less.n else whole / few.n
        return round(whole + slope * (shape.n - few.n))

    def _timed(self, few: Shape) -> Seconds:
        if few not in self._seconds:
            batch = made_up(few, self.model)
            self._seconds[few] = timed(lambda: self.run(batch), self.device)
        return self._seconds[few]

    def _peak(self, few: Shape) -> int:
        if few not in self._bytes:
            batch = made_up(few, self.model)
            self._bytes[few] = peak(lambda: self.run(batch), self.device)
        return self._bytes[few]


class Machine:
    """The ways in which a run uses the model, and the sinks of its passes."""

    def __init__(self, model: nn.Module, layers: Sequence[TrackedLayer], task: Task) -> None:
        self.model, self.layers, self.task = model, layers, task
        self.device, self.dtype = device_of(model), next(model.parameters()).dtype
        small = made_up(Shape(1, 64, 63), model)
        counted = operations(lambda batch: self._pass(batch, "true"), model).of(Shape(1, 64, 63))
        took = timed(lambda: self._pass(small, "true"), self.device).wall
        self.rate = counted / max(took, 1e-9)
        """Operations a second of a pass over little."""
        self._extras: dict[tuple[Any, ...], Extra] = {}

    @cached_property
    def plain(self) -> Rehearsal:
        """A forward and a backward through activations, at the labels of the data."""
        return Rehearsal(lambda batch: self._pass(batch, "true"), self.model, self.rate)

    @cached_property
    def sampled(self) -> Rehearsal:
        """The same at labels sampled from the model."""
        return Rehearsal(lambda batch: self._pass(batch, "sampled"), self.model, self.rate)

    @cached_property
    def epoch(self) -> Rehearsal:
        """A forward and a backward with every weight's gradient, no optimiser step: one step of training."""

        def train(batch: Batch) -> None:
            with weights_wanted(self.model):
                self.task.loss(self.model, batch).sum().backward()
                self.model.zero_grad(set_to_none=True)

        return Rehearsal(train, self.model, self.rate)

    @cached_property
    def views(self) -> Rehearsal:
        """Output-token and input-token attributions, which are not made in a pass."""
        direction = {
            e.name: torch.zeros(e.outputs, e.inputs, dtype=self.dtype, device=self.device) for e in self.layers
        }

        def both(batch: Batch) -> None:
            output_tokens(self.model, batch, direction, self.layers)
            input_tokens(self.model, batch, direction, self.layers)

        return Rehearsal(both, self.model, self.rate)

    def passing(self, labels: Labels) -> Rehearsal:
        """A plain pass at these labels."""
        return self.sampled if labels == "sampled" else self.plain

    def added(self, work: Workload, kind: str, **sink: Any) -> Seconds:
        """What a sink adds to a plain pass over some work."""
        return self.plain.over(work, lambda few: self._extra(kind, few, sink).seconds)

    def transient(self, work: Workload, kind: str, **sink: Any) -> int:
        """Bytes that a sink holds for a moment, over the batch that takes most."""
        return max(self.plain.scaled(shape, lambda few: self._extra(kind, few, sink).memory) for shape in work.heaviest)

    def viewing(self, work: Workload) -> int:
        """Bytes that attributions take: a few rows of a batch at a time."""
        few = {shape.rows(min(shape.n, max(1, POSITIONS // shape.t))) for shape in work.heaviest}
        return max(self.views.memory_of(shape) for shape in few)

    def at_rate(self, operations: float, work: Workload) -> Seconds:
        """Of so many operations, at the rate of a plain pass over some work."""
        return self.plain.seconds(work) * (operations / self.plain.operations(work))

    def _pass(self, batch: Batch, labels: Labels) -> None:
        """A pass whose traces nobody keeps."""
        likelihood_pass(self.model, self.layers, self.task, batch, lambda _: None, labels=labels)

    def _extra(self, kind: str, few: Shape, sink: dict[str, Any]) -> Extra:
        key = (kind, few, tuple(sorted(sink.items())))
        if key not in self._extras:
            self._extras[key] = extra(kind, self.layers, few, self.dtype, self.device, **sink)
        return self._extras[key]
