"""The two jobs on labelled examples, from settings to what a command prints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from whence.jobs.log import Log
from whence.jobs.out_of_range import said_of_loss
from whence.jobs.valuation.folder import Valuation
from whence.jobs.valuation.report import (
    suspect_rows,
    suspects_dict,
    values_dict,
    write_gallery,
    write_suspects,
    write_values,
)
from whence.jobs.valuation.settings import ValueSettings

RELATIVE = "relative: log of self-influence at the given label over that at the suggested one; leverage cancels"
"""What the column holds. Leverage is how unlike the others an input is, which raises both."""


@dataclass(frozen=True)
class Valued:
    """A finished valuation. Printing it computes nothing."""

    run: Valuation
    asked: Literal["values", "suspects"]

    def text(self) -> str:
        """The ends of the ranking, plain."""
        lines = _suspects(self.run) if self.asked == "suspects" else _values(self.run)
        return "\n".join([*lines, f"report: {self.report}"])

    def to_dict(self) -> dict[str, Any]:
        """The same for a machine."""
        found = suspects_dict(self.run) if self.asked == "suspects" else values_dict(self.run)
        return {**found, "warnings": self.run.warnings, "report": str(self.report)}

    @property
    def report(self) -> Path:
        return self.run.folder / ("suspects.html" if self.asked == "suspects" else "report.html")

    def __repr__(self) -> str:
        return f"Valued({str(self.run.folder)!r}, {self.asked})"


def values(folder: Path, settings: ValueSettings, *, log: Log | None = None) -> Valued:
    """Influence of training examples on a validation loss: tables, and a report.

    Raises:
        WhenceError: Of whatever kind, before the first long pass where it can be known by then.
    """
    run = Valuation(folder, settings, log or Log.silent())
    _ = run.valid  # what cannot be asked is refused before anything long begins
    run.refuse_unsolvable()
    return _finished(run, "values")


def label_suspects(folder: Path, settings: ValueSettings, *, log: Log | None = None) -> Valued:
    """Training labels ranked by self-influence, with what the model would say: tables, and a report."""
    return _finished(Valuation(folder, settings, log or Log.silent()), "suspects")


def _finished(run: Valuation, asked: Literal["values", "suspects"]) -> Valued:
    run.open()
    if asked == "values":
        write_values(run)
    else:
        write_suspects(run)
    write_gallery(run, labels=asked == "suspects")
    run.keep_settings()
    return Valued(run, asked)


def _values(run: Valuation) -> list[str]:
    lines = []
    for query in values_dict(run)["queries"]:
        lines.append(f"{query['question']}: loss {query['loss']:.4g}   (nats per copy; + lowers it)")
        for name in ("helpful", "harmful"):
            rows = [f"  {row['per_copy']:>+12.4g}  {row['given']:<12}  {row['place']}" for row in query[name]]
            lines += [f"  {name}", *rows] if rows else []
        if count := query["out_of_range"]:
            lines.append(f"  {said_of_loss(count, query['loss'])}")
    return lines + [str(one) for one in run.values.solved]


def _suspects(run: Valuation) -> list[str]:
    rows = suspect_rows(run, run.settings.top)
    width = max(5, *(len(row["given"]) for row in rows))
    other = max(9, *(len(row["suggested"]) for row in rows))
    classes = bool(run.train.classes)
    lines = [
        f"{run.folder}: labels to look at, of {len(run.suspects):,}",
        f"  {'self-influence':>14}{'relative':>10}  {'given':<{width}}  {'suggested':<{other}}"
        if classes
        else f"  {'self-influence':>14}  {'given':<{width}}  {'predicted':<{other}}",
    ]
    for row in rows:
        relative = f"{row['relative']:>+10.3g}" if classes else ""
        lines.append(
            f"  {row['self_influence']:>14.4g}{relative}  {row['given']:<{width}}  {row['suggested']:<{other}}  "
            f"{row['place']}"
        )
    return [*lines, f"  {RELATIVE}"] if classes else lines
