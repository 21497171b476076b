"""A plan as an object: numbers to read, to print, and to hand to a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from whence.counted import counted
from whence.jobs.filter_setting import BIAS, CONTROL, FilterSetting
from whence.jobs.plan.cost import Pass
from whence.jobs.plan.within import Chosen
from whence.jobs.sizes import said
from whence.layers.coverage import Coverage

SLACK = 1.6
"""Main memory that a pass touches over what is alive in it: glibc keeps freed activations in fragments (measured
1.67 on the bench model, constant after a few batches; 1.00 where it is told to return them at once)."""


HEAD = ("pass", "reads", "tokens", "operations", "× epoch", "time", "memory")
"""Of the table: passes over the training data; cost in training epochs; memory above the loaded model."""


@dataclass(frozen=True, repr=False)
class Plan:
    """What a run would take. Printing it computes nothing."""

    passes: tuple[Pass, ...]
    epoch: Pass
    """A plain training epoch over the same data: the unit in which cost is told."""
    baseline: int
    """Bytes of the process with the model loaded (on an accelerator, of its memory)."""
    on_device: bool
    disk: dict[str, int]
    """Folder → bytes when the run is done."""
    disk_while_fitting: int
    """Partial sums, gone when the fit is done."""
    coverage: Coverage
    documents: int
    sequences: int
    windowed: int
    tokens: int
    padded: int
    units: int
    queries: int
    rank: int | None
    filter: FilterSetting | None
    scored: int
    """Documents that are scored: at most, where there is a filter."""
    model_parameters: int
    chosen: Chosen | None = None
    """What was chosen to stay within some memory, where there is a limit."""

    @property
    def operations(self) -> float:
        return sum(one.operations for one in self.passes)

    @property
    def seconds(self) -> float:
        """Wall time on this machine as it was while planning."""
        return sum(one.seconds.wall for one in self.passes)

    @property
    def epochs(self) -> float:
        """Processor time in training epochs."""
        return sum(self.in_epochs(one) for one in self.passes)

    def in_epochs(self, one: Pass) -> float:
        """A pass's processor time in training epochs."""
        return one.seconds.cpu / max(self.epoch.seconds.cpu, 1e-12)

    @property
    def peak_memory(self) -> int:
        """Bytes of the process at its height."""
        slack = 1.0 if self.on_device else SLACK
        return self.baseline + round(slack * max((one.memory for one in self.passes), default=0))

    @property
    def disk_bytes(self) -> int:
        """When the run is done."""
        return sum(self.disk.values())

    @property
    def disk_peak(self) -> int:
        """While it runs: partial sums are there before the curvature is."""
        return self.disk.get("data", 0) + max(self.disk_while_fitting, self.disk_bytes - self.disk.get("data", 0))

    def text(self) -> str:
        """For a person."""
        lines = [
            f"{counted(self.documents, 'document')}, {counted(self.sequences, 'sequence')}, "
            f"{counted(self.tokens, 'token')} ({self.padded:,} with padding), "
            f"{counted(self.units, 'work unit')}; {_asked(self.queries, self.rank)}",
            *([f"documents that are read in several sequences: {self.windowed:,}"] if self.windowed else []),
            str(self.coverage),
            *self._filtered(),
            "",
            *_table([HEAD, *map(self._cells, self.passes), self._total()]),
            "",
            f"time    about {_time(self.seconds)} on this machine, as busy as it is now; a training epoch takes "
            f"{_time(self.epoch.seconds.wall)} and {_count(self.epoch.operations)} operations",
            f"memory  {self._said(self.peak_memory)} at its height, {self._where()}; "
            f"{self._said(self.baseline)} to begin with",
            *([self._chosen(self.chosen)] if self.chosen else []),
            f"disk    {self._said(self.disk_bytes)} when done: "
            + ", ".join(f"{name} {self._said(size)}" for name, size in self.disk.items()),
        ]
        if self.disk_peak > 1.01 * self.disk_bytes:
            lines.append(f"        {self._said(self.disk_peak)} while fitting, for partial sums")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text()

    def _filtered(self) -> list[str]:
        """What of the data is scored, where that is not all."""
        if self.filter is None or not self.queries:
            return []
        most = "at most" if self.scored < self.documents else "all"
        return [
            f"scored: {most} {self.scored:,} of {counted(self.documents, 'document')}, {self.filter.called} for each "
            f"question and {CONTROL} drawn at random, once all tokens are read to count words, which is not in "
            "the table",
            f"the filter {BIAS}",
        ]

    def _chosen(self, chosen: Chosen) -> str:
        groups, rank = len(chosen.groups), "" if not self.queries else f", {_asked(self.queries, self.rank)}"
        limit = self._said(chosen.limit.whole)
        layers = "all layers together" if groups == 1 else f"layers in {groups} groups, one after the other"
        files = "" if self.on_device else "; files that are read as they are used are not counted"
        return (
            f"        to stay within {limit}: batches of up to {chosen.batch_tokens:,} tokens, "
            f"{counted(self.units, 'work unit')}, {layers}{rank}{files}"
        )

    def _said(self, size: float) -> str:
        """A size, in units of the kind that the limit was given in."""
        return said(size, None if self.chosen is None else self.chosen.limit.asked)

    def _where(self) -> str:
        return "of the accelerator" if self.on_device else "the process and its model included"

    def _cells(self, one: Pass) -> tuple[str, ...]:
        return (
            one.name,
            f"{one.passes or '–'}",
            _count(one.tokens) if one.tokens else "–",
            _count(one.operations),
            f"{self.in_epochs(one):.2f}",
            _time(one.seconds.wall),
            self._said(one.memory),
        )

    def _total(self) -> tuple[str, ...]:
        """Passes, tokens and costs add up; memory is that of the pass that takes most."""
        return (
            "total",
            f"{sum(one.passes for one in self.passes)}",
            _count(sum(one.tokens for one in self.passes)),
            _count(self.operations),
            f"{self.epochs:.2f}",
            _time(self.seconds),
            self._said(max(one.memory for one in self.passes)),
        )

    def to_dict(self) -> dict[str, Any]:
        """For a machine; bytes, seconds and operations."""
        return {
            "documents": self.documents,
            "sequences": self.sequences,
            "windowed": self.windowed,
            "tokens": self.tokens,
            "padded": self.padded,
            "units": self.units,
            "queries": self.queries,
            "rank": self.rank,
            "filter": None if self.filter is None else str(self.filter),
            "scored": self.scored,
            "model_parameters": self.model_parameters,
            "coverage": {
                "share": self.coverage.share,
                "rows": [
                    {"kind": row.kind, "parameters": row.parameters, "tracked": row.tracked, "reason": row.reason}
                    for row in self.coverage.rows
                ],
            },
            "passes": [self._row(one) for one in self.passes],
            "epoch": self._row(self.epoch),
            "operations": self.operations,
            "seconds": self.seconds,
            "epochs": self.epochs,
            "memory": {"baseline": self.baseline, "peak": self.peak_memory, "on_device": self.on_device},
            "chosen": None
            if self.chosen is None
            else {
                "memory": self.chosen.limit.whole,
                "batch_tokens": self.chosen.batch_tokens,
                "units": self.units,
                "rank": self.chosen.rank,
                "groups": [list(group) for group in self.chosen.groups.names],
            },
            "disk": {**self.disk, "total": self.disk_bytes, "peak": self.disk_peak},
        }

    def _row(self, one: Pass) -> dict[str, Any]:
        return {
            "pass": one.name,
            "passes": one.passes,
            "sequences": one.sequences,
            "tokens": one.tokens,
            "operations": one.operations,
            "epochs": self.in_epochs(one),
            "seconds": one.seconds.wall,
            "cpu_seconds": one.seconds.cpu,
            "memory": one.memory,
        }


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for name, *cells in rows:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]).rstrip())
    return lines


def _asked(queries: int, rank: int | None) -> str:
    if not queries:
        return "no questions, so no further than the fit"
    cut = "full rank" if rank is None else f"rank {rank}"
    return f"{counted(queries, 'question')}, {cut}"


def _count(number: float) -> str:
    """Three digits and a power: 4.20 G."""
    for power, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= power:
            return f"{number / power:.3g} {letter}"
    return f"{number:.0f}"


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
