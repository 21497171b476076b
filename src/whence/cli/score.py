"""``whence score``."""

from __future__ import annotations

from whence.cli import flags
from whence.cli.output import progress, show


def score(
    run: flags.Run,
    /,
    *,
    query: flags.Query = None,
    ask: flags.Ask = None,
    answer: flags.Answer = None,
    rather_than: flags.RatherThan = None,
    solver: flags.Solver = None,
    damping: flags.Damping = None,
    rank: flags.Rank = None,
    by: flags.By = None,
    filter: flags.Filter = None,  # noqa: A002
    top: flags.Top = None,
    units: flags.Units = None,
    settings: flags.Settings = None,
    json: flags.Json = False,
) -> None:
    """Rank training documents by their influence on each question.

    A positive score means that training more on the document would make the
    answer more likely. Questions are preconditioned first; the training set is
    then read once. An interrupted run continues when given the same RUN.

    Examples:
      whence score runs/toy --query questions.jsonl --by layer
      whence score runs/toy --query questions.jsonl --filter tfidf:10000
      whence score runs/toy --ask "Who wrote it?" --answer " Ada." --rather-than " Bob."
    """
    folder, chosen = flags.gather(
        run,
        settings,
        query=query,
        ask=ask,
        answer=answer,
        rather_than=rather_than,
        solver=solver,
        damping=damping,
        rank=rank,
        by=by,
        filter=filter,
        top=top,
    )
    from whence.jobs.run import run as job

    with progress() as log:
        result = job(folder, chosen, log=log, stop_after="score", units=units)
    show(result, as_json=json)
