"""``whence.run``: the command ``whence run``, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from whence.data.queries import Query
from whence.jobs.log import Log
from whence.jobs.run import Run
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
    if query is None or isinstance(query, str):
        given = settings if query is None else {"query": query, **settings}
        return run_job(folder, RunSettings.build({}, given, source="whence.run"), log=Log.stderr())
    questions = [query] if isinstance(query, Query) else list(query)
    return run_job(folder, RunSettings.build({}, settings, source="whence.run"), log=Log.stderr(), questions=questions)
