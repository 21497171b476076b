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
from whence.jobs.plan.sinks import Extra, alike, extra
from whence.jobs.plan.workload import Workload
from whence.jobs.stream import device_of, likelihood_pass
from whence.layers import TrackedLayer
from whence.layers.groups import by_reads
from whence.types import Batch, Labels, Task

STANDING = 3
"""Batches of so many lengths stand for all."""


class Rehearsal:
    """One way of running a batch.

    Args:
        rate: Operations a second, about: what decides how large a trial is.
        like: A way that differs in how much is done, and is as quick at it: seconds are told by its.
    """

    def __init__(
        self, run: Callable[[Batch], Any], model: nn.Module, rate: float, like: Rehearsal | None = None
    ) -> None:
        self.run, self.model, self.device, self.like = run, model, device_of(model), like
        self.counted = operations(run, model)
        self.budget = TRIAL * rate
        self._seconds: dict[Shape, Seconds] = {}
        self._bytes: dict[Shape, int] = {}

    def operations(self, work: Workload) -> float:
        """Over all batches."""
        return sum(count * self.counted.of(shape.read) for shape, count in work.batches.items())

    def seconds(self, work: Workload) -> Seconds:
        """Over all batches."""
        if self.like is not None:
            return self.like.seconds(work) * (self.operations(work) / self.like.operations(work))
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

    def __init__(
        self, model: nn.Module, layers: Sequence[TrackedLayer], task: Task, whole: Machine | None = None
    ) -> None:
        self.model, self.layers, self.task, self.whole = model, layers, task, whole
        self.device, self.dtype = device_of(model), next(model.parameters()).dtype
        self._extras: dict[tuple[Any, ...], Extra] = {} if whole is None else whole._extras
        self._eigh: dict[int, Seconds] = {} if whole is None else whole._eigh
        self.rate: float = self._rate() if whole is None else whole.rate
        """Operations a second of a pass over little."""

    def _rate(self) -> float:
        small = made_up(Shape(1, 64, 63), self.model)
        counted = operations(lambda batch: self._pass(batch, "true"), self.model).of(Shape(1, 64, 63))
        return counted / max(timed(lambda: self._pass(small, "true"), self.device).wall, 1e-9)

    def part(self, layers: Sequence[TrackedLayer]) -> Machine:
        """The same with passes over some of the layers; what is known of the whole is not tried again."""
        return Machine(self.model, layers, self.task, self)

    @cached_property
    def plain(self) -> Rehearsal:
        """A forward and a backward through activations, at the labels of the data."""
        return self._passing("true")

    @cached_property
    def sampled(self) -> Rehearsal:
        """The same at labels sampled from the model."""
        return self._passing("sampled")

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

    def eigenbases(self) -> Seconds:
        """Each width once, timed up to 1,024 and scaled by its cube beyond."""
        widths = [members[0].inputs for members in by_reads(self.layers).values()]
        widths += [layer.outputs for layer in self.layers for _ in range(2)]  # of half the draws too
        for width in set(widths) - set(self._eigh):
            small = min(width, 1024)
            sample = torch.randn(small, small, dtype=torch.float64, device=self.device)
            gram = sample @ sample.mT
            once = timed(lambda gram=gram: torch.linalg.eigh(gram), self.device, repeats=1)  # type: ignore[misc]
            self._eigh[width] = once * (width / small) ** 3
        return sum((self._eigh[width] for width in widths), Seconds())

    def _passing(self, labels: Labels) -> Rehearsal:
        like = None if self.whole is None else self.whole.passing(labels)
        return Rehearsal(lambda batch: self._pass(batch, labels), self.model, self.rate, like)

    def _pass(self, batch: Batch, labels: Labels) -> None:
        """A pass whose traces nobody keeps."""
        likelihood_pass(self.model, self.layers, self.task, batch, lambda _: None, labels=labels)

    def _extra(self, kind: str, few: Shape, sink: dict[str, Any]) -> Extra:
        found = []
        for group, count in alike(self.layers):
            sizes = tuple((layer.outputs, layer.inputs) for layer in group)
            key = (kind, few, sizes, tuple(sorted(sink.items())))
            if key not in self._extras:
                self._extras[key] = extra(kind, group, few, self.dtype, self.device, **sink)
            found.append((self._extras[key], count))
        return Extra(sum((one.seconds * count for one, count in found), Seconds()), max(one.memory for one, _ in found))
