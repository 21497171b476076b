"""The whole job: text in, an explained ranking and a report out. Every step continues where it was interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from whence.data.queries import Query
from whence.data.store import TokenStore
from whence.influence.topk import TopK
from whence.jobs.log import Log
from whence.jobs.progress import Unfinished
from whence.jobs.rescored import Rescored, rescored
from whence.jobs.session import Session
from whence.jobs.settings import RunSettings
from whence.jobs.summary import summary
from whence.world import World

Stage = Literal["prepare", "fit", "query", "score", "self", "report"]


@dataclass(frozen=True)
class Run:
    """A finished run. Printing it computes nothing; tables come as pandas or Arrow."""

    folder: Path
    session: Session
    stage: Stage = "report"
    """The last stage asked for."""
    waiting: str | None = None
    """The stage that waits for units computed elsewhere, if any."""

    @property
    def questions(self) -> list[Query]:
        return self.session.questions

    @property
    def train_size(self) -> int:
        """N: the sequences the model was trained on."""
        return self.session.train_size

    @cached_property
    def documents(self) -> NDArray[np.float64]:
        """Raw influence of every document on every question, ``[q documents]``: its sequences' scores, added.

        Every view of the run reads these. Where the pass ran at a low rank or in half precision, both ends of each
        ranking are at full rank (`rescored` says which documents).
        """
        return self._numbers.raw

    @property
    def rescored(self) -> NDArray[np.bool_]:
        """Which documents were scored again at full rank, ``[q documents]``; none where the pass itself was."""
        return self._numbers.again

    @cached_property
    def _numbers(self) -> Rescored:
        return rescored(self.session, by_document(self.session.scores.total, self.session.store))

    def top(self, n: int = 10, question: int = 0) -> list[dict[str, Any]]:
        """The ``n`` documents that raise a question's answer most, highest first."""
        best = TopK.of(self.documents[question], n)
        return [self._row(question, int(document)) for document in best.highest]

    def bottom(self, n: int = 10, question: int = 0) -> list[dict[str, Any]]:
        """The ``n`` documents that lower a question's answer most, lowest first."""
        best = TopK.of(self.documents[question], n)
        return [self._row(question, int(document)) for document in best.lowest]

    def to_arrow(self) -> Any:
        """All questions and documents as an Arrow table: question, document, raw, per_copy, rescored, source, row."""
        import pyarrow as pa

        q, n = self.documents.shape
        store = self.session.store
        rows = [store.row(document) for document in range(n)]
        raw = self.documents.ravel()
        return pa.table(
            {
                "question": np.repeat(np.arange(q), n),
                "document": np.tile(np.arange(n), q),
                "raw": raw,
                "per_copy": raw / self.train_size,
                "rescored": self.rescored.ravel(),
                "source": [str(row["source"]) for row in rows] * q,
                "row": [int(row["row"]) for row in rows] * q,
            }
        )

    def to_pandas(self) -> Any:
        """`to_arrow`, as a DataFrame."""
        return self.to_arrow().to_pandas()

    @property
    def report(self) -> Path:
        """Where the report is, or will be."""
        return self.folder / "report.html"

    def _row(self, question: int, document: int) -> dict[str, Any]:
        raw = float(self.documents[question, document])
        row = self.session.store.row(document)
        return {"document": document, "raw": raw, "per_copy": raw / self.train_size, **row}

    def suspects(self, n: int = 10) -> list[dict[str, Any]]:
        """The documents with the highest self-influence, highest first."""
        own = self.session.self_influence.numpy()
        best = TopK.of(own, n)
        return [
            {"document": int(d), "self_influence": float(own[d]), **self.session.store.row(int(d))}
            for d in best.highest
        ]

    def text(self) -> str:
        """What a command prints: the end of the stage that was asked for, plain."""
        return summary(self)

    def to_dict(self) -> dict[str, Any]:
        """The same for a machine."""
        session = self.session
        out: dict[str, Any] = {"run": str(self.folder), "stage": self.stage, "waiting": self.waiting}
        if self.waiting is not None:
            return out
        out |= {"documents": session.store.documents, "sequences": session.store.sequences}
        if self.stage == "fit":
            out |= {"curvature": session.curvature.name, "notes": list(session.curvature.notes)}
        if self.stage in ("score", "report"):
            top = session.settings.top
            out["questions"] = [
                {"id": query.id, "top": self.top(top, row), "lowest": self.bottom(top, row)}
                for row, query in enumerate(self.questions)
            ]
        if self.stage == "self":
            out["top"] = self.suspects(session.settings.top)
        if self.stage == "report":
            out["report"] = str(self.report)
        return out

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"


def by_document(total: torch.Tensor, store: TokenStore) -> NDArray[np.float64]:
    """Sequence scores ``[q n]`` → document scores ``[q documents]``."""
    sums = np.zeros((len(total), store.documents))
    for row, scores in enumerate(total.double().numpy()):
        np.add.at(sums[row], store.document_of, scores)
    return sums


_PROPERTY: dict[Stage, str] = {
    "prepare": "store",
    "fit": "curvature",
    "query": "queries",
    "score": "scores",
    "self": "self_influence",
}
"""What each stage leaves behind in a session."""


def run(
    folder: Path | str,
    settings: RunSettings,
    *,
    log: Log | None = None,
    world: World | None = None,
    stop_after: Stage = "report",
    units: range | None = None,
    questions: Sequence[Query] | None = None,
) -> Run:
    """Prepare, fit, query, score and report; what is finished already is not done again.

    Args:
        folder: Where everything is kept; the same folder continues an interrupted run.
        stop_after: The last stage wanted. ``self`` takes the place of queries and scores.
        units: Only these work units of the last stage; others may be computed elsewhere, in the same folder.
        questions: Questions already made, in place of those that the settings name.

    Raises:
        WhenceError: Of whatever kind, before the first long pass where it can be known by then.
    """
    log, world = log or Log.silent(), world or World.current()
    session = Session(Path(folder), settings, log, world, units)
    if questions is not None:
        session.ask(questions)
    if stop_after in ("query", "score", "report"):
        _ = session.parts, session.answer  # a question that cannot be used is refused before anything long begins
    if stop_after != "prepare":
        session.check_layers()
    session.open()
    result = Run(session.folder, session, stop_after)
    stages: list[Stage] = ["prepare", "fit", "self"] if stop_after == "self" else ["prepare", "fit", "query", "score"]
    try:
        for stage in stages:
            getattr(session, _PROPERTY[stage])
            if stage == "score":
                _ = result.documents  # the ends are scored again here, and not when somebody looks
            if stage != "self":
                session.keep_settings()
            if stage == stop_after:
                return result
    except Unfinished as unfinished:
        log.note(f"{unfinished}: these units are done; the result is put together when all are")
        return replace(result, waiting=str(unfinished))
    if world.main:
        from whence.jobs.report import write_report

        log.note(f"report: {write_report(result)}")
    world.barrier()
    return result
