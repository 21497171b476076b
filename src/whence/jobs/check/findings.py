"""What checks found: rows of name, verdict, text and figure, kept in ``RUN/checks/check.json`` for the report.

    {"check": "check", "rows": [{"name", "verdict", "text", "figure", "advice"}, …]}

A verdict is ``ok``; ``note``, worth knowing; or ``wrong``: scores of a run would not mean what they say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from whence.artifacts.atomic import write_text
from whence.errors import ArtifactError, CheckFailed, WhenceError

Verdict = Literal["ok", "note", "wrong"]
FILE = "checks/check.json"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's row."""

    name: str
    verdict: Verdict
    text: str
    """What was found, as a sentence without a full stop."""
    figure: float | None = None
    """The number behind it, where there is one: a share, a count, a correlation, a relative difference."""
    advice: str | None = None
    """What to do, where something should be done."""

    def to_dict(self) -> dict[str, Any]:
        """JSON's types only: a figure that is no number is null."""
        figure = self.figure if self.figure is not None and math.isfinite(self.figure) else None
        return {**asdict(self), "figure": figure}


@dataclass(frozen=True)
class Checks:
    """All rows of one call."""

    rows: tuple[Finding, ...]
    written: Path | None = None
    """Where they were kept; None where no run of these settings was named."""

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """The rows that say that a run would be wrong."""
        return tuple(row for row in self.rows if row.verdict == "wrong")

    def refuse(self) -> None:
        """End with exit code 1 where a run would be wrong.

        Raises:
            CheckFailed: Naming the checks.
        """
        if self.wrong:
            names = ", ".join(row.name for row in self.wrong)
            raise CheckFailed(f"a run would be wrong: {names}", hint="the advice stands under each of them")

    def text(self) -> str:
        """For a person, plain: a line a check, and advice under it."""
        name, verdict = (max([len(word) for word in words], default=0) for words in zip(*self._heads(), strict=True))
        lines = []
        for row in self.rows:
            lines.append(f"{row.name:<{name}}  {row.verdict:<{verdict}}  {row.text}")
            if row.advice is not None:
                lines.append(f"{'':<{name + verdict + 4}}→ {row.advice}")
        return "\n".join([*lines, *([f"written: {self.written}"] if self.written is not None else [])])

    def _heads(self) -> list[tuple[str, str]]:
        return [(row.name, row.verdict) for row in self.rows] or [("", "")]

    def to_dict(self) -> dict[str, Any]:
        """For a machine: what the file holds."""
        return {"check": "check", "rows": [row.to_dict() for row in self.rows]}

    def write(self, run: Path) -> Path:
        """Keep the rows in a run's folder."""
        path = run / FILE
        write_text(path, json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return path


def read_checks(run: Path) -> Checks | None:
    """What was found for a run earlier, or None where nobody checked.

    Raises:
        ArtifactError: If the file is not one of ours.
    """
    path = run / FILE
    if not path.exists():
        return None
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        found = tuple(Finding(**row) for row in rows)
        assert all(row.verdict in get_args(Verdict) for row in found)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise ArtifactError(
            f"{path} is not the result of a check: {error!r}", hint="run `whence check` again"
        ) from None
    return Checks(found, path)


def guarded(name: str, find: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of a check; what a run would refuse is one of them, with its hint as advice."""
    try:
        return list(find())
    except WhenceError as error:
        return [Finding(name, "wrong", error.message.replace("\n", " "), advice=error.hint)]


def some(names: Iterable[str], most: int = 3) -> str:
    """A few of many names.

    Example:
        >>> some(["a", "b", "c", "d"])
        'a, b, c and 1 more'
    """
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most:,} more" if len(every) > most else "")
