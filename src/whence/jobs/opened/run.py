"""A run as an object: paths, and what is read of them when asked."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from whence.curvature.damping import Damping
from whence.data.queries import Query, QueryBatch, encode_queries
from whence.data.store import TokenStore
from whence.errors import ArtifactError, InvalidSetting
from whence.influence.topk import TopK
from whence.jobs.documents import read_self_influence, self_folder
from whence.jobs.log import Log
from whence.jobs.opened.answers import NAME as ANSWERS
from whence.jobs.opened.answers import Answers, answers_of
from whence.jobs.opened.document import Document
from whence.jobs.opened.groups import group_view, layer_view
from whence.jobs.opened.tail import TailView, tail_view
from whence.jobs.settings import RunSettings
from whence.jobs.summary import beyond, place, short, summary
from whence.jobs.views import View
from whence.report.notebook import Column, facts
from whence.world import World

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from whence.jobs.session import Session

Stage = Literal["prepare", "fit", "query", "score", "self", "report"]

OPENING_TOKENS, OPENING = 80, 240
"""Tokens read of a document, and characters shown, to say what it is about."""


@dataclass(frozen=True)
class Run:
    """A run in its folder. Printing it computes nothing and reads nothing; tables come as pandas, Arrow or NumPy.

    Scores are read from disk when asked for, a question at a time. The model is loaded only for what needs it: tokens
    and layers of a document that the report does not show, and self-influence that was never computed.
    """

    folder: Path
    settings: RunSettings = field(repr=False)
    stage: Stage = "report"
    """The last stage asked for."""
    waiting: str | None = None
    """The stage that waits for units computed elsewhere, if any."""
    found: Answers | None = field(default=None, repr=False)
    """The newest set of questions answered in this folder, or the one that this call asked."""
    started: Session | None = field(default=None, repr=False, compare=False)
    """The session that made it, in the process that did."""

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """A run made earlier, with its newest questions. Neither the model nor the training text need be there.

        Args:
            folder: Of the run, or one of those below its ``answers/``: then with the questions answered there.

        Raises:
            ArtifactError: If the folder is not a run, or nothing was asked of it yet.
        """
        folder = Path(folder)
        if (folder / ANSWERS).is_file():
            run = folder.parent.parent
            return cls(run, RunSettings.from_toml(run / "settings.toml"), found=Answers.read(folder / ANSWERS, run))
        file = folder / "settings.toml"
        if not file.exists():
            raise ArtifactError(f"{folder} is not a run: it has no settings.toml", hint="`whence run` makes one")
        answers = answers_of(folder)
        if not answers:
            raise ArtifactError(
                f"{folder} has no scores yet", hint=f'ask it something: `whence run {folder} --ask "…" --answer "…"`'
            )
        return cls(folder, RunSettings.from_toml(file), found=answers[0])

    @property
    def answers(self) -> Answers:
        """Where the scores lie.

        Raises:
            ArtifactError: If the run got no further than an earlier stage.
        """
        if self.found is None:
            raise ArtifactError(f"{self.folder} was run to `{self.stage}`, and has no scores", hint="`whence score`")
        return self.found

    @property
    def questions(self) -> list[Query]:
        """What was asked, whether or not it is answered yet."""
        return self.started.questions if self.started is not None else list(self.answers.questions)

    @property
    def train_size(self) -> int:
        """N: the sequences the model was trained on."""
        return self.started.train_size if self.started is not None else self.answers.train_size

    @cached_property
    def store(self) -> TokenStore:
        """The prepared data, mapped."""
        return TokenStore.open(self.folder / "data")

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer that the data were prepared with, kept in the run."""
        from whence.models.hf import load_tokenizer

        return self.started.tokenizer if self.started is not None else load_tokenizer(self.folder / "tokenizer")

    @cached_property
    def session(self) -> Session:
        """The model, loaded when something needs it, and the run's data.

        Raises:
            ModelError: If the model is no longer where the settings say.
            ArtifactMismatch: If it is another one now.
        """
        if self.started is not None:
            return self.started
        from whence.jobs.session import Session

        session = Session(self.folder, self.settings, Log.stderr(), World())
        session.store = self.store  # as it was prepared: the text it was made from may be gone
        session.open()
        return session

    def row(self, document: int) -> dict[str, Any]:
        """Source, row, counts and ``metadata`` of a document."""
        if not 0 <= document < self.store.documents:
            raise InvalidSetting(
                f"there is no document {document}: {self.folder} has {self.store.documents:,}",
                hint="documents are numbered from 0, in the order of the data",
            )
        return self.store.row(document)

    def document(self, number: int) -> Document:
        """One training document: its text, its score, its tokens and layers."""
        return Document(self, number)

    def raw(self, question: int = 0) -> NDArray[np.float64]:
        """Raw influence of every document on one question, ``[documents]``; NaN of those that were not scored."""
        return self.answers.raw(question, self.store)

    @cached_property
    def documents(self) -> NDArray[np.float64]:
        """Raw influence of every document on every question, ``[q documents]``: its sequences' scores, added.

        Every view of the run reads these. NaN is a document that a filter left out of a question's ranking. Where the
        pass ran at a low rank or in half precision, both ends of each ranking are at full rank (`rescored` says which
        documents).
        """
        return self.answers.rows(range(len(self.questions)), self.store).raw

    @property
    def rescored(self) -> NDArray[np.bool_]:
        """Which documents were scored again at full rank, ``[q documents]``; none where the pass itself was."""
        return self.answers.rows(range(len(self.questions)), self.store).again

    def numpy(self) -> NDArray[np.float64]:
        """`documents`: raw influence, ``[q documents]``."""
        return self.documents

    def top(self, n: int = 10, question: int = 0) -> View:
        """The ``n`` documents that raise a question's answer most, highest first."""
        raw = self.raw(question)
        return self._ranking(f"What raises {self.said(question)}", raw, TopK.of(raw, n).highest)

    def bottom(self, n: int = 10, question: int = 0) -> View:
        """The ``n`` documents that lower a question's answer most, lowest first."""
        raw = self.raw(question)
        return self._ranking(f"What lowers {self.said(question)}", raw, TopK.of(raw, n).lowest)

    def groups(self, column: str, question: int = 0) -> View:
        """Influence added up by a column of the data: a metadata field, ``source`` or ``hash`` (exact copies).

        Raises:
            InvalidSetting: If there is no such column.
        """
        return group_view(self, column, question)

    def layers(self, question: int = 0) -> View:
        """Through which layers documents raise and lower an answer.

        All of them where the scores were kept by layer (``by="layer"``), else those that the report shows.

        Raises:
            ArtifactError: If neither is there, with how to keep them.
        """
        return layer_view(self, question)

    def tail(self, question: int = 0) -> TailView:
        """How unevenly influence is spread, with the power law of the largest and its interval."""
        return tail_view(self, question)

    @cached_property
    def self_influence(self) -> NDArray[np.float64]:
        """Influence of every document on itself, ``[documents]``, never negative; computed where it never was."""
        damping = None if self.settings.curvature == "identity" else Damping.parse(self.settings.damping)
        known = read_self_influence(self_folder(self.folder, damping), self.store.documents)
        return (self.session.self_influence if known is None else known).numpy()

    def suspects(self, n: int = 10) -> View:
        """The documents with the highest self-influence, highest first; computed where it never was."""
        own = self.self_influence
        rows = [self.found_row(int(d), self_influence=float(own[d])) for d in TopK.of(own, n).highest]
        columns = [Column("self_influence", "self-influence", "number"), *_DOCUMENT]
        return View("Highest self-influence", columns, rows, value="self_influence")

    def show(self) -> None:
        """Each question with the documents at both ends, as a command prints it: or as tables, in a notebook."""
        display = _notebook_display()
        if display is None:
            sys.stdout.write(self.text() + "\n")
            return
        for question in range(len(self.questions)):
            top, bottom = self.top(self.settings.top, question), self.bottom(self.settings.top, question)
            display(top[: sum(row["raw"] > 0 for row in top)])
            display(bottom[: sum(row["raw"] < 0 for row in bottom)])

    def to_arrow(self) -> pa.Table:
        """All questions and documents as an Arrow table: question, document, raw, per_copy, rescored, source, row."""
        import pyarrow as pa
        import pyarrow.compute as pc

        known = self.answers.rows(range(len(self.questions)), self.store)
        q, n = known.raw.shape
        where = self.store.to_arrow()
        raw = pa.array(known.raw.ravel(), from_pandas=True)  # null where a filter left a document out
        return pa.table(
            {
                "question": np.repeat(np.arange(q), n),
                "document": np.tile(np.arange(n), q),
                "raw": raw,
                "per_copy": pc.divide(raw, float(self.train_size)),
                "rescored": known.again.ravel(),
                "source": pa.concat_arrays(where["source"].chunks * q),
                "row": pa.concat_arrays(where["row"].chunks * q),
            }
        )

    def to_pandas(self) -> pd.DataFrame:
        """`to_arrow`, as a DataFrame."""
        return self.to_arrow().to_pandas()

    @property
    def report(self) -> Path:
        """Where the report is, or will be."""
        return self.folder / "report.html"

    def said(self, question: int) -> str:
        """A question in a line: ``“ Ada did.” after “Who wrote it?”``."""
        asked = self.answers.question(question)
        than = "" if asked.rather_than is None else f" rather than “{short(asked.rather_than)}”"
        return f"“{short(asked.completion)}”{than} after “{short(asked.prompt)}”"

    def encoded(self, question: int) -> list[QueryBatch]:
        """The batches of one question alone."""
        return encode_queries([self.answers.question(question)], self.tokenizer, self.session.context)

    def found_row(self, document: int, **numbers: float) -> dict[str, Any]:
        """A line of a ranking: number, score, where it lies, how it begins, and its metadata."""
        row = self.row(document)
        return {"document": document, **numbers, **row, "where": place(row), "text": self._opening(document)}

    def _ranking(self, title: str, raw: NDArray[np.float64], documents: NDArray[np.int64]) -> View:
        rows = [self.found_row(int(d), raw=float(raw[d]), per_copy=float(raw[d]) / self.train_size) for d in documents]
        columns = [Column("per_copy", "nats per copy", "influence"), *_DOCUMENT]
        return View(title, columns, rows, value="per_copy")

    def _opening(self, document: int) -> str:
        sequences = self.store.sequences_of(document)
        tokens = self.store.tokens(sequences[0])[:OPENING_TOKENS] if sequences else np.empty(0, np.int32)
        text = str(self.tokenizer.decode(tokens.tolist(), skip_special_tokens=True))
        whole = len(text) <= OPENING and len(tokens) == self.store.row(document)["tokens"]
        if whole:
            return text
        cut = text[:OPENING] if len(text) > OPENING else text.rstrip("\ufffd")  # the last character may lack bytes
        return cut.rstrip() + " …"

    def text(self) -> str:
        """What a command prints: the end of the stage that was asked for, plain."""
        return summary(self)

    def to_dict(self) -> dict[str, Any]:
        """The same for a machine."""
        out: dict[str, Any] = {"run": str(self.folder), "stage": self.stage, "waiting": self.waiting}
        if self.waiting is not None:
            return out
        out |= {"documents": self.store.documents, "sequences": self.store.sequences}
        if self.stage == "fit":
            curvature = self.session.curvature
            out |= {"curvature": curvature.name, "notes": list(curvature.notes)}
        top = self.settings.top
        if self.stage in ("score", "report"):
            out["questions"] = [
                {
                    "id": query.id,
                    "out_of_range": beyond(self.answers, row, self.raw(row) / self.train_size),
                    "top": list(self.top(top, row)),
                    "lowest": list(self.bottom(top, row)),
                }
                for row, query in enumerate(self.questions)
            ]
            for question, recall in zip(out["questions"], self.answers.recall, strict=False):
                question["filter"] = {"filter": self.answers.filter, **asdict(recall)}
            if solved := self.answers.solved:
                out["solved"] = [one.to_dict() for one in solved]
        if self.stage == "self":
            out["top"] = list(self.suspects(top))
        if self.stage == "report":
            out["report"] = str(self.report)
        return out

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        pairs: list[tuple[str, Any]] = [("model", self.settings.model), ("training data", self.settings.train)]
        if self.found is not None:
            pairs += [("question", self.said(number)) for number in range(min(3, len(self.found.questions)))]
            left = len(self.found.questions) - 3
            pairs += [("", f"and {left} more questions")] if left > 0 else []
            pairs += [("method", self.found.method), ("sequences trained on", self.found.train_size)]
        return facts(f"Run {self.folder}", pairs, link=(self.report.as_posix(), "report"))


_DOCUMENT = [Column("document", "document", "count"), Column("where", "where", "word"), Column("text", "text", "text")]


def _notebook_display() -> Any:
    """IPython's ``display``, where this runs in a notebook's kernel."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    return sys.modules["IPython.display"].display if "IPython.display" in sys.modules else None
