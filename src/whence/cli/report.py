"""``whence report``."""

from __future__ import annotations

import webbrowser
from typing import Annotated

from cyclopts import Parameter

from whence.cli import flags
from whence.cli.output import progress, show


def report(
    run: flags.Run,
    /,
    *,
    top: flags.Top = None,
    open: Annotated[bool, Parameter(help="Open it in a browser", show_default=False, negative=())] = False,  # noqa: A002
    json: flags.Json = False,
) -> None:
    """Write RUN/report.html, one file that needs no network, from a run's scores.

    Example:
      whence report runs/toy --open
    """
    folder, chosen = flags.gather(run, None, top=top)
    from whence.jobs.run import run as job

    with progress() as log:
        result = job(folder, chosen, log=log, stop_after="report")
    show(result, as_json=json)
    if open:
        webbrowser.open((folder / "report.html").resolve().as_uri())
