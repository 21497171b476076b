"""``whence serve``."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from whence.cli import flags
from whence.cli.output import show


def serve(
    folder: Annotated[Path, Parameter(help="A run, or a folder with runs in it or below", name="RUN")] = Path("runs"),
    /,
    *,
    port: Annotated[int, Parameter(help="Port on 127.0.0.1; 0 takes a free one", metavar="INT")] = 0,
    open: Annotated[bool, Parameter(help="Open it in a browser", show_default=False, negative=())] = False,  # noqa: A002
    json: flags.Json = False,
) -> None:
    """Look through the runs of a folder in a browser, on this machine alone.

    Every run with its questions; all of its documents, searched, chosen by their
    columns and sorted; any document with the questions it moves; any question with
    all documents ranked by it; a job that is at work, as it goes on. Reads what runs
    have written and changes nothing; needs neither the model nor a network. The
    printed address holds a random token, without which nothing is answered.

    Examples:
      whence serve
      whence serve runs/toy --port 8000
    """
    from whence.jobs.serve import explorer

    found = explorer(folder, port)
    show(found, as_json=json)
    sys.stdout.flush()  # a pipe would keep the address to itself
    if open:
        webbrowser.open(found.url)
    found.serve()
