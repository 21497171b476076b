"""The whole job from Python: ``whence.run``, and ``whence.open`` for a run made earlier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from whence.data.queries import Query
from whence.jobs.log import Log
from whence.jobs.opened import Run
from whence.jobs.run import run as run_job
from whence.jobs.settings import RunSettings


def run(folder: Path | str, *, query: str | Query | Sequence[Query] | None = None, **settings: Any) -> Run:
    """Prepare, fit, query, score and report, in ``folder``; the same call continues an interrupted run.

    Args:
        query: A file of questions, or questions made with `whence.ask`.
        settings: The fields of `RunSettings`: ``model`` and ``train`` at the least.

    Raises:
        WhenceError: Of whatever kind, before the first long pass where it can be known by then.
    """
    questions: Sequence[Query] | None = None
    if isinstance(query, Query):
        questions = [query]
    elif isinstance(query, str):
        settings = {"query": query, **settings}
    elif query is not None:
        questions = list(query)
    chosen = RunSettings.build({}, settings, source="whence.run")
    with Log.stderr() as log:
        run_job(folder, chosen, log=log, questions=questions)
    return Run.open(folder)


def open(folder: Path | str) -> Run:  # noqa: A001
    """A run made earlier, by a command or from Python, with its newest questions.

    Neither the model nor the training text need be there any more, but for what must be computed anew: tokens and
    layers of a document that the report does not show.

    Raises:
        ArtifactError: If the folder is not a run, or nothing was asked of it yet.
    """
    return Run.open(folder)
