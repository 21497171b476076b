"""The model on this machine: what a plain pass takes, and what each sink adds, over some work.

A few batches stand for all: of lengths that hold equal shares of the positions, each tried once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from whence.jobs.costs import Shape
from whence.jobs.plan_view import Pass
from whence.jobs.probe import TRIAL, Seconds, made_up, operations, peak, timed, tried
from whence.jobs.probe_sinks import Extra, extra
from whence.jobs.stream import device_of, likelihood_pass
from whence.jobs.workload import Workload
from whence.layers import TrackedLayer
from whence.types import Batch, Task

STANDING = 3
"""Batches of so many lengths stand for all."""


class Machine:
    """Operations are counted, seconds and bytes are tried; see `probe`."""

    def __init__(self, model: nn.Module, layers: Sequence[TrackedLayer], task: Task) -> None:
        self.model, self.layers, self.task = model, layers, task
        self.device, self.dtype = device_of(model), next(model.parameters()).dtype
        self.plain = operations(self.bare, model)
        """Of a forward and a backward through activations."""
        small = Shape(1, 64, 63)
        batch = made_up(small, model)
        self.budget = TRIAL * self.plain.of(small) / max(timed(lambda: self.bare(batch), self.device).wall, 1e-9)
        """Operations of a trial."""
        self._seconds: dict[Shape, Seconds] = {}
        self._bytes: dict[Shape, int] = {}
        self._extras: dict[tuple[Any, ...], Extra] = {}

    def bare(self, batch: Batch) -> None:
        """A pass whose traces nobody keeps."""
        likelihood_pass(self.model, self.layers, self.task, batch, lambda _: None)

    def operations(self, work: Workload, more: Callable[[Shape], float] = lambda _: 0.0) -> float:
        """Of a plain pass over some work, and what a sink adds to each of its batches."""
        return sum(count * (self.plain.of(shape) + more(shape)) for shape, count in work.batches.items())

    def seconds(self, work: Workload, kind: str | None = None, **sink: Any) -> Seconds:
        """Of a pass, with the sink of that kind or with none."""
        total = Seconds()
        for few, share in self.standing(work):
            one = self._plain_seconds(few)
            if kind is not None:
                one = one + self._extra(kind, few, sink).seconds
            total = total + one * (work.padded * share / few.positions)
        return total

    def at_rate(self, operations: float, work: Workload) -> Seconds:
        """Of so many operations, at the rate of a plain pass over some work."""
        return self.seconds(work) * (operations / self.operations(work))

    def standing(self, work: Workload) -> list[tuple[Shape, float]]:
        """What is tried, and the share of the positions that it stands for."""
        parts = min(STANDING, sum(work.batches.values()))
        chosen = Counter(self.trial(shape) for shape in work.typical(parts))
        return [(shape, count / parts) for shape, count in chosen.items()]

    def activations(self, work: Workload) -> int:
        """Bytes alive at the height of a plain pass, over the batch that takes most."""
        return max(self._alive(shape) for shape in work.heaviest)

    def transient(self, work: Workload, kind: str, **sink: Any) -> int:
        """Bytes that a sink holds for a moment, over the batch that takes most."""
        return max(self._scaled(shape, lambda few: self._extra(kind, few, sink).memory) for shape in work.heaviest)

    def epoch(self, work: Workload) -> Pass:
        """A plain training epoch: forward and backward with every weight's gradient, no optimiser step."""
        model, wanted = self.model, [(p, p.requires_grad) for p in self.model.parameters()]

        def train(batch: Batch) -> None:
            self.task.loss(model, batch).sum().backward()
            model.zero_grad(set_to_none=True)

        try:
            for parameter, _ in wanted:
                parameter.requires_grad_(True)
            counted = operations(train, model)
            seconds = Seconds()
            for few, share in self.standing(work):
                batch = made_up(few, model)
                once = timed(lambda batch=batch: train(batch), self.device)  # type: ignore[misc]
                seconds = seconds + once * (work.padded * share / few.positions)
        finally:
            for parameter, flag in wanted:
                parameter.requires_grad_(flag)
        total = sum(count * counted.of(shape) for shape, count in work.batches.items())
        return Pass("training epoch", 1, work.sequences, work.tokens, total, seconds, 0)

    def trial(self, shape: Shape, times: float = 1.0) -> Shape:
        """What stands for a batch of that shape, where a pass does ``times`` the work of a plain one."""
        return tried(shape, times * self.plain.of(shape.rows(1)), self.budget)

    def _plain_seconds(self, few: Shape) -> Seconds:
        if few not in self._seconds:
            batch = made_up(few, self.model)
            self._seconds[few] = timed(lambda: self.bare(batch), self.device)
        return self._seconds[few]

    def _extra(self, kind: str, few: Shape, sink: dict[str, Any]) -> Extra:
        key = (kind, few, tuple(sorted(sink.items())))
        if key not in self._extras:
            self._extras[key] = extra(kind, self.layers, few, self.dtype, self.device, **sink)
        return self._extras[key]

    def _alive(self, shape: Shape) -> int:
        return self._scaled(shape, self._peak)

    def _peak(self, few: Shape) -> int:
        if few not in self._bytes:
            batch = made_up(few, self.model)
            self._bytes[few] = peak(lambda: self.bare(batch), self.device)
        return self._bytes[few]

    def _scaled(self, shape: Shape, measure: Callable[[Shape], int]) -> int:
        """Bytes at a shape from a trial of fewer sequences, part of which (a chunk of logits) does not grow."""
        few = self.trial(shape)
        whole = measure(few)
        if few == shape or few.t < shape.t:
            return round(whole * shape.positions / few.positions)
        less = few.rows(max(1, few.n // 2))
        slope = (whole - measure(less)) / (few.n - less.n) if few.n > less.n else whole / few.n
        return round(whole + slope * (shape.n - few.n))
