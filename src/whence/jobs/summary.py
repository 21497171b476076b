"""A run's result in plain lines: what a command prints when it has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

from whence.counted import counted
from whence.data.queries import Query
from whence.data.rows import short_name
from whence.jobs.filter_setting import BIAS, NONE, FilterSetting
from whence.jobs.out_of_range import out_of_range, said_of_answer
from whence.report.pieces import visible

WIDE, BEGINS = 100, 24
"""Columns of a line that names a document, and those that its text has at the least."""

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from whence.jobs.opened import Answers, Run


def summary(run: Run) -> str:
    """The end of the stage that was asked for."""
    if run.waiting is not None:
        return f"{run.folder}: {run.waiting} waits for units computed elsewhere"
    store = run.store
    if run.stage == "prepare":
        tokens = sum(unit.tokens for unit in store.units)
        counts = ((store.documents, "document"), (store.sequences, "sequence"), (tokens, "token"))
        return f"{run.folder}: {', '.join(counted(*one) for one in counts)}"
    if run.stage == "fit":
        curvature = run.session.curvature
        return "\n".join([f"{run.folder}: {curvature}", *curvature.notes])
    if run.stage == "query":
        return f"{run.folder}: {counted(len(run.questions), 'query')}, rank {run.session.queries.rank or 'full'}"
    if run.stage == "self":
        rows = run.suspects(run.settings.top)
        return "\n".join([f"{run.folder}: highest self-influence", *_lines(rows, "self_influence", "")])
    lines = [line for number, query in enumerate(run.questions) for line in _question(run, number, query)]
    lines += [str(one) for one in run.answers.solved]
    return "\n".join(lines + ([f"report: {run.report}"] if run.stage == "report" else []))


def _question(run: Run, number: int, query: Query) -> list[str]:
    """A question, and the documents that raise and lower its answer; one whose score is 0 does neither."""
    settings = run.settings
    label = "nats per copy" if settings.scale == "per_copy" else "raw"
    lines = [f"{in_words(query)}   ({label})"]
    raises = [row for row in run.top(settings.top, number) if row["raw"] > 0]
    lowers = [row for row in run.bottom(settings.top, number) if row["raw"] < 0]
    for end, rows in (("raise it", raises), ("lower it", lowers)):
        if rows:
            lines += [f"  {end}:", *_lines(rows, settings.scale, "+")]
    if count := beyond(run.answers, number, run.raw(number) / run.train_size):
        lines.append(f"  {said_of_answer(count, run.answers.measurement[number])}")
    return lines + [f"  {line}" for line in filter_lines(run.answers, number)]


def beyond(answers: Answers, number: int, per_copy: NDArray[np.float64]) -> int:
    """How many documents are predicted to make an answer more than certain: a difference of two has no such end."""
    if len(answers.questions[number].parts) > 1:
        return 0
    return out_of_range(per_copy, answers.measurement[number])


def filter_lines(answers: Answers, number: int) -> list[str]:
    """Of one question: what a filter left out, and an estimate of what it lost; nothing where there was none."""
    setting = FilterSetting.parse(answers.filter or NONE)
    if setting is None:
        return []
    recall = answers.recall[number]
    of = f"{recall.kept:,} of {counted(recall.kept + recall.left_out, 'document')} scored, {setting.called}"
    return [f"{of}: the filter {BIAS}", str(recall)]


def _lines(rows: Sequence[Mapping[str, Any]], column: str, sign: str) -> list[str]:
    """A document a line, cut at `WIDE` columns: what it is, where it lies, how it begins."""
    places = [place(row) for row in rows]
    across = max(map(cell_len, places), default=0)
    lines = []
    for row, where in zip(rows, places, strict=True):
        line = f"  {row[column]:>{sign}12.4g}  {set_cell_size(where, across)}  "
        begins = " ".join(visible(row["text"]).split())
        room = max(BEGINS, WIDE - cell_len(line))
        lines.append(line + (begins if cell_len(begins) <= room else f"{set_cell_size(begins, room - 1).rstrip()}…"))
    return [line.rstrip() for line in lines]


def place(row: Mapping[str, Any]) -> str:
    """Where a document lies, without its folder: ``train.jsonl, line 12``."""
    return short_name(str(row["source"]), int(row["row"]))


def in_words(query: Query) -> str:
    """A question in a line."""
    than = "" if query.rather_than is None else f" rather than {short(query.rather_than)}"
    return f"{short(query.prompt)} → {short(query.completion)}{than}"


def short(text: str) -> str:
    """A text in a line of at most 60 characters: its end, which is what an answer continues."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"…{line[-59:]}"
