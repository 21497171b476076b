"""``whence check``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from whence.cli import flags
from whence.cli.output import progress, show

if TYPE_CHECKING:
    from whence.jobs.check import Checks

Rows = Annotated[int, Parameter(help="How many of the first rows the model is run on", metavar="INT")]
COLOURS = {"ok": "green", "note": "yellow", "wrong": "bold red"}


def check(
    run: flags.AnyRun = None,
    /,
    *,
    model: flags.Model = None,
    adapter: flags.Adapter = None,
    params: flags.Params = None,
    train: flags.Train = None,
    column: flags.Column = None,
    pack: flags.Pack = None,
    query: flags.Query = None,
    ask: flags.Ask = None,
    answer: flags.Answer = None,
    layers: flags.Layers = None,
    dtype: flags.Dtype = None,
    limit: flags.Limit = None,
    rows: Rows = 16,
    settings: flags.Settings = None,
    json: flags.Json = False,
) -> None:
    r"""Look for what would make a run wrong, on your own model and first rows.

    Takes seconds. Of the model: finite weights, layers left out or not seen whole,
    gradients that are those of the loss, an adapter that is truly on. Of the data:
    rows with nothing scored, copies, long documents, special tokens there twice. Of
    both together: whether scores depend on batch-mates, padding and the attention
    kernel, whether another number type would rank the rows otherwise, and whether
    completions are the tokens that the model was trained on, their end included.
    With --pack windows the model is run on windows; with segments on sequences alone,
    and together in the rows that they would share.

    Each check is ok, a note, or wrong; where one is wrong, what to do stands under
    it and the exit code is 1. Of a RUN the settings and the prepared data are taken,
    and what is found is kept in RUN/checks for its report.

    Examples:
      whence check --model models/toy --train train.jsonl
      whence check --model models/toy --adapter adapters/mine --train chats.jsonl
      whence check runs/toy --json
    """
    folder, chosen = flags.gather(
        run,
        settings,
        model=model,
        adapter=adapter,
        params=params,
        train=train,
        column=column,
        pack=pack,
        query=query,
        ask=ask,
        answer=answer,
        layers=layers,
        dtype=dtype,
        limit=limit,
    )
    from whence.jobs.check import check as job

    with progress() as log:
        result = job(folder if run is not None else None, chosen, rows=rows, log=log)
    if json or not sys.stdout.isatty():
        show(result, as_json=json)
    else:
        _table(result)
    result.refuse()


def _table(result: Checks) -> None:
    """The rows on a terminal: coloured by verdict, wrapped to its width. Names of files are text, never markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for head in ("check", "", "result"):
        table.add_column(head, overflow="fold")
    for row in result.rows:
        told = Text(row.text)
        if row.advice is not None:
            told.append(f"\n→ {row.advice}", style="bold" if row.verdict == "wrong" else "dim")
        table.add_row(Text(row.name), Text(row.verdict, style=COLOURS[row.verdict]), told)
    console = Console(file=sys.stdout, highlight=False)
    console.print(table)
    if result.written is not None:
        console.print(Text(f"written: {result.written}"))
