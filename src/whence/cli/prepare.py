"""``whence prepare``."""

from __future__ import annotations

from whence.cli import flags
from whence.cli.output import progress, show


def prepare(
    run: flags.Run,
    /,
    *,
    model: flags.Model = None,
    adapter: flags.Adapter = None,
    train: flags.Train = None,
    column: flags.Column = None,
    pack: flags.Pack = None,
    limit: flags.Limit = None,
    settings: flags.Settings = None,
    json: flags.Json = False,
) -> None:
    """Read the training text into RUN/data: documents, tokens and work units.

    The text is read once; documents longer than the context become several
    sequences whose scores add up to the document's. Every later stage works on
    the units fixed here.

    Example:
      whence prepare runs/toy --model models/toy --train 'corpus/*.jsonl.gz'
    """
    folder, chosen = flags.gather(
        run, settings, model=model, adapter=adapter, train=train, column=column, pack=pack, limit=limit
    )
    from whence.jobs.run import run as job

    with progress() as log:
        result = job(folder, chosen, log=log, stop_after="prepare")
    show(result, as_json=json)
