"""What the pages of a run say: from what was read to what the templates draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from whence.jobs.opened import Answers
from whence.jobs.out_of_range import said_of_answer
from whence.jobs.serve import document as of_document
from whence.jobs.serve.columns import copies_of
from whence.jobs.serve.explored import BY_INFLUENCE, Explored
from whence.jobs.serve.listed import Row, listed, only, row_of, wanted_of, whole
from whence.jobs.serve.listing import Line
from whence.jobs.serve.order import Slice, moved_by, scores_of, slice_of
from whence.jobs.serve.progress import progress_of
from whence.jobs.serve.question import Said, asked_of, said_of, shape_of
from whence.jobs.show.state import state_of
from whence.jobs.solved import METHODS
from whence.jobs.summary import beyond, filter_lines, place

Context = dict[str, Any]
Values = Mapping[str, str]
"""Parameters of an address."""

MOST_OFFERED = 200
"""Questions that a list of documents offers to be sorted by."""


def unopened(line: Line) -> Context:
    """A run of which there are no documents to look at, yet or at all."""
    nothing: Context = {"settings": None, "sets": [], "answers": None, "rows": None}
    young = line.state in ("working", "unfinished")
    return nothing | {"progress": line.progress, "stages": state_of(line.found.folder) if young else []}


def run(explored: Explored, answers: Answers | None, values: Values) -> Context:
    """A run: how far it is, and a page of its questions."""
    rows = None
    if answers is not None:
        some = slice_of(range(len(answers.questions)), whole(values, "page", 1, 10**9) or 1)
        rows = Slice(_best(explored, answers, some.items), some.number, some.total)
    return {
        "settings": explored.settings,
        "stages": state_of(explored.folder),
        "progress": progress_of(explored.folder),
        "sets": explored.answered,
        "answers": answers,
        "method": "" if answers is None else METHODS[answers.method],
        "rows": rows,
    }


def _best(explored: Explored, answers: Answers, questions: Sequence[int]) -> list[tuple[Said, float, Row | None]]:
    """Questions, their measurements, and the document that raises each most, if any does."""
    rows = []
    for question, per_copy in scores_of(answers, questions, explored.store):
        best = int(np.nanargmax(per_copy))
        row = row_of(explored, best, 1, (), float(per_copy[best])) if per_copy[best] > 0 else None
        rows.append((said_of(answers, question), answers.measurement[question], row))
    return rows


def documents(explored: Explored, answers: Answers | None, values: Values) -> Context:
    """All documents of a run, searched, chosen and sorted."""
    wanted = wanted_of(explored, values, "match")
    offered = range(0 if answers is None else min(MOST_OFFERED, len(answers.questions)))
    return {
        "list": listed(explored, answers, values, wanted),
        "answers": answers,
        "questions": [said_of(answers, number) for number in offered] if answers is not None else [],
        "by": said_of(answers, wanted.question) if answers is not None and wanted.sort in BY_INFLUENCE else None,
        "path": "documents",
        "all": explored.store.documents,
    }


def question(explored: Explored, answers: Answers, number: int, values: Values) -> Context:
    """A question, and the documents ranked by it."""
    wanted = wanted_of(explored, {**values, "by": str(number)}, "raises")
    ranking = explored.ranking(answers, number)
    count = beyond(answers, number, ranking.per_copy)
    return {
        "list": listed(explored, answers, values, wanted),
        "answers": answers,
        "asked": asked_of(answers, number),
        "shape": shape_of(ranking),
        "beyond": said_of_answer(count, answers.measurement[number]) if count else None,
        "filter": filter_lines(answers, number),
        "path": f"question/{number}",
        "number": number,
        "all": explored.store.documents,
    }


def document(explored: Explored, answers: Answers | None, number: int, values: Values) -> Context:
    """A document: its text against one question, and all questions that it moves."""
    only(values, {"answers", "question", "view", "part", "page", "end"})
    row = explored.store.row(number)
    moved = [] if answers is None else moved_by(answers, number, explored.store)
    top = max((abs(one.per_copy) for one in moved), default=0.0)
    focus = whole(values, "question", 0, 0 if answers is None else len(answers.questions) - 1)
    if focus is None and moved:
        focus = max(moved, key=lambda one: abs(one.per_copy)).question
    mine = next((one for one in moved if one.question == focus), None)
    kept = None if answers is None or mine is None else of_document.values_of(explored, answers, mine.question, number)
    ends = moved if values.get("end") != "lowers" else moved[::-1]
    some = slice_of(ends, whole(values, "page", 1, 10**9) or 1)
    parts = max(1, -(-int(row["tokens"]) // of_document.PART))
    part = whole(values, "part", 1, parts) or 1
    return {
        "number": number,
        "all": explored.store.documents,
        "where": place(row),
        "text": of_document.text_of(explored, number, part, kept, values.get("view")),
        "part": part,
        "parts": parts,
        "views": of_document.VIEWS,
        "layers": [] if answers is None else of_document.layers_of(answers, kept),
        "facts": of_document.facts_of(explored, row, number),
        "metadata": of_document.metadata_of(row),
        "copies": int(copies_of(explored.store, number).sum()),
        "answers": answers,
        "moves": None
        if answers is None
        else Slice(of_document.moves_of(answers, some.items, top), some.number, some.total),
        "focus": None if mine is None or answers is None else of_document.moves_of(answers, [mine], top)[0],
        "values": values,
        "end": values.get("end", "raises"),
    }
