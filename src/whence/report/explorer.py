"""The pages of the local explorer: `whence serve`.

They share the report's style and its pieces. Unlike the report they are served, so style and script are files of
their own, nothing stands inline, and every page works without the script: forms ask by address, and what changes
while a job is at work is asked for again by the browser itself.
"""

from __future__ import annotations

from typing import Any

from whence.report.html import environment, read_asset

STYLES = ("base.css", "report.css", "question.css", "document.css", "trust.css", "narrow.css", "explorer.css")
ASSETS = {"style.css": "text/css; charset=utf-8", "explorer.js": "text/javascript; charset=utf-8"}
"""Files that the pages load, and what they are."""


def asset(name: str) -> str:
    """A file that the pages load: one of `ASSETS`."""
    return "".join(read_asset(part) for part in STYLES) if name == "style.css" else read_asset("explorer.js")


def page(template: str, **context: Any) -> str:
    """One page. Whatever of ``context`` is text is made inert and escaped."""
    return environment().get_template(f"explorer/{template}").render(**context)
