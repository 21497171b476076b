"""How a job says what it is doing: to a person while it runs, and to a file for afterwards.

    on a terminal      progress bars (rich, imported when first drawn), notes above them
    elsewhere          plain lines: when a step begins, now and then, when it ends
    in a run's folder  events.jsonl: one JSON object a line, with the time of day and the seconds since the start

All of it goes to stderr; stdout belongs to results. Jobs take a ``Log`` and never print. The default is
`Log.silent`, so that a library call says nothing unless asked to.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.progress import Progress

NAME = "events.jsonl"
SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_EVENTS = 1.0


@dataclass
class _Step:
    """One counted piece of work: when it began, and when it was last heard of."""

    began: float
    first: int
    printed: float = 0.0
    recorded: float = 0.0
    bar: Any = None
    finished: bool = False


@dataclass
class Log:
    """Steps, notes and events of a job. Use it as a context manager, so that progress bars are put away.

    Args:
        stream: Where a person reads; None says nothing.
        folder: The run's folder, for ``events.jsonl``; see `keep`.

    Example:
        >>> log = Log.silent()
        >>> for done in range(3):
        ...     log.step("score", done + 1, 3, tokens=512 * (done + 1))
    """

    stream: IO[str] | None = None
    folder: Path | None = None
    _steps: dict[str, _Step] = field(default_factory=dict, repr=False)
    _waiting: list[str] = field(default_factory=list, repr=False)
    _progress: Progress | None = field(default=None, repr=False)
    _start: float = field(default_factory=time.monotonic, repr=False)

    @classmethod
    def silent(cls) -> Log:
        """A log that tells nobody (and still keeps events, given a folder)."""
        return cls(stream=None)

    @classmethod
    def stderr(cls) -> Log:
        """A log for a person at a terminal, or for the log file of a batch system."""
        return cls(stream=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def keep(self, folder: Path | str) -> None:
        """From now on, and for what was said before, events go to ``folder/events.jsonl``, after what is there.

        Called by a job once the folder is known to be its own: nothing is ever written into another run's.
        """
        self.folder = Path(folder)
        self._write()

    def step(self, name: str, done: int, total: int, **facts: Any) -> None:
        """Progress of a counted step. Begins with the first call and ends when ``done`` reaches ``total``.

        Args:
            name: What is being done, as a person would say it: "fit: moments".
            facts: Numbers worth seeing beside the bar: tokens, seconds, loss.
        """
        now = time.monotonic()
        step = self._steps.get(name)
        if step is None or (step.finished and done < total):
            step = self._steps[name] = _Step(began=now, first=done)
        last, begun = done >= total, step.recorded > 0
        if step.finished and last:
            return
        if last or not begun or now - step.recorded >= SECONDS_BETWEEN_EVENTS:
            step.recorded = now
            self.event("step", name=name, done=done, total=total, took=round(now - step.began, 3), **facts)
        if self.stream is not None:
            if self.stream.isatty():
                self._draw(step, name, done, total, facts)
            elif last or not begun or now - step.printed >= SECONDS_BETWEEN_LINES:
                step.printed = now
                self._line(_sentence(step, name, done, total, facts, now))
        step.finished = last

    def note(self, text: str) -> None:
        """A line for the person: a finding, a warning, where something was written."""
        self.event("note", text=text)
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif self.stream is not None:
            self._line(text)

    def event(self, kind: str, **facts: Any) -> None:
        """A line for the file alone: ``{"time", "seconds", "kind", …facts}``."""
        record: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        record |= {"seconds": round(time.monotonic() - self._start, 3), "kind": kind} | facts
        self._waiting.append(json.dumps(record, ensure_ascii=False, default=str))
        self._write()

    def close(self) -> None:
        """Put the progress bars away. The log can still be used."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            for step in self._steps.values():
                step.bar = None

    def _write(self) -> None:
        if self.folder is None or not self._waiting:
            return
        try:
            with (self.folder / NAME).open("a", encoding="utf-8") as file:
                file.write("\n".join(self._waiting) + "\n")
        except OSError:
            return  # a full disk stops the job where results are written, which can say what was kept; not here
        self._waiting.clear()

    def _line(self, text: str) -> None:
        assert self.stream is not None
        print(text, file=self.stream, flush=True)

    def _draw(self, step: _Step, name: str, done: int, total: int, facts: Mapping[str, Any]) -> None:
        if self._progress is None:
            from rich import progress
            from rich.console import Console

            self._progress = progress.Progress(
                progress.TextColumn("{task.description:<24}", markup=False),
                progress.BarColumn(bar_width=24),
                progress.MofNCompleteColumn(),
                progress.TimeElapsedColumn(),
                progress.TimeRemainingColumn(),
                progress.TextColumn("{task.fields[facts]}", markup=False),
                console=Console(file=self.stream),
            )
            self._progress.start()
        if step.bar is None:
            step.bar = self._progress.add_task(name, total=total, completed=done, facts="")
        self._progress.update(step.bar, completed=done, total=total, facts=_facts(facts))


def _sentence(step: _Step, name: str, done: int, total: int, facts: Mapping[str, Any], now: float) -> str:
    took = now - step.began
    words = [f"{name}: {done:,} of {total:,}"]
    if done >= total:
        words.append(f"in {duration(took)}")
    elif done > step.first and took > 0:
        words.append(f"{duration(took * (total - done) / (done - step.first))} left")
    if facts:
        words.append(_facts(facts))
    return ", ".join(words)


def _facts(facts: Mapping[str, Any]) -> str:
    def show(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)

    return ", ".join(f"{name.replace('_', ' ')} {show(value)}" for name, value in facts.items())


def duration(seconds: float) -> str:
    """Seconds as a person would say them.

    Example:
        >>> duration(0.34), duration(75), duration(7320)
        ('0.3 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
