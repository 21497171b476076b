"""What each address shows.

    /                               every run of the folder
    /run/KEY/                       one run: its stages, the job at work on it, its questions
    /run/KEY/progress               of that page, the part that changes
    /run/KEY/documents              its documents, searched, chosen and sorted
    /run/KEY/document/N             one of them, and the questions it moves
    /run/KEY/question/N             one question, and all documents ranked by it
    /run/KEY/report.html            the report that the run wrote

An address is matched against these whole, and names a run by its key and all else by numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from whence.errors import WhenceError
from whence.jobs.opened import Answers
from whence.jobs.serve import pages
from whence.jobs.serve.explored import Explored, Shelf
from whence.jobs.serve.gate import POLICY, Asked, Gate, Refused
from whence.jobs.serve.listed import only
from whence.jobs.serve.listing import Found, is_run, line_of, runs_below
from whence.jobs.serve.progress import progress_of
from whence.report.explorer import ASSETS, asset, page
from whence.report.html import policy_of

HTML = "text/html; charset=utf-8"
MOST_REPORT = 64 * 2**20
"""Bytes of a report: ours stay under a tenth of it."""


@dataclass(frozen=True)
class Reply:
    """What is sent back."""

    body: bytes
    status: int = 200
    kind: str = HTML
    policy: str = POLICY
    location: str = ""
    """Where to go instead."""


@dataclass(frozen=True)
class Visit:
    """One request about one run."""

    site: Site
    found: Found
    values: Mapping[str, str]

    @property
    def base(self) -> str:
        return f"{self.site.gate.base}/run/{self.found.key}"

    def explored(self) -> Explored:
        return self.site.shelf.take(self.found.folder)

    def answers(self, explored: Explored) -> Answers | None:
        """The questions that the address means."""
        return explored.asked(self.values.get("answers"))

    def to(self, path: str, *more: Mapping[str, Any], **values: Any) -> str:
        """An address of this run, with the questions that this one means; later values win, and None leaves one out."""
        every: dict[str, Any] = {"answers": self.values.get("answers")}
        for some in (*more, values):
            every |= some
        query = urlencode({name: value for name, value in every.items() if value not in (None, "")})
        return f"{self.base}/{path}" + (f"?{query}" if query else "")

    def show(self, template: str, **context: Any) -> Reply:
        every = {"visit": self, "run": self.found, "to": self.to, "home": f"{self.site.gate.base}/"}
        return Reply(page(template, base=self.site.gate.base, **every, **context).encode())


class Site:
    """Everything below one folder, as pages."""

    def __init__(self, folder: Path, gate: Gate) -> None:
        self.folder, self.gate = folder, gate
        self.shelf = Shelf()
        self._known: dict[str, Found] = {}
        routes: dict[str, Callable[..., Reply]] = {
            r"": self._home,
            f"({'|'.join(map(re.escape, ASSETS))})": self._asset,
            r"run/([0-9a-f]{12})/": self._run,
            r"run/([0-9a-f]{12})/progress": self._progress,
            r"run/([0-9a-f]{12})/documents": self._documents,
            r"run/([0-9a-f]{12})/document/([0-9]{1,10})": self._document,
            r"run/([0-9a-f]{12})/question/([0-9]{1,10})": self._question,
            r"run/([0-9a-f]{12})/(report\.html|suspects\.html)": self._report,
        }
        self._routes = [(re.compile(pattern, re.ASCII), answer) for pattern, answer in routes.items()]

    def reply(self, asked: Asked) -> Reply:
        """The page at an address; what is wrong with it is a page too."""
        try:
            for pattern, answer in self._routes:
                match = pattern.fullmatch(asked.path)
                if match is not None:
                    return answer(asked.values, *match.groups())
            raise Refused(404, "There is nothing at this address.")
        except Refused as refused:
            return self._problem(asked, refused.status, refused.why)
        except WhenceError as error:
            return self._problem(asked, 500, error.message, error.hint)

    def _problem(self, asked: Asked, status: int, message: str, hint: str | None = None) -> Reply:
        """A page that says what is wrong, and leads back to the run where there is one."""
        key = asked.path.removeprefix("run/").partition("/")[0]
        context = {"message": message, "hint": hint, "known": self._known.get(key)}
        text = page("problem.html.j2", base=self.gate.base, home=f"{self.gate.base}/", **context)
        return Reply(text.encode(), status)

    def _visit(self, values: Mapping[str, str], key: str) -> Visit:
        if key not in self._known or not is_run(self._known[key].folder):
            self._look()
        if key not in self._known:
            raise Refused(404, "This run is not in the folder (any more).")
        return Visit(self, self._known[key], values)

    def _look(self) -> list[Found]:
        """The runs that are there now."""
        found = runs_below(self.folder)
        self._known = {one.key: one for one in found}
        return found

    def _home(self, values: Mapping[str, str]) -> Reply:
        only(values, set())
        lines = [line_of(found) for found in self._look()]
        text = page(
            "runs.html.j2", base=self.gate.base, home=f"{self.gate.base}/", lines=lines, folder=str(self.folder)
        )
        return Reply(text.encode())

    def _asset(self, values: Mapping[str, str], name: str) -> Reply:
        only(values, set())
        return Reply(asset(name).encode(), kind=ASSETS[name])

    def _run(self, values: Mapping[str, str], key: str) -> Reply:
        only(values, {"answers", "page"})
        visit = self._visit(values, key)
        line = line_of(visit.found)
        if not line.model:  # broken, young, or no run over documents: there is nothing to open
            return visit.show("run.html.j2", line=line, **pages.unopened(line))
        explored = visit.explored()
        with explored.lock:
            return visit.show("run.html.j2", line=line, **pages.run(explored, visit.answers(explored), values))

    def _progress(self, values: Mapping[str, str], key: str) -> Reply:
        only(values, set())
        visit = self._visit(values, key)
        return visit.show("progress.html.j2", progress=progress_of(visit.found.folder))

    def _documents(self, values: Mapping[str, str], key: str) -> Reply:
        visit = self._visit(values, key)
        explored = visit.explored()
        with explored.lock:
            return visit.show("documents.html.j2", **pages.documents(explored, visit.answers(explored), values))

    def _question(self, values: Mapping[str, str], key: str, number: str) -> Reply:
        visit = self._visit(values, key)
        explored = visit.explored()
        with explored.lock:
            answers = visit.answers(explored)
            if answers is None or int(number) >= len(answers.questions):
                raise Refused(404, "There is no such question.")
            return visit.show("question.html.j2", **pages.question(explored, answers, int(number), values))

    def _document(self, values: Mapping[str, str], key: str, number: str) -> Reply:
        visit = self._visit(values, key)
        explored = visit.explored()
        with explored.lock:
            if int(number) >= explored.store.documents:
                raise Refused(404, "There is no such document.")
            answers = visit.answers(explored)
            return visit.show("document.html.j2", **pages.document(explored, answers, int(number), values))

    def _report(self, values: Mapping[str, str], key: str, name: str) -> Reply:
        only(values, set())
        path = self._visit(values, key).found.report(name)
        if path is None:
            raise Refused(404, "This run has no such report.")
        if path.stat().st_size > MOST_REPORT:
            raise Refused(404, "This report is too large to be one of ours.")
        body = path.read_bytes()
        return Reply(body, policy=policy_of(body))
