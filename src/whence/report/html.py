"""From report data to one HTML file.

The file is whole: its style and its two scripts are inlined and named by digest in a content-security policy, and
nothing else may run, load or be sent. Text that came from outside meets the page in two ways only: escaped by the
template, after `pieces.visible` has made controls and direction overrides inert; and compressed in base64 (`pages`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import datetime
from functools import cache
from html import unescape
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from whence.report import excerpt, numbers
from whence.report.detail import LEVELS
from whence.report.excerpt import Row, Run
from whence.report.model import Question, ReportData
from whence.report.pages import Pages, check, documents, pages
from whence.report.pieces import visible

STYLES = (
    "base.css",
    "report.css",
    "question.css",
    "document.css",
    "figures.css",
    "trust.css",
    "checked.css",
    "narrow.css",
    "print.css",
)
SCRIPTS = (
    "numbers.js",
    "pages.js",
    "tip.js",
    "text.js",
    "heat.js",
    "figures.js",
    "shape.js",
    "groups.js",
    "document.js",
    "list.js",
    "answer.js",
    "ticks.js",
    "report.js",
)
"""Joined into one script in this order, inside one function."""
EARLY = 'document.documentElement.classList.add("js")'
"""Runs before the first paint, so that what is only for readers without scripts never flashes."""

PLAIN_ROWS = 280
"""Documents in the whole report that readers without scripts are shown; at least `FEWEST` at each end of a ranking."""
FEWEST = 2


_DIGEST = r"&#39;sha256-[A-Za-z0-9+/]{43}=&#39;"
_POLICY = re.compile(
    'http-equiv="Content-Security-Policy" content="('
    f"default-src &#39;none&#39;; style-src {_DIGEST}; script-src (?:{_DIGEST} ?)*; img-src data:; "
    'base-uri &#39;none&#39;; form-action &#39;none&#39;; connect-src &#39;none&#39;)"'
)


class View:
    """One question as the template draws it."""

    def __init__(self, question: Question, number: int, packed: Pages, most: int) -> None:
        self.question = question
        self.number = number
        self.anchor = f"q{number}"
        self.runs: list[Run] = excerpt.question_runs(question)
        self.raises: list[Row] = excerpt.rows(question, question.raises, most)
        self.lowers: list[Row] = excerpt.rows(question, question.lowers, most)
        self.scored = sum(question.scored)
        self.pages = packed
        found = [rank for rank, doc in enumerate(question.raises, start=1) if doc.document == question.planted]
        self.found: int | None = found[0] if found else None


def render(data: ReportData) -> str:
    """One offline HTML file.

    Raises:
        ValueError: A document's parts do not fit its tokens or layers; the message names them.
    """
    for question in data.questions:
        for doc in documents(question):
            check(question, doc)
    style = "".join(read_asset(name) for name in STYLES)
    script = '"use strict";\n(() => {\n' + "".join(read_asset(name) for name in SCRIPTS) + "})();\n"
    packed, detail = pages(data.questions)
    most = max(FEWEST, PLAIN_ROWS // (2 * max(1, len(packed))))
    numbered = enumerate(zip(data.questions, packed, strict=True), start=1)
    views = [View(question, number, own, most) for number, (question, own) in numbered]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            views=views,
            held="" if detail == LEVELS[0] else str(detail),
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


def policy_of(report: bytes) -> str:
    """The policy to serve a report under: its own, in a sandbox of its own origin.

    What does not state a policy that `policy` could have made runs no script at all.
    """
    found = _POLICY.search(report[:4096].decode("utf-8", "replace"))
    stated = "default-src 'none'; style-src 'unsafe-inline'; img-src data:" if found is None else unescape(found[1])
    return f"{stated}; frame-ancestors 'none'; sandbox allow-scripts allow-downloads"


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def read_asset(name: str) -> str:
    """A style sheet or script of the templates."""
    text = files("whence.report").joinpath("templates", name).read_text(encoding="utf-8")
    return text.replace("\r\n", "\n")  # browsers do so before they take the digest


@cache
def environment() -> Environment:
    """What every page is drawn with: text is made inert and escaped."""
    made = Environment(
        loader=PackageLoader("whence.report", "templates"),
        autoescape=True,
        finalize=_inert,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "level": lambda value, top: numbers.level_class(numbers.level(value, top)),
        "signed": numbers.signed,
        "plain": numbers.plain,
        "short": numbers.short,
        "percent": numbers.percent,
        "count": numbers.count,
    }
    return made


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
