"""A stopwatch for a shared machine: CPU seconds, interleaved repetitions, medians; and peak memory.

Passes are compared within a repetition: pass after pass, then all over again, so that a slow minute of the
machine falls on all of them. A ratio is the median over repetitions of (seconds of the pass / seconds of FB
in the same repetition).

A pass costs a + b·sequences: queries are solved and factors decomposed once, the data is read in proportion. So the
peers' are timed over little data and over more, and both pass and FB drawn out to the full size, at a third of the
time. Ours are timed there.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

Pass = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Clock:
    """One timed call."""

    cpu: float
    """CPU seconds of this process, all its threads: what waiting for a core does not lengthen."""
    wall: float


@dataclass(slots=True)
class Suite:
    """The passes of one piece of software over one model.

    ``unit`` is what the passes are told in: FB for most, so that a ratio means "epochs of training".
    """

    name: str
    version: str
    passes: dict[str, Pass]
    units: dict[str, Pass]
    unit_of: dict[str, str] = field(default_factory=dict)
    """Pass → its unit, where it is not ``FB``."""
    prepare: dict[str, Pass] = field(default_factory=dict)
    """Pass → what is done before it, outside the clock."""
    notes: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    constant: frozenset[str] = frozenset()
    """Passes that do not read the training data: timed over one size."""
    once: frozenset[str] = frozenset()
    """Slow passes of which the first repetition is enough."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One suite at two sizes of data, and the size it is told for."""

    few: Suite
    many: Suite
    sequences: tuple[int, int, int]
    repeats: int

    @classmethod
    def whole(cls, suite: Suite, sequences: int, repeats: int) -> Timed:
        """Timed at its full size, nothing drawn out."""
        return cls(suite, suite, (sequences, sequences, sequences), repeats)

    def drawn_out(self, few: Clock | None, many: Clock) -> Clock:
        """The line through two sizes, at the full one."""
        small, large, full = self.sequences
        if few is None:
            return many
        factor = (full - large) / (large - small)
        cpu, wall = (b + factor * (b - a) for a, b in ((few.cpu, many.cpu), (few.wall, many.wall)))
        return Clock(cpu, wall)


def clocked(run: Pass, prepare: Pass | None = None) -> Clock:
    """Run once, after what it needs."""
    if prepare is not None:
        prepare()
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Clock(time.process_time() - cpu, time.perf_counter() - wall)


def measure(subjects: list[Timed], say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Ratios of every pass of every suite, all in this process.

    Returns:
        suite → pass → ``{"ratio", "spread": [least, most], "repeats", "cpu", "wall", "unit"}``; seconds are medians.
    """
    runs: dict[tuple[str, str], list[Clock]] = {}
    for repeat in range(max(subject.repeats for subject in subjects)):
        for subject in subjects:
            if repeat >= subject.repeats:
                continue
            for name in (*subject.many.units, *subject.many.passes):
                if repeat and name in subject.many.once:
                    continue
                clock = _clock(subject, name)
                runs.setdefault((subject.many.name, name), []).append(clock)
                say(f"{repeat + 1} of {subject.repeats}: {subject.many.name} {name} {clock.cpu:.2f} s")
    return {
        subject.many.name: {
            name: _row(subject.many, name, runs) for name in (*subject.many.units, *subject.many.passes)
        }
        for subject in subjects
    }


def _clock(subject: Timed, name: str) -> Clock:
    """One pass in one repetition."""
    many = subject.many
    one_size = subject.few is many or name in many.constant
    few = None if one_size else _timed(subject.few, name)
    return subject.drawn_out(few, _timed(many, name))


def _timed(suite: Suite, name: str) -> Clock:
    return clocked({**suite.units, **suite.passes}[name], suite.prepare.get(name))


def warm_up(suite: Suite) -> None:
    """Every pass once, over little data: code is compiled and buffers are there when the clock starts."""
    for name in (*suite.units, *suite.passes):
        _timed(suite, name)


def _row(suite: Suite, name: str, runs: Mapping[tuple[str, str], list[Clock]]) -> dict[str, Any]:
    mine = runs[suite.name, name]
    unit = suite.unit_of.get(name, "FB")
    ratios = [clock.cpu / one.cpu for clock, one in zip(mine, runs[suite.name, unit], strict=False)]
    return {
        "ratio": statistics.median(ratios),
        "spread": [min(ratios), max(ratios)],
        "repeats": len(ratios),
        "cpu": statistics.median(clock.cpu for clock in mine),
        "wall": statistics.median(clock.wall for clock in mine),
        "unit": unit,
    }


def trim() -> None:
    """Hand freed memory back to the system."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def resident_mb() -> float:
    """Resident memory of this process, in MB (10⁶ bytes)."""
    return _status("VmRSS") / 1e6


def peak_mb(run: Pass) -> float:
    """How far resident memory rises above where it stood before, in MB: the kernel's high-water mark, reset.

    Run with `probe.RETURNING` in the environment, or what the allocator keeps hides what a pass takes.
    """
    trim()
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_mb()
    run()
    return _status("VmHWM") / 1e6 - before


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def machine(threads: int) -> dict[str, Any]:
    """What the numbers were taken on."""
    cpu = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    return {
        "processor": cpu,
        "cores": os.cpu_count(),
        "threads": threads,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "load_at_start": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
    }


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and its processor seconds."""
    began = time.process_time()
    return call(), time.process_time() - began
