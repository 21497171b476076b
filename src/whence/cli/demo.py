"""``whence demo``."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from whence.cli.flags import Json
from whence.cli.output import progress, show


def demo(
    *,
    out: Annotated[Path, Parameter(help="Folder to work in", metavar="FOLDER")] = Path("runs/demo"),
    open: Annotated[bool, Parameter(help="Open the report in a browser", show_default=False, negative=())] = False,  # noqa: A002
    json: Json = False,
) -> None:
    """Ask a small model which training documents taught it its facts.

    The model, and the whole of the corpus that it was trained on, are in the
    package: stories, and planted facts whose documents are known. So the right
    reply to each question is known too, and is counted. Needs no network; takes
    a few minutes on two processor cores.

    Examples:
      whence demo
      whence demo --out /tmp/demo --open
    """
    from whence.jobs.demo import demo as job

    with progress() as log:
        result = job(out, log)
    show(result, as_json=json)
    if open:
        webbrowser.open((out / "report.html").resolve().as_uri())
