"""From report data to one HTML file.

The file is whole: its style and its two scripts are inlined and named by digest in a content-security policy, and
nothing else may run, load or be sent. Text that came from outside meets the page in two ways only: escaped by the
template, after `pieces.visible` has made controls and direction overrides inert; and compressed in base64 (`pages`).
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from whence.report import excerpt, numbers
from whence.report.charts import tail_chart
from whence.report.excerpt import Row, Run
from whence.report.model import Question, ReportData
from whence.report.pages import check, page
from whence.report.pieces import visible

STYLES = ("base.css", "report.css", "narrow.css")
SCRIPTS = ("numbers.js", "pages.js", "text.js", "heat.js", "report.js")
"""Joined into one script in this order, inside one function."""
EARLY = 'document.documentElement.classList.add("js")'
"""Runs before the first paint, so that what a script will fold away never flashes."""


class View:
    """One question as the template draws it."""

    def __init__(self, question: Question, number: int) -> None:
        for doc in (*question.raises, *question.lowers):
            check(question, doc)
        self.question = question
        self.number = number
        self.anchor = f"q{number}"
        self.runs: list[Run] = excerpt.question_runs(question)
        self.raises: list[Row] = excerpt.rows(question, "raises", question.raises, self.anchor)
        self.lowers: list[Row] = excerpt.rows(question, "lowers", question.lowers, self.anchor)
        self.scored = sum(question.scored)
        self.tail = tail_chart(question.tail, "Tail of positive influence")
        self.page = Markup(page(question))  # base64: none of its characters means anything to HTML
        found = [row.rank for row in self.raises if row.doc.document == question.planted]
        self.found: int | None = found[0] if found else None


def render(data: ReportData) -> str:
    """One offline HTML file.

    Raises:
        ValueError: A document's parts do not fit its tokens or layers; the message names them.
    """
    style = "".join(_asset(name) for name in STYLES)
    script = '"use strict";\n(() => {\n' + "".join(_asset(name) for name in SCRIPTS) + "})();\n"
    views = [View(question, number) for number, question in enumerate(data.questions, start=1)]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            views=views,
            style=Markup(style),
            script=Markup(script),
            early=Markup(EARLY),
            policy=policy(style, [EARLY, script]),
            created=_day(data.created),
            method=_flat(data.method),
            provenance=_flat(data.provenance),
        )
    )


def policy(style: str, scripts: list[str]) -> str:
    """A policy under which these run and are applied, and nothing else loads, runs or leaves."""
    allowed = " ".join(_digest(text) for text in scripts)
    return (
        f"default-src 'none'; style-src {_digest(style)}; script-src {allowed}; img-src data:; "
        "base-uri 'none'; form-action 'none'; connect-src 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _asset(name: str) -> str:
    text = files("whence.report").joinpath("templates", name).read_text(encoding="utf-8")
    return text.replace("\r\n", "\n")  # browsers do so before they take the digest


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("whence.report", "templates"),
        autoescape=True,
        finalize=_inert,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "signed": numbers.signed,
        "plain": numbers.plain,
        "percent": numbers.percent,
        "count": numbers.count,
    }
    return environment


def _day(created: str) -> str:
    """An ISO time as people write it; anything else as it is."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return created
    zone = moment.strftime(" %Z") if moment.tzinfo else ""
    return moment.strftime("%Y-%m-%d %H:%M") + zone


def _inert(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows of dotted names and text."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            rows += _flat(value, f"{name}.")
        elif isinstance(value, str):
            rows.append((name, value))
        else:
            rows.append((name, json.dumps(value, ensure_ascii=False, default=str)))
    return rows
