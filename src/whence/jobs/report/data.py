"""Everything that a report says, from a finished run."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from whence.counted import counted
from whence.jobs.check.findings import read_checks
from whence.jobs.explain import in_float32
from whence.jobs.filter_setting import BIAS
from whence.jobs.log import Log
from whence.jobs.opened.answers import SETTINGS
from whence.jobs.report.corpus import Corpus
from whence.jobs.report.planted import Planted
from whence.jobs.report.provenance import (
    coverage_rows,
    damping_in_words,
    model_name,
    portable,
    sentence,
    solves_in_words,
    versions,
)
from whence.jobs.report.question import told
from whence.jobs.report.shapes import matrices_of
from whence.jobs.solved import METHODS
from whence.jobs.stream import device_of
from whence.jobs.validation.told import validated
from whence.layers.select import named
from whence.report.model import ReportData
from whence.report.trust import CheckRow, Trust

if TYPE_CHECKING:
    from whence.jobs.opened import Run


def report_data(run: Run) -> ReportData:
    """Everything that the report says."""
    session = run.session
    settings, store, curvature = session.settings, session.store, session.curvature
    coverage = named(session.model, list(curvature.blocks)).coverage
    asked = {"questions": session.questions_digest, "damping": str(curvature.damping)}
    planted, corpus = Planted.read(run.folder, **asked), Corpus(session)
    documents = 2 * min(settings.top, store.documents)
    questions = []
    with in_float32(session.model):
        for row in range(len(run.questions)):
            progress = _progress(session.log, row, len(run.questions), documents)
            progress(0.0)
            questions.append(told(run, row, corpus, planted.documents.get(row) if planted else None, progress))
            progress(1.0)
    noise = [note for note in curvature.notes if note.startswith(_NOISE)]
    scored = "" if session.filter is None else f"{session.filter.called}, for each question, of "
    name = planted.model if planted else model_name(settings.model)
    name += f" + {model_name(settings.adapter)}" if settings.adapter else ""
    return ReportData(
        title=f"Influence on {name}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        questions=questions,
        matrices=matrices_of(run.documents / run.train_size, run.questions, corpus.groupings),
        sentence=(
            f"{METHODS[session.method]} influence of {scored}{counted(store.documents, 'training document')} "
            f"({counted(store.sequences, 'sequence')}) on the answers of {name}, over {coverage.tracked} of "
            "its parameters."
        ),
        method={
            **{key: value for key, value in asdict(settings).items() if value is not None},
            **{key: portable(value, run.folder) for key in _PATHS if (value := getattr(settings, key)) is not None},
            "train size N": run.train_size,
        },
        provenance={
            "weights": session.digests["model"],
            **({"adapter": session.digests["adapter"]} if "adapter" in session.digests else {}),
            "tokenizer": session.digests["tokenizer"],
            "data": store.fingerprint,
            "curvature": curvature.fingerprint,
            "questions": session.questions_digest,
            **versions(device_of(session.model)),
        },
        command=_again(run),
        coverage=coverage_rows(coverage),
        trust=_trust(run, corpus, noise),
        notes=[
            *solves_in_words(run.answers.solved, session.curvature),
            *(note for note in curvature.notes if note not in noise),
        ],
        recall=planted.recall if planted else None,
    )


def _trust(run: Run, corpus: Corpus, noise: list[str]) -> Trust:
    session = run.session
    settings, store, curvature = session.settings, session.store, session.curvature
    checks = read_checks(run.folder)
    return Trust(
        dtype=settings.dtype,
        damping=damping_in_words(curvature),
        noise=sentence(noise[0].removeprefix(_NOISE)) if noise else "",
        validations=validated(
            run.folder,
            method=session.settings.method,
            damping=str(curvature.damping),
            questions=session.questions_digest,
        ),
        checks=[
            CheckRow(name=row.name, verdict=row.verdict, text=row.text, advice=row.advice or "")
            for row in (() if checks is None else checks.rows)
        ],
        documents=store.documents,
        sequences=store.sequences,
        tokens=sum(unit.tokens for unit in store.units),
        windowed=int(store.facts.get("windowed", 0)),
        unscored=int(store.facts.get("unscored", 0)),
        filter="" if session.filter is None else session.filter.title,
        filter_kept=0 if session.filter is None else session.filter.count,
        filter_bias=BIAS,
        firsts=corpus.firsts,
        limit=settings.limit,
    )


def _again(run: Run) -> str:
    """The command that makes this report again, from the folder in which the run was made."""
    folder, here = run.folder, Path.cwd()
    if folder.is_absolute():  # a report that is passed on does not say where a machine has its runs
        below = folder.is_relative_to(here) and here != Path(here.anchor)
        folder = folder.relative_to(here) if below else Path(folder.name)
    settings = folder / run.answers.folder.relative_to(run.folder) / SETTINGS
    return f"whence run {shlex.quote(folder.as_posix())} --settings {shlex.quote(settings.as_posix())}"


_NOISE = "sampling noise:"
_PATHS = ("model", "adapter", "train", "tokenizer", "query")


def _progress(log: Log, row: int, questions: int, documents: int) -> Callable[[float], None]:
    """Told the share of one question that is done; counts the documents to be explained over all questions."""
    return lambda share: log.step("report", row * documents + int(share * documents), questions * documents)
