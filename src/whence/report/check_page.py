"""A check of the scores as a page of its own, for whoever just ran it."""

from __future__ import annotations

from markupsafe import Markup

from whence.report.checked import Validation
from whence.report.html import environment, policy, read_asset

STYLES = ("base.css", "report.css", "figures.css", "trust.css", "checked.css", "narrow.css", "print.css")


def render_check(validation: Validation, *, title: str) -> str:
    """One offline HTML file, without scripts."""
    style = "".join(read_asset(name) for name in STYLES)
    page = environment().get_template("check.html.j2")
    return page.render(one=validation, title=title, style=Markup(style), policy=policy(style, []))
