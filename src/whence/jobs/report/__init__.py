"""From scores to the page a person reads: winners explained, joined to their text, rendered as one file.

corpus       what is asked of all documents: lengths, copies, groups, a search, self-influence
question     both ends of one ranking, explained; the shape of the whole
planted      documents known to hold the answers, and how often they were found (the demo)
data         everything the report says, put together
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from whence.artifacts.atomic import write_text
from whence.jobs.report.data import report_data
from whence.report.html import render

if TYPE_CHECKING:
    from whence.jobs.opened import Run


def write_report(run: Run) -> Path:
    """Explain the top documents of every question and write ``report.html``."""
    write_text(run.report, render(report_data(run)))
    return run.report


__all__ = ["report_data", "write_report"]
