"""``whence export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from whence.cli import flags
from whence.cli.output import show

Out = Annotated[Path | None, Parameter(help="A table of all scores: .parquet, .csv or .jsonl", metavar="FILE")]
Into = Annotated[
    Path | None, Parameter(help="The training data with a score column, of the same kind as they are", metavar="FILE")
]
Question = Annotated[
    list[str] | None, Parameter(help="Only the question with this id; repeatable", metavar="ID", negative=())
]
Top = Annotated[
    int | None, Parameter(help="Of a table: only so many documents at either end, in their order", metavar="INT")
]
ScoreColumn = Annotated[
    str, Parameter(help="What to call the new column; NAME.ID for each of several questions", metavar="NAME")
]
Train = Annotated[str | None, Parameter(help="Where the training data lie now", metavar="SPEC")]
Overwrite = Annotated[bool, Parameter(help="Replace a file that is there already", show_default=False, negative=())]


def export(
    run: flags.Finished,
    /,
    *,
    out: Out = None,
    into: Into = None,
    question: Question = None,
    top: Top = None,
    score_column: ScoreColumn = "influence",
    train: Train = None,
    overwrite: Overwrite = False,
    json: flags.Json = False,
) -> None:
    """Write the scores of a run as a table, or the training data with a score column.

    A table has a row for each question and document: where it lies, its hash and
    every metadata column, its score (raw, and per_copy in nats), rank and
    percentile. In CSV, a text that a spreadsheet would run as a formula gets an
    apostrophe before it.

    With --into, the training data are read again and written with the score added:
    the same rows in the same order, every other field as it was. JSON lines, CSV and
    Parquet stay what they are; a saved dataset becomes a folder that
    `datasets.load_from_disk` opens. Data that have changed since are refused.

    Examples:
      whence export runs/toy --out scores.parquet
      whence export runs/toy --out ends.csv --question q1 --top 100
      whence export runs/toy --into scored.jsonl
    """
    from whence.jobs.export import export as job

    result = job(
        run,
        out=out,
        into=into,
        questions=question or [],
        top=top,
        column=score_column,
        train=train,
        overwrite=overwrite,
    )
    show(result, as_json=json)
