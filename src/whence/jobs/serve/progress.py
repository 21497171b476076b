"""What a job that writes into a run's folder says of itself, read from the end of its ``events.jsonl``.

The file is all there is to go by, so that a job on another machine is followed as well as one here. A job is taken to
be at work while it has spoken lately: within seconds, or, in the middle of a counted step, within minutes, since a work
unit of a large model takes long.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from whence.jobs.log import NAME, duration

TAIL = 2**17
"""Bytes read of the file's end."""
SILENT, SILENT_IN_STEP = 15.0, 900.0
"""Seconds after which a job that says nothing is taken to have ended: between steps, and within one."""
MOST_STEPS, MOST_NOTES = 12, 8


@dataclass(frozen=True, slots=True)
class Step:
    """A counted piece of work, as it was last heard of."""

    name: str
    done: int
    total: int
    took: float
    """Seconds since it began."""
    left: str
    """How long it goes on at this pace, in words; empty where it has ended or nothing is known yet."""

    @property
    def percent(self) -> float:
        """How much of it is done."""
        return round(100 * min(1.0, self.done / self.total), 1) if self.total > 0 else 100.0

    @property
    def finished(self) -> bool:
        return self.done >= self.total

    @property
    def lasted(self) -> str:
        """How long it has taken, in words."""
        return duration(self.took)


@dataclass(frozen=True, slots=True)
class Progress:
    """The newest of what was said."""

    steps: tuple[Step, ...]
    """In the order in which they were last heard of."""
    notes: tuple[str, ...]
    silent: float
    """Seconds since the last word."""

    @property
    def working(self) -> bool:
        """Whether a job seems to be at work."""
        within = bool(self.steps) and not self.steps[-1].finished
        return self.silent < (SILENT_IN_STEP if within else SILENT)

    @property
    def heard(self) -> str:
        """How long ago the last word was, in words."""
        return duration(max(0.0, self.silent))


def progress_of(folder: Path) -> Progress | None:
    """What was said last in a run's folder; None where nothing was."""
    path = folder / NAME
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            lines = file.read().splitlines()[1 if size > TAIL else 0 :]
    except OSError:
        return None
    events = [event for line in lines if (event := _event(line)) is not None]
    if not events:
        return None
    return Progress(
        _steps(events),
        tuple(str(event.get("text", "")) for event in events if event["kind"] == "note")[-MOST_NOTES:],
        time.time() - _moment(events[-1], path),
    )


def _event(line: bytes) -> dict[str, Any] | None:
    """A line's event; None of one that is being written, or damaged."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("kind"), str) else None


def _steps(events: Sequence[dict[str, Any]]) -> tuple[Step, ...]:
    """The newest word of each step, and the pace since it was first heard of."""
    first: dict[str, tuple[int, float]] = {}
    newest: dict[str, Step] = {}
    for event in events:
        try:
            name, done, total, took = str(event["name"]), int(event["done"]), int(event["total"]), float(event["took"])
        except (KeyError, TypeError, ValueError):
            continue  # a note, or an event of a kind not known here
        begun, at = first.get(name, (done, took))
        if done <= begun or took < at:  # begun anew, by this job or by a later one
            begun, at = first[name] = done, took
        more = done - begun
        left = duration((took - at) * (total - done) / more) if more > 0 and done < total else ""
        newest.pop(name, None)
        newest[name] = Step(name, done, total, took, left)
    return tuple(newest.values())[-MOST_STEPS:]


def _moment(event: dict[str, Any], path: Path) -> float:
    """When an event was written: as it says, else when the file was."""
    try:
        return datetime.fromisoformat(str(event.get("time"))).timestamp()
    except (ValueError, OverflowError, OSError):
        return path.stat().st_mtime
